"""Several trainings that belong together: found where they are done already, continued where they stopped."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache
from msdn.machine import DeviceError, choose_device
from msdn.train.errors import RunError, TrainError
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.epochs import Record
from msdn.train.loop.settings import RunSettings, fields_of
from msdn.train.loop.training import continue_run, groups_as_json, train_model
from msdn.train.measure.evaluate import evaluate_run, keep_results
from msdn.train.runs.results import kept_result
from msdn.train.runs.run import VALIDATED, Run, find_runs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One training of a series.

    Attributes:
        settings: what to train, and how.
        groups: see `train_model`.
        preset: see `train_model`.
        overrides: see `train_model`.
        validate_only: with `select="val"`, only choose; test images are not looked at.
        as_typed: whether only a run of these very settings will do, even if others would end with the same weights.
        label: what tells it from others, apart from the seed; for messages.
    """

    settings: RunSettings
    groups: AttributeGroups | None = None
    preset: str | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    validate_only: bool = False
    as_typed: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """The label and the seed."""
        return ", ".join(filter(None, (self.label, f"seed {self.settings.seed}")))


def find_run(runs: Sequence[Run], job: Job, cache: FeatureCache) -> Run | None:
    """The run among `runs` that did this job, else one that began it, else one that cannot do it."""
    groups = groups_as_json(cache, job.settings, job.groups)
    alike = [
        run
        for run in runs
        if run.manifest["cache"]["fingerprint"] == cache.fingerprint
        and (
            run.settings == job.settings
            or (not job.as_typed and what_trains(run.settings) == what_trains(job.settings))
        )
        and _groups_only(run.manifest.get("groups")) == _groups_only(groups)
    ]
    done = next((run for run in alike if _is_done(run, job)), None)
    begun = [run for run in alike if not _gave_up(run, job)] or alike
    return done or (begun[-1] if begun else None)


def what_trains(settings: RunSettings) -> RunSettings:
    """The settings without those that no weight depends on."""
    if settings.select != "last":  # the choice of an epoch looks at predictions
        return settings
    silent: dict[str, Any] = {name: one.default for name, one in _predicting(settings).items()}
    return dataclasses.replace(settings, **silent)


def _predicting(settings: RunSettings) -> "dict[str, dataclasses.Field[Any]]":
    """The settings that no weight depends on; with the last epoch kept, the task only picks a preset."""
    own = fields_of(type(settings))
    return {name: one for name, one in own.items() if name == "task" or one.metadata.get("predicts_only")}


def measure_job(
    cache: FeatureCache,
    job: Job,
    runs: Path,
    *,
    device: str = "auto",
    features: str = "auto",
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> dict[str, Any]:
    """Do a job and measure it; where its training fails, the result holds the reason and no figures.

    Args:
        cache: the features.
        job: what to train.
        runs: the folder of runs; one that did the job is used, and one that began it is continued.
        device: see `train_model`.
        features: see `train_model`.
        on_start: called where there is something to train.
        on_epoch: called with each epoch's record.
    """
    begun: list[Run] = []

    def begin(run: Run) -> None:
        begun.append(run)
        if on_start:
            on_start(run)

    try:
        run = do_job(cache, job, runs, device=device, features=features, on_start=begin, on_epoch=on_epoch)
        return _failure(job, run) if _gave_up(run, job) else job_result(cache, job, run, device)
    except (TrainError, RunError, DeviceError) as error:
        failed = Run(begun[0].path) if begun and isinstance(error, TrainError) else None
        if failed is None or failed.manifest["status"] != "failed":  # it never began
            raise type(error)(f"{job.name}: {error}") from error
        failed.update(diverged=failed.manifest["reason"])
        return _failure(job, failed)


def do_job(
    cache: FeatureCache,
    job: Job,
    runs: Path,
    *,
    device: str = "auto",
    features: str = "auto",
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> Run:
    """Train, continue, or find the run of a job; one whose training failed in a series before is left as it is."""
    run = find_run(find_runs(runs, dataset=cache.annotations.dataset), job, cache)
    if run is None:
        return train_model(
            cache,
            job.settings,
            runs,
            groups=job.groups,
            preset=job.preset,
            overrides=job.overrides,
            device=device,
            features=features,
            validate_only=job.validate_only,
            on_start=on_start,
            on_epoch=on_epoch,
        )
    if _is_done(run, job) or _gave_up(run, job):
        return run
    _warn_of_device(run, device)
    if on_start:
        on_start(run)
    return continue_run(
        run, cache, device=device, features=features, validate_only=job.validate_only, on_epoch=on_epoch
    )


def job_result(cache: FeatureCache, job: Job, run: Run, device: str = "auto") -> dict[str, Any]:
    """What a job's run shows: figures on the validation classes if it was only to choose, else on the test classes."""
    if job.validate_only:
        chosen = run.chosen or {}
        figures = {name.removeprefix("val_"): value for name, value in chosen.items()}
        facts = {
            "run": str(run.path),
            "seed": run.settings.seed,
            "watch_test": run.manifest.get("watch_test"),
        }
        return {**figures, **facts}
    if job.settings.select != "last" or run.settings == job.settings:
        result = kept_result(run)
        if result is None:
            result = evaluate_run(run, cache, device=device)
            keep_results(run, result)
        return result
    silent = {name: getattr(job.settings, name) for name in _predicting(job.settings)}
    return evaluate_run(run, cache, device=device, predict_with=silent)


def refuse_all_failed(jobs: Iterable[Job], results: Sequence[dict[str, Any]]) -> None:
    """Raise a `TrainError` with the reason where no training of a series succeeded."""
    failed = [(job, result) for job, result in zip(jobs, results, strict=True) if result.get("failed")]
    if failed and len(failed) == len(results):
        job, result = failed[0]
        raise TrainError(
            f"no training succeeded; {job.name}: {result['failed']}. It is not trained again; to try it once more, "
            f"delete {result['run']}"
        )


def _failure(job: Job, run: Run) -> dict[str, Any]:
    """The result of a job whose training failed; figures are not in it."""
    return {"run": str(run.path), "seed": job.settings.seed, "failed": str(run.manifest["reason"])}


def _is_done(run: Run, job: Job) -> bool:
    return run.finished or (job.validate_only and run.manifest["status"] == VALIDATED)


def _gave_up(run: Run, job: Job) -> bool:
    """Whether the training itself failed, which it would do again; a full disk or a lack of memory can be mended."""
    if job.validate_only and run.chosen:  # all that is asked for was reached
        return False
    reason = run.manifest.get("reason")
    return run.manifest["status"] == "failed" and bool(reason) and run.manifest.get("diverged") == reason


def _warn_of_device(run: Run, device: str) -> None:
    before, now = str(run.manifest["device"]), str(choose_device(device))
    if before.partition(":")[0] != now.partition(":")[0]:
        log.warning("%s: trained on %s so far: on %s the weights will differ slightly", run.path, before, now)


def _groups_only(stored: Any) -> Any:
    return stored["groups"] if isinstance(stored, dict) and "groups" in stored else None
