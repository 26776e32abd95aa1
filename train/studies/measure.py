"""Runs a study in a home, with progress on stderr."""

from collections.abc import Mapping, Sequence
from typing import Any

from msdn.cache import FeatureCache, Home
from msdn.train.groups.choose import choose_groups
from msdn.train.measure.reporting import groups_line, provenance_notes
from msdn.train.models.registry import find_model
from msdn.train.studies.facts import study_facts
from msdn.train.studies.files import write_study
from msdn.train.studies.jobs import choose_workers
from msdn.train.studies.progress import Progress, say, told_when_interrupted
from msdn.train.studies.rows import Facts, RowResult
from msdn.train.studies.study import Study, Watch, run_study


def measure_study(
    cache: FeatureCache,
    study: Study,
    home: Home,
    *,
    workers: int | None,
    device: str,
    threads: int | None = None,
) -> tuple[Facts, list[RowResult]]:
    """Run a study, or what is missing of it, and say on stderr how far it is.

    Args:
        cache: the features.
        study: the rows and seeds.
        home: where the runs of all studies stay.
        workers: trainings at once; None means as many as there are GPUs, or else cores.
        device: see `run_jobs`.
        threads: of each training on a CPU; None means one.
    """
    facts = study_facts(cache, study)
    for note in provenance_notes(facts.weights, facts.masked_images):
        say(note)
    if any(find_model(row.settings.model).takes_groups for row in study.rows):
        say(groups_line(study.groups or choose_groups(cache.annotations)))
    progress = Progress(len(study.rows) * len(study.seeds))
    with told_when_interrupted():
        rows = run_study(
            cache,
            study,
            home.studies / "runs",
            workers=workers or choose_workers(device),
            device=device,
            threads=threads or 1,
            watch=Watch(progress.begin, progress.show_epoch, progress.show_result),
        )
    return facts, rows


def keep_study(home: Home, facts: Facts, rows: Sequence[RowResult], extra: Mapping[str, Any]) -> None:
    """Write a study's files into the home, and say on stderr where they are; `extra` is for its JSON."""
    for path in write_study(home.studies, facts, rows, extra):
        say(f"written: {path}")
