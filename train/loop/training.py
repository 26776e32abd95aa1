"""Trains a run from its start or from where it stopped: combines run folder, stages and the epochs' loop."""

import logging
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import msdn
from msdn.cache import FeatureCache
from msdn.machine import choose_device
from msdn.train.errors import RunError, TrainError
from msdn.train.groups.choose import choose_groups
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.divisions import Stage, test_stage, validation_stage
from msdn.train.loop.epochs import EpochLoop, Record
from msdn.train.loop.features import FeatureSource
from msdn.train.loop.settings import RunSettings
from msdn.train.loop.trainer import Trainer
from msdn.train.measure.evaluate import check_cache
from msdn.train.measure.scoring import Scorer
from msdn.train.measure.selection import VALIDATION, choose_on_validation, kept_tasks
from msdn.train.models.parts.base import build_model, check_buildable
from msdn.train.models.registry import find_model
from msdn.train.runs.run import VALIDATED, Run, create_run

log = logging.getLogger(__name__)
_MOST_THREADS = 1024


def train_model(
    cache: FeatureCache,
    settings: RunSettings,
    runs: Path,
    *,
    groups: AttributeGroups | None = None,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    device: str = "auto",
    features: str = "auto",
    watch_test: bool = False,
    validate_only: bool = False,
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> Run:
    """Train in a new folder below `runs`; return the finished run.

    Args:
        cache: the features.
        settings: what to train, and how.
        runs: the folder of all runs.
        groups: the attributes in groups, for a model that takes them; None means as `choose_groups` finds them.
        preset: the preset's name and `overrides` what was changed of it, for the manifest.
        overrides: see `preset`.
        device: "auto", "cpu", "cuda", …
        features: "auto", "memory" or "map".
        watch_test: also measure test figures after every epoch; nothing is chosen by them.
        validate_only: with `select="val"`, stop when the choice is made; `continue_run` trains the rest.
        on_start: called with the run before the first epoch.
        on_epoch: called with each epoch's record.
    """
    check_buildable(cache, settings)
    test_stage(cache)  # raises what would stop the training later
    if settings.select == "val":
        validation_stage(cache)
    elif settings.select == "test":
        _check_test_images(cache, settings)
    facts = {
        "preset": preset,
        "overrides": overrides or {},
        "groups": groups_as_json(cache, settings, groups),
        "cache": {"path": str(cache.path.resolve()), "fingerprint": cache.fingerprint},
        "weights": cache.provenance["weights"]["kind"],
        "image_size": cache.provenance.get("image_size"),
        "masked_images": len(cache.masked_rows),
        "counts_differ": "counts" in cache.provenance,
        "reconstruction": find_model(settings.model).reconstruction or None,
        "device": str(choose_device(device)),
        "features": features,
        "watch_test": watch_test,
        "chosen": None,
        "environment": _environment(),
    }
    run = create_run(runs, cache.annotations.dataset, settings, facts)
    if on_start:
        on_start(run)
    return continue_run(run, cache, validate_only=validate_only, on_epoch=on_epoch)


def continue_run(
    run: Run,
    cache: FeatureCache,
    *,
    device: str | None = None,
    features: str | None = None,
    validate_only: bool = False,
    on_epoch: Callable[[Record], None] | None = None,
) -> Run:
    """Train a run's missing epochs, exactly as if it had never stopped.

    Args:
        run: the run.
        cache: the features it was started on; others are refused.
        device: where to compute; another device than the run's own gives slightly different weights.
        features: "auto", "memory" or "map"; None means as before. The weights do not depend on it.
        validate_only: see `train_model`.
        on_epoch: called with each epoch's record.
    """
    with run.lock():
        run = Run(run.path)  # what another process may have written before we had the lock
        if run.finished:
            raise RunError(f"{run.path}: finished already; see it with 'msdn evaluate --run {run.path}'")
        check_cache(run, cache)
        target = choose_device(device or run.manifest["device"])
        with _same_threads(run), _own_generators(target), _status_kept(run):
            _warn_of_changes(run)
            work = _Training(run, cache, target, features or run.manifest["features"], on_epoch)
            work.train(validate_only)
    return run


class _Training:
    """The stages of one run, on one device."""

    def __init__(
        self,
        run: Run,
        cache: FeatureCache,
        device: torch.device,
        features: str,
        on_epoch: Callable[[Record], None] | None,
    ) -> None:
        self._run, self._cache, self._device, self._features = run, cache, device, features
        self._groups = run.groups(cache)
        self._loop = EpochLoop(run, on_epoch)
        run.update(status="running", reason=None, finished=None)

    def train(self, validate_only: bool) -> None:
        """All stages; with `validate_only` the first of two."""
        run, settings = self._run, self._run.settings
        epochs = settings.passes
        if settings.select == "val":
            if self._loop.missing(VALIDATION, epochs):
                stage = validation_stage(self._cache, self._groups)
                self._loop.train(VALIDATION, epochs, self._trainer(stage), self._scorer(stage))
            chosen = choose_on_validation(self._loop.records, settings.task)
            run.update(chosen=chosen)
            epochs = chosen["epochs"]
            if validate_only:
                run.update(status=VALIDATED, finished=_now())
                return
        stage = test_stage(self._cache, self._groups)
        watch = settings.select == "test" or run.manifest.get("watch_test")
        self._loop.train(None, epochs, self._trainer(stage), self._scorer(stage) if watch else None)
        if self._loop.kept:
            run.update(chosen=self._loop.chosen())
        run.update(status="finished", finished=_now())

    def _trainer(self, stage: Stage) -> Trainer:
        settings = self._run.settings
        torch.manual_seed(settings.seed)
        return Trainer(
            build_model(stage.problem, settings),
            settings,
            FeatureSource(self._cache, stage.rows, self._device, self._features),
            stage.rows,
            stage.labels,
            self._device,
        )

    def _scorer(self, stage: Stage) -> Scorer:
        return Scorer(self._cache, stage, self._device, self._features)


def _check_test_images(cache: FeatureCache, settings: RunSettings) -> None:
    """Refuse to choose an epoch by a figure that no test image tells."""
    by_h = "gzsl" in kept_tasks(settings)
    for split in ("test_unseen", "test_seen") if by_h else ("test_unseen",):
        if not len(cache.rows(split)):
            raise TrainError(
                f"{cache.path}: no image in '{split}', so no epoch can be chosen by it; use --select last"
            )


def groups_as_json(
    cache: FeatureCache, settings: RunSettings, groups: AttributeGroups | None
) -> dict[str, Any] | None:
    """The groups that a model is to have, as a manifest stores them; None where it takes none."""
    if not find_model(settings.model).takes_groups:
        return None
    return (groups or choose_groups(cache.annotations)).as_json()


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
def _same_threads(run: Run) -> Iterator[None]:
    """Compute with as many threads as the run began with: their number changes the last digits of sums."""
    before = torch.get_num_threads()
    began_with = run.manifest["environment"].get("threads")
    if isinstance(began_with, int) and 0 < began_with <= _MOST_THREADS:
        torch.set_num_threads(began_with)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    return datetime.now(UTC).astimezone().isoformat()
