"""Several trainings that belong together: found where they are done already, continued where they stopped."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache
from msdn.train.epochs import Record
from msdn.train.evaluate import evaluate_run, keep_results
from msdn.train.groups.groups import AttributeGroups
from msdn.train.runner import continue_run, groups_as_json, train_model
from msdn.train.runs import VALIDATED, Run, find_runs
from msdn.train.settings import TrainSettings

_DEFAULTS = TrainSettings()
# With the last epoch kept, the task only picks a preset.
_PREDICTS_ONLY = (
    "task",
    *(one.name for one in dataclasses.fields(_DEFAULTS) if one.metadata.get("predicts_only")),
)


@dataclass(frozen=True)
class Job:
    """One training of a series.

    Attributes:
        settings: what to train, and how.
        groups: see `train_model`.
        preset: see `train_model`.
        overrides: see `train_model`.
        validate_only: with `select="val"`, only choose; test images are not looked at.
    """

    settings: TrainSettings
    groups: AttributeGroups | None = None
    preset: str | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    validate_only: bool = False


def find_run(runs: Sequence[Run], job: Job, cache: FeatureCache) -> Run | None:
    """The run among `runs` that did this job, else one that began it."""
    groups = groups_as_json(cache, job.settings, job.groups)
    alike = [
        run
        for run in runs
        if run.manifest["cache"]["fingerprint"] == cache.fingerprint
        and what_trains(run.settings) == what_trains(job.settings)
        and _groups_only(run.manifest.get("groups")) == _groups_only(groups)
    ]
    return next((run for run in alike if _is_done(run, job)), alike[-1] if alike else None)


def what_trains(settings: TrainSettings) -> TrainSettings:
    """The settings without those that no weight depends on."""
    if settings.select != "last":  # the choice of an epoch looks at predictions
        return settings
    silent: dict[str, Any] = {name: getattr(_DEFAULTS, name) for name in _PREDICTS_ONLY}
    return dataclasses.replace(settings, **silent)


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
    """Train, continue, or find the run of a job; `on_start` is called where there is something to train."""
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
    if _is_done(run, job):
        return run
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
        return {**figures, "run": str(run.path), "seed": run.settings.seed}
    if job.settings.select != "last" or run.settings == job.settings:
        result = evaluate_run(run, cache, device=device)
        keep_results(run, result)
        return result
    silent = {name: getattr(job.settings, name) for name in _PREDICTS_ONLY}
    return evaluate_run(run, cache, device=device, predict_with=silent)


def _is_done(run: Run, job: Job) -> bool:
    return run.finished or (job.validate_only and run.manifest["status"] == VALIDATED)


def _groups_only(stored: Any) -> Any:
    return stored["groups"] if isinstance(stored, dict) and "groups" in stored else None
