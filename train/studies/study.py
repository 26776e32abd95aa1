"""A study: rows of settings, each trained with the same seeds. What was done before is not trained again."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.settings import RunSettings
from msdn.train.loop.training import Record
from msdn.train.runs.run import Run
from msdn.train.studies.jobs import run_jobs
from msdn.train.studies.rows import RowResult, StudyRow
from msdn.train.studies.series import Job, refuse_all_failed, what_trains


@dataclass(frozen=True)
class Study:
    """What to train: every row with every seed.

    Attributes:
        name: of its files.
        rows: what is compared.
        seeds: the same for all rows, so that rows can be compared seed by seed.
        validate_only: with `select="val"`, measure on validation classes and look at no test image.
        groups: of attributes, for the rows whose model takes them; None means as `choose_groups` finds them.
    """

    name: str
    rows: tuple[StudyRow, ...]
    seeds: tuple[int, ...]
    validate_only: bool = False
    groups: AttributeGroups | None = None

    def jobs(self) -> list[Job]:
        """One job for each seed of each row, row by row."""
        return [self._job(row, seed) for row in self.rows for seed in self.seeds]

    def _job(self, row: StudyRow, seed: int) -> Job:
        settings = dataclasses.replace(row.settings, seed=seed)
        overrides = {**row.overrides, "seed": seed}
        return Job(settings, self.groups, row.preset, overrides, self.validate_only, label=row.label)


@dataclass(frozen=True)
class Watch:
    """What to call as a study goes on: with a run that begins, its epochs, and each job's name and result.

    With several workers only `on_result` is called.
    """

    on_start: Callable[[Run], None] | None = None
    on_epoch: Callable[[Record], None] | None = None
    on_result: Callable[[str, dict[str, Any]], None] = lambda _name, _result: None


def run_study(
    cache: FeatureCache,
    study: Study,
    runs: Path,
    *,
    workers: int = 1,
    device: str = "auto",
    threads: int = 1,
    watch: Watch = Watch(),
) -> list[RowResult]:
    """Train what is missing and measure every row with every seed; raises where no training succeeds.

    Args:
        cache: the features.
        study: the rows and seeds.
        runs: the folder of runs; those that fit are used, whichever study they were made for.
        workers: see `run_jobs`.
        device: see `run_jobs`.
        threads: see `run_jobs`.
        watch: what to call as it goes on.
    """
    jobs, count = study.jobs(), len(study.seeds)
    results: list[dict[str, Any]] = [{} for _ in jobs]
    for wave in split_waves(jobs):
        chosen = [jobs[position] for position in wave]
        done = run_jobs(
            cache,
            chosen,
            runs,
            workers=workers,
            device=device,
            threads=threads,
            on_start=watch.on_start,
            on_epoch=watch.on_epoch,
            on_result=lambda number, result, jobs=chosen: watch.on_result(jobs[number].name, result),  # type: ignore[misc]
        )
        for position, result in zip(wave, done, strict=True):
            results[position] = result
    refuse_all_failed(jobs, results)
    return [
        RowResult(row, tuple(results[number * count : (number + 1) * count]))
        for number, row in enumerate(study.rows)
    ]


def split_waves(jobs: Sequence[Job]) -> list[list[int]]:
    """Positions of the first job of each training, then of those that only predict otherwise with its weights.

    Jobs of one wave share no training, so that several workers never train the same thing twice.
    """
    trained: dict[RunSettings, int] = {}
    for position, job in enumerate(jobs):
        trained.setdefault(what_trains(job.settings), position)
    firsts = sorted(trained.values())
    rest = sorted(set(range(len(jobs))) - set(firsts))
    return [wave for wave in (firsts, rest) if wave]
