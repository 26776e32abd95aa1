"""What a series of trainings shows: a line for each, then mean and deviation over the seeds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from msdn.cache import FeatureCache
from msdn.train.measure.reporting import percent, provenance_notes, training_notes
from msdn.train.measure.summary import Spread, summarize
from msdn.train.measure.tables import plain_table, print_table
from msdn.train.studies.jobs import choose_workers, run_jobs
from msdn.train.studies.progress import Progress, told_when_interrupted
from msdn.train.studies.series import Job, refuse_all_failed

SHOWN = ("acc", "U", "S", "H", "H_no_margin", "AUSUC")
_OF_ALL = ("dataset", "model", "weights", "fingerprint", "select", "settings")
Result = Mapping[str, Any]


def run_and_show(
    cache: FeatureCache,
    jobs: Sequence[Job],
    runs: Path,
    *,
    workers: int | None,
    device: str,
    threads: int,
    as_json: bool,
) -> None:
    """Do the jobs, which differ in the seed alone, and print what they gave."""
    progress = Progress(len(jobs))
    with told_when_interrupted():
        results = run_jobs(
            cache,
            jobs,
            runs,
            workers=workers or choose_workers(device),
            device=device,
            threads=threads,
            on_start=progress.begin,
            on_epoch=progress.show_epoch,
            on_result=lambda position, result: progress.show_result(jobs[position].name, result),
        )
    refuse_all_failed(jobs, results)
    summary = summarize(results, SHOWN)
    if as_json:
        click.echo(json.dumps(_as_json(results, summary)))
    else:
        _print(jobs, results, summary)


def _as_json(results: Sequence[Result], summary: Mapping[str, Spread]) -> dict[str, Any]:
    first = _first_measured(results)
    means = {name: {"mean": one.mean, "std": one.std, "seeds": one.count} for name, one in summary.items()}
    shown = ("seed", "run", "selection", "watch_test", *SHOWN, "failed")
    seeds = [{name: result.get(name) for name in shown} for result in results]
    return {**{name: first[name] for name in _OF_ALL}, "summary": means, "seeds": seeds}


def _print(jobs: Sequence[Job], results: Sequence[Result], summary: Mapping[str, Spread]) -> None:
    first = _first_measured(results)
    rows = [[str(result["seed"]), *(percent(result.get(name)) for name in SHOWN)] for result in results]
    rows.append(["mean ± std", *(str(summary[name]) for name in SHOWN)])
    title = f"{first['model']} on {first['dataset']}, {len(results)} seeds"
    selections = dict.fromkeys(result["selection"] for result in results if "selection" in result)
    notes = [f"selection: {selection}" for selection in selections]
    notes += training_notes([(job.name, result) for job, result in zip(jobs, results, strict=True)])
    notes += provenance_notes(first["weights"], first["masked_images"])
    print_table(plain_table(title, ("seed", *SHOWN), rows, SHOWN), notes)


def _first_measured(results: Sequence[Result]) -> Result:
    return next(result for result in results if not result.get("failed"))
