"""Trains a run, from its start or from where it stopped: its phases, and their epochs."""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import msdn
from msdn.cache import FeatureCache, layout
from msdn.cache.errors import UnknownNameError
from msdn.cache.home import command_line
from msdn.machine import choose_device, fastest_precision, keep_freed_memory, keep_threads
from msdn.train.errors import RunError, TrainError
from msdn.train.groups.choose import choose_groups
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.batches import Division, FeatureSource, test_division, validation_division
from msdn.train.loop.checkpoints import load_checkpoint, save_checkpoint
from msdn.train.loop.ranks import Ranks, is_first_rank, joined_ranks, own_device
from msdn.train.loop.settings import PRECISIONS, RunSettings
from msdn.train.loop.trainer import Trainer
from msdn.train.measure.metrics import accuracies, validation_figures
from msdn.train.measure.scoring import Scorer
from msdn.train.measure.selection import (
    FINAL,
    KEPT,
    RATE,
    VALIDATION,
    Record,
    choose_on_validation,
    figure_of,
    kept_tasks,
)
from msdn.train.models.parts.base import build_model, check_buildable, preparation
from msdn.train.models.parts.problem import AttributeGroup
from msdn.train.models.registry import find_model, settings_from_json
from msdn.train.runs.basis import FILE as BASIS
from msdn.train.runs.basis import basis_of, pack_basis
from msdn.train.runs.run import VALIDATED, FollowedRun, Run, create_run, metrics_lines

log = logging.getLogger(__name__)
_OF_BEST = ("epoch", *KEPT)  # what is kept of the best epoch on the test classes, besides its weights
_MOST_THREADS = 1024
_SAVING_SHARE = 0.1  # at most this share of the time goes into checkpoints; a short run has one per epoch
_ALWAYS_SAVE_AFTER = 30.0  # seconds


def train_model(
    cache: FeatureCache,
    settings: RunSettings,
    runs: Path,
    *,
    groups: AttributeGroups | None = None,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    rule: dict[str, str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    features: str = "auto",
    watch_test: bool = False,
    validate_only: bool = False,
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Run:
    """Train in a new folder below `runs`; return the finished run.

    Args:
        cache: the features, open on the map to train on.
        settings: what to train, and how.
        runs: the folder of all runs.
        groups: the attributes in groups, for a model that takes them; None means as `choose_groups` finds them.
        preset: the preset's name, for the manifest.
        overrides: what was changed of the preset, for the manifest.
        rule: settings that were chosen for data without a preset, each with the reason, for the manifest.
        device: "auto", "cpu", "cuda", …
        precision: of the large products: "float32", "bfloat16", or "auto", which is bfloat16 where the device is fast
            at it. Weights, softmaxes and losses are in float32 either way.
        features: "auto", "memory" or "map": where they are kept. The weights do not depend on it.
        watch_test: also measure test figures after every epoch; nothing is chosen by them.
        validate_only: with `select="val"`, stop when the choice is made; `continue_run` trains the rest.
        on_start: called with the run before the first epoch.
        on_epoch: called with each epoch's record.
        on_note: called with a line on where the features of each phase are.
    """
    groups = groups_of(cache, settings, groups)
    target = own_device(choose_device(device))
    divisions = _divide(cache, settings, groups.groups if groups else ())
    basis = pack_basis(basis_of(cache, groups.groups if groups else ()))
    facts = {
        "preset": preset,
        "overrides": overrides or {},
        "rule": rule,
        "groups": groups.as_json() if groups else None,
        "cache": {"path": str(cache.path.resolve()), "fingerprint": cache.fingerprint, "map": cache.map.name},
        "weights": cache.provenance["weights"]["kind"],
        "image_size": cache.provenance.get("image_size"),
        "masked_images": len(cache.masked_rows),
        "counts_differ": layout.COUNTS in cache.provenance,
        "reconstruction": find_model(settings.model).reconstruction or None,
        "device": str(target),
        "precision": choose_precision(precision, settings.model, target),
        "features": features,
        "features_in": {},
        "watch_test": watch_test,
        "chosen": None,
        "environment": _environment(),
        "basis": sha256(basis).hexdigest(),
    }
    with joined_ranks(target) as ranks:
        if ranks.is_first:
            facts["processes"] = ranks.count
            run = create_run(runs, cache.annotations.dataset, settings, facts, {BASIS: basis})
        path = ranks.tell(run.path if ranks.is_first else None)
        if not ranks.is_first:
            run = FollowedRun(path)
        with run.lock(), _undisturbed(run, target, None):
            if on_start:
                on_start(run)
            training = _Training(run, cache, divisions, target, features, on_epoch, on_note, ranks)
            training.train(validate_only)
    return run


def continue_run(
    run: Run,
    cache: FeatureCache,
    *,
    device: str | None = None,
    features: str | None = None,
    threads: int | None = None,
    validate_only: bool = False,
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Run:
    """Train a run's missing epochs, exactly as if it had never stopped; what is not said here is as in `train_model`.

    Args:
        run: the run.
        cache: the features it was started on; others are refused.
        device: None means the run's own; another one gives slightly different weights.
        features: None means as before.
        threads: on a CPU; None means as many as it began with: their number changes the last digits of sums.
    """
    target = own_device(choose_device(device or run.manifest["device"]))
    run = run if is_first_rank() else FollowedRun(run.path)
    with run.lock(), joined_ranks(target) as ranks:
        run = type(run)(run.path)  # what another process may have written before we had the lock
        if run.finished:
            raise RunError(
                f"{run.path}: finished already; see it with: {command_line('evaluate', '--run', run.path)}"
            )
        run.check_features(cache)
        run.check_model()
        groups = run.groups(cache.annotations.attributes.shape[1])
        divisions = _divide(cache, run.settings, groups)
        with _undisturbed(run, target, threads):
            _warn_of_changes(run, target)
            if on_start:
                on_start(run)
            features = features or run.manifest["features"]
            training = _Training(run, cache, divisions, target, features, on_epoch, on_note, ranks)
            training.train(validate_only)
    return run


class _Training:
    """The phases of one run on one device, with records, checkpoint, best weights and manifest in step.

    Attributes:
        records: what every epoch so far gave, of all phases.
        kept: where the epoch is chosen on the test classes, the best epoch's weights of each task.
    """

    def __init__(
        self,
        run: Run,
        cache: FeatureCache,
        divisions: dict[str, Division],
        device: torch.device,
        features: str,
        on_epoch: Callable[[Record], None] | None,
        on_note: Callable[[str], None] | None,
        ranks: Ranks,
    ) -> None:
        """Read the run's checkpoint, if there is one, and drop the records of later epochs."""
        self._ranks = ranks
        self._run, self._cache, self._divisions, self._device = run, cache, divisions, device
        self._features, self._on_epoch, self._on_note = features, on_epoch, on_note
        self._saving = _SavingTimes()
        self._state: dict[str, Any] | None = None
        self._saved: str | None = None  # the digest of the last checkpoint
        self._told_place = ""
        self.records: list[Record] = []
        self.kept: dict[str, dict[str, Any]] = {}
        if run.checkpoint.exists():
            content = load_checkpoint(run.checkpoint)
            of = content["fingerprint"], settings_from_json(content["settings"])
            if of != (run.manifest["cache"]["fingerprint"], run.settings):
                raise RunError(f"{run.checkpoint}: belongs to another run; train the model again")
            self.records, self.kept, self._state = content["metrics"], content["kept"], content["trainer"]
            self._saved = content["digest"]
        run.write_metrics(self.records)  # epochs after the checkpoint are trained, and recorded, again
        run.update(status="running", reason=None, finished=None)

    def train(self, validate_only: bool) -> None:
        """All phases; with `validate_only` the first of two."""
        run, settings = self._run, self._run.settings
        epochs = settings.passes
        if settings.select == "val":
            self._validate(epochs)
            chosen = choose_on_validation(self.records, settings.task)
            run.update(chosen=chosen)
            epochs = chosen["epochs"]
            if validate_only:
                run.update(status=VALIDATED, finished=_now())
                return
        watches = settings.select == "test" or bool(run.manifest.get("watch_test"))
        self._train_phase(FINAL, epochs, measures=watches, rate=(run.chosen or {}).get(RATE))
        if self.kept:
            run.update(
                chosen={task: {name: best[name] for name in _OF_BEST} for task, best in self.kept.items()}
            )
        metrics = sha256(metrics_lines(self.records)).hexdigest()
        run.update(status="finished", finished=_now(), checkpoint=self._saved, metrics=metrics)

    def _validate(self, epochs: int) -> None:
        """The first phase, once for each learning rate that is searched; of these some may fail, but not all."""
        rates: tuple[float | None, ...] = self._run.settings.searched_rates or (None,)
        failed = 0
        for rate in rates:
            try:
                self._train_phase(VALIDATION, epochs, measures=True, rate=rate)
            except TrainError as error:
                failed += 1
                if failed == len(rates):
                    raise
                if self._on_note:
                    self._on_note(f"learning rate {rate:g}: {error}; the others go on")

    def _train_phase(self, phase: str, epochs: int, measures: bool, rate: float | None = None) -> None:
        """Train a phase from its last saved epoch to its end; measure each epoch where asked to.

        Args:
            phase: `VALIDATION` or `FINAL`.
            epochs: how many.
            measures: whether each epoch is measured.
            rate: the learning rate, where it is searched, instead of the run's.
        """
        own = [number for number, record in enumerate(self.records) if _is_of(record, phase, rate)]
        done = len(own)
        if done >= epochs or (
            done and own[-1] + 1 < len(self.records)
        ):  # finished, or failed and left behind
            return
        settings, division = self._run.settings, self._divisions[phase]
        if rate is not None:
            settings = replace(settings, learning_rate=rate)  # type: ignore[call-arg]
        torch.manual_seed(settings.seed)
        model = build_model(division.problem, settings)
        served = preparation(model, self._run.precision), self._device, self._features
        features = FeatureSource(self._cache, division.rows, *served)
        scorer = Scorer(self._cache, division, *served, ranks=self._ranks) if measures else None
        self._tell_places(phase, features, scorer)
        trainer = Trainer(
            model, settings, features, division.rows, division.labels, self._device, self._ranks
        )
        if done and self._state:
            trainer.restore(self._state)
        for epoch in range(done + 1, epochs + 1):
            started = time.perf_counter()
            record: Record = {"phase": phase} if phase == VALIDATION else {}
            record |= {RATE: rate} if rate is not None and phase == VALIDATION else {}
            try:
                record |= {"epoch": epoch, "epochs": epochs, **trainer.train_epoch(epoch)}
            except TrainError as error:
                raise TrainError(f"epoch {epoch}: {error}") from error
            if scorer:
                scored = scorer.score(trainer.model)
                to_choose = phase == VALIDATION
                record |= validation_figures(scored) if to_choose else accuracies(scored, settings.margin)
            record["seconds"] = round(time.perf_counter() - started, 3)
            self.records.append(record)
            self._run.append_metrics(record)
            if phase == FINAL:
                self._keep_best(record, trainer)
            if self._saving.due() or epoch == epochs:
                with self._saving.measured():
                    self._save(trainer)
            if self._on_epoch:
                self._on_epoch(record)

    def _tell_places(self, phase: str, features: FeatureSource, scorer: Scorer | None) -> None:
        """Where the features of a phase are kept, and what the products are computed in."""
        places = {"training": features.place} | ({"measuring": scorer.features.place} if scorer else {})
        self._run.update(features_in={**self._run.manifest.get("features_in", {}), phase: places})
        if self._on_note and features.place != self._told_place:
            where = ", ".join(f"{place} for {use}" for use, place in places.items())
            self._on_note(f"features: {where}; products in {self._run.precision}")
        self._told_place = features.place

    def _keep_best(self, record: Record, trainer: Trainer) -> None:
        for task in kept_tasks(self._run.settings):
            best = self.kept.get(task)
            if best is None or figure_of(task, record) > figure_of(task, best):
                weights = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
                self.kept[task] = {**{name: record[name] for name in _OF_BEST}, "weights": weights}

    def _save(self, trainer: Trainer) -> None:
        if not self._ranks.is_first:
            return
        content = {
            "epoch": len(self.records),
            "settings": self._run.settings.as_json(),
            "fingerprint": self._run.manifest["cache"]["fingerprint"],
            "metrics": self.records,
            "trainer": trainer.state(),
            "kept": self.kept,
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        }
        self._saved = save_checkpoint(self._run.checkpoint, content)


def choose_precision(asked: str, model: str, device: torch.device) -> str:
    """The precision of a model's products on a device, where `asked` may be "auto"."""
    if asked not in ("auto", *PRECISIONS):
        raise UnknownNameError("precision", asked, ("auto", *PRECISIONS))
    narrows = find_model(model).narrows
    if asked == "bfloat16" and not narrows:
        raise TrainError(f"--precision bfloat16: the model '{model}' computes in float32 only; leave it out")
    if asked == "auto":
        return fastest_precision(device) if narrows else "float32"
    return asked


def _is_of(record: Record, phase: str, rate: float | None) -> bool:
    """Whether a record is of a phase, and of its validation of one learning rate."""
    return record.get("phase", FINAL) == phase and (phase == FINAL or record.get(RATE) == rate)


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


def groups_of(
    cache: FeatureCache, settings: RunSettings, given: AttributeGroups | None
) -> AttributeGroups | None:
    """The groups that a model is to have: those given, else as `choose_groups` finds them; None where it takes none."""
    if not find_model(settings.model).takes_groups:
        return None
    return given or choose_groups(cache.annotations)


def _divide(
    cache: FeatureCache, settings: RunSettings, groups: tuple[AttributeGroup, ...]
) -> dict[str, Division]:
    """The division of each phase; raises what would stop the training later."""
    check_buildable(cache, settings)
    divisions = {FINAL: test_division(cache, groups)}
    if settings.select == "val":
        divisions[VALIDATION] = validation_division(cache, groups)
    elif settings.select == "test":
        for split in ("test_unseen", "test_seen") if "gzsl" in kept_tasks(settings) else ("test_unseen",):
            if not len(cache.rows(split)):
                raise TrainError(
                    f"{cache.path}: no image in '{split}', so no epoch can be chosen by it; use --select last"
                )
    return divisions


@contextmanager
def _undisturbed(run: Run, device: torch.device, threads: int | None) -> Iterator[None]:
    """Leave torch's generators and threads to the caller as they were, and in the manifest how a training ended."""
    began_with = run.manifest["environment"].get("threads")
    if threads is None and isinstance(began_with, int) and 0 < began_with <= _MOST_THREADS:
        threads = began_with
    gpus = []
    if device.type == "cuda":
        gpus = [torch.cuda.current_device() if device.index is None else device.index]
    keep_freed_memory()
    try:
        with keep_threads(threads), torch.random.fork_rng(gpus):
            yield
    except KeyboardInterrupt:
        run.leave(status="interrupted")
        raise
    except Exception as error:
        run.leave(status="failed", reason=str(error))
        raise


def _warn_of_changes(run: Run, device: torch.device) -> None:
    """Say what makes an exact continuation unlikely."""
    trained_on = run.manifest["device"]
    if trained_on.partition(":")[0] != device.type:
        log.warning(
            "%s: trained on %s so far: on %s the weights will differ slightly", run.path, trained_on, device
        )
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
