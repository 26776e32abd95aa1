"""What a series of trainings shows: a line for each, then mean and deviation over the seeds."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from msdn.cache import FeatureCache
from msdn.train.jobs import choose_workers, run_jobs
from msdn.train.reporting import epoch_line, percent, provenance_notes
from msdn.train.runs import Run
from msdn.train.series import Job
from msdn.train.summary import summarize
from msdn.train.tables import plain_table, result_console

SHOWN = ("acc", "U", "S", "H", "H_no_margin", "AUSUC")


def run_and_show(
    cache: FeatureCache, jobs: Sequence[Job], runs: Path, *, workers: int | None, device: str, as_json: bool
) -> None:
    """Do the jobs, which differ in the seed alone, and print what they gave."""
    results = run_with_progress(cache, jobs, runs, workers=workers, device=device)
    summary = summarize(results, SHOWN)
    first = results[0]
    if as_json:
        means = {
            name: {"mean": one.mean, "std": one.std, "seeds": one.count} for name, one in summary.items()
        }
        facts = {
            name: first[name] for name in ("dataset", "model", "weights", "fingerprint", "select", "settings")
        }
        seeds = [{name: result[name] for name in ("seed", "run", "selection", *SHOWN)} for result in results]
        click.echo(json.dumps({**facts, "summary": means, "seeds": seeds}))
        return
    rows = [[str(result["seed"]), *(percent(result[name]) for name in SHOWN)] for result in results]
    rows.append(["mean ± std", *(str(summary[name]) for name in SHOWN)])
    title = f"{first['model']} on {first['dataset']}, {len(results)} seeds"
    result_console().print(plain_table(title, ("seed", *SHOWN), rows, SHOWN))
    for selection in dict.fromkeys(result["selection"] for result in results):
        click.echo(f"selection: {selection}")
    for note in provenance_notes(first["weights"], first["masked_images"]):
        click.echo(note)


def run_with_progress(
    cache: FeatureCache, jobs: Sequence[Job], runs: Path, *, workers: int | None, device: str
) -> list[dict[str, Any]]:
    """Do the jobs with a line on stderr for each, and for each epoch where one is trained at a time."""

    def on_start(run: Run) -> None:
        _say(f"run: {run.path}")

    def on_result(position: int, result: dict[str, Any]) -> None:
        figures = "  ".join(f"{name} {percent(result[name])}" for name in SHOWN if name in result)
        _say(f"done {position + 1} of {len(jobs)}: seed {result['seed']}  {figures}")

    try:
        return run_jobs(
            cache,
            jobs,
            runs,
            workers=workers or choose_workers(device),
            device=device,
            on_start=on_start,
            on_epoch=lambda record: _say(epoch_line(record)),
            on_result=on_result,
        )
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on where it stopped")
        raise


def _say(line: str) -> None:
    click.echo(line, err=True)
    sys.stderr.flush()
