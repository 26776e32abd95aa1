"""Trains a run from its start or from where it stopped: combines run folder, checkpoint and trainer."""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import msdn
from msdn.cache import FeatureCache
from msdn.train.checkpoints import load_checkpoint, save_checkpoint
from msdn.train.device import choose_device
from msdn.train.errors import RunError, TrainError
from msdn.train.evaluate import Evaluator, check_cache
from msdn.train.features import FeatureSource
from msdn.train.models.base import build_model, check_buildable
from msdn.train.problem import problem_of
from msdn.train.runs import Run, create_run
from msdn.train.settings import TrainSettings
from msdn.train.trainer import Trainer

log = logging.getLogger(__name__)
Record = dict[str, Any]
_SAVING_SHARE = 0.1  # at most this share of the time goes into checkpoints; a short run has one per epoch
_ALWAYS_SAVE_AFTER = 30.0  # seconds


def train_model(
    cache: FeatureCache,
    settings: TrainSettings,
    runs: Path,
    *,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    device: str = "auto",
    features: str = "auto",
    watch_test: bool = False,
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> Run:
    """Train in a new folder below `runs`; return the finished run.

    Args:
        cache: the features.
        settings: what to train, and how.
        runs: the folder of all runs.
        preset: the preset's name and `overrides` what was changed of it, for the manifest.
        overrides: see `preset`.
        device: "auto", "cpu", "cuda", …
        features: "auto", "memory" or "map".
        watch_test: also measure test figures after every epoch; nothing is chosen by them.
        on_start: called with the run before the first epoch.
        on_epoch: called with each epoch's record.
    """
    check_buildable(cache, settings)
    if not len(cache.rows("trainval")):
        raise TrainError(f"{cache.path}: all training images are masked, there is nothing to train on")
    facts = {
        "preset": preset,
        "overrides": overrides or {},
        "cache": {"path": str(cache.path.resolve()), "fingerprint": cache.fingerprint},
        "weights": cache.provenance["weights"]["kind"],
        "image_size": cache.provenance.get("image_size"),
        "masked_images": len(cache.masked_rows),
        "device": str(choose_device(device)),
        "features": features,
        "watch_test": watch_test,
        "selection": "last epoch; nothing chosen on test images",
        "environment": _environment(),
    }
    run = create_run(runs, cache.annotations.dataset, settings, facts)
    if on_start:
        on_start(run)
    return continue_run(run, cache, on_epoch=on_epoch)


def continue_run(
    run: Run,
    cache: FeatureCache,
    *,
    device: str | None = None,
    features: str | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> Run:
    """Train a run's missing epochs, exactly as if it had never stopped.

    Args:
        run: the run.
        cache: the features it was started on; others are refused.
        device: where to compute; another device than the run's own gives slightly different weights.
        features: "auto", "memory" or "map"; None means as before. The weights do not depend on it.
        on_epoch: called with each epoch's record.
    """
    with run.lock():
        run = Run(run.path)  # what another process may have written before we had the lock
        if run.finished:
            raise RunError(f"{run.path}: finished already; see it with 'msdn evaluate --run {run.path}'")
        check_cache(run, cache)
        _warn_of_changes(run)
        target = choose_device(device or run.manifest["device"])
        with _own_generators(target), _status_kept(run):
            _train_epochs(run, cache, target, features or run.manifest["features"], on_epoch)
    return run


def _train_epochs(
    run: Run,
    cache: FeatureCache,
    device: torch.device,
    features: str,
    on_epoch: Callable[[Record], None] | None,
) -> None:
    settings = run.settings
    torch.manual_seed(settings.seed)
    rows = cache.rows("trainval")
    trainer = Trainer(
        build_model(problem_of(cache), settings),
        settings,
        FeatureSource(cache, rows, device, features),
        rows,
        cache.annotations.labels,
        device,
    )
    evaluator = Evaluator(cache, device, features) if run.manifest.get("watch_test") else None
    records = _restore(run, trainer)
    saving = _SavingTimes()
    for epoch in range(len(records) + 1, settings.epochs + 1):
        started = time.perf_counter()
        try:
            record: Record = {"epoch": epoch, **trainer.train_epoch()}
        except TrainError as error:
            raise TrainError(f"epoch {epoch}: {error}") from error
        if evaluator:
            record |= evaluator.measure(trainer.model, settings.margin, gzsl=True, czsl=True)
        record["seconds"] = round(time.perf_counter() - started, 3)
        records.append(record)
        run.append_metrics(record)
        if saving.due() or epoch == settings.epochs:
            with saving.measured():
                _save(run, trainer, records)
        if on_epoch:
            on_epoch(record)
    run.update(status="finished", finished=_now())


def _restore(run: Run, trainer: Trainer) -> list[Record]:
    """Bring the trainer to the last checkpoint, if any; return the records of the epochs it covers."""
    records: list[Record] = []
    if run.checkpoint.exists():
        content = load_checkpoint(run.checkpoint)
        if content["fingerprint"] != run.manifest["cache"]["fingerprint"]:
            raise RunError(f"{run.checkpoint}: belongs to another run; train the model again")
        trainer.restore(content["trainer"])
        records = content["metrics"]
    run.write_metrics(records)  # epochs after the checkpoint are trained, and recorded, again
    run.update(status="running")
    return records


def _save(run: Run, trainer: Trainer, records: list[Record]) -> None:
    content = {
        "epoch": len(records),
        "settings": run.settings.as_json(),
        "fingerprint": run.manifest["cache"]["fingerprint"],
        "metrics": records,
        "trainer": trainer.state(),
    }
    save_checkpoint(run.checkpoint, content)


class _SavingTimes:
    """Says when the next checkpoint is due: after every epoch, unless saving would take too much of the time."""

    def __init__(self) -> None:
        self._last = -float("inf")
        self._took = 0.0

    def due(self) -> bool:
        waited = time.perf_counter() - self._last
        return waited >= min(self._took / _SAVING_SHARE, _ALWAYS_SAVE_AFTER)

    @contextmanager
    def measured(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._took = self._last - started


@contextmanager
def _status_kept(run: Run) -> Iterator[None]:
    """Write into the manifest how a training that did not finish ended."""
    try:
        yield
    except KeyboardInterrupt:
        run.update(status="interrupted")
        raise
    except Exception as error:
        run.update(status="failed", reason=str(error))
        raise


@contextmanager
def _own_generators(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators to the caller as they were."""
    gpus = []
    if device.type == "cuda":
        gpus = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(gpus):
        yield


def _warn_of_changes(run: Run) -> None:
    """Say what makes an exact continuation unlikely."""
    before = run.manifest.get("environment", {})
    for name, now in _environment().items():
        if before.get(name) != now:
            log.warning("%s was %s, is %s: the weights may differ slightly", name, before.get(name), now)


def _environment() -> dict[str, Any]:
    return {
        "msdn": msdn.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def _now() -> str:
    return datetime.now(timezone.utc).astimezone().isoformat()
