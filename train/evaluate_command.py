"""`msdn evaluate`: test figures of a trained run. Loads torch only when it runs."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from msdn.cache import Home
from msdn.cache.options import home_option
from msdn.train.errors import RunError
from msdn.train.models.registry import model_entry
from msdn.train.reporting import figures_notes, figures_table

if TYPE_CHECKING:
    from msdn.train.runs import Run


@click.command()
@click.option("--gzsl", is_flag=True, help="Show U, S and H: all classes compete.")
@click.option("--czsl", is_flag=True, help="Show acc: only unseen classes compete. Neither flag means both.")
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path),
    help="The run: its folder, or its name.  [the latest finished one]",
)
@click.option("--dataset", metavar="NAME", help="The latest finished run of this dataset.")
@click.option("--model", metavar="NAME", help="The latest finished run of this model.")
@click.option(
    "--cache", type=click.Path(path_type=Path), help="The features.  [those that the run was trained on]"
)
@click.option(
    "--margin", type=float, help="Margin for unseen against seen classes.  [the run's; 1 as published]"
)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, …  [a GPU where there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@home_option
def evaluate(
    home: Home,
    gzsl: bool,
    czsl: bool,
    run_path: Path | None,
    dataset: str | None,
    model: str | None,
    cache: Path | None,
    margin: float | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure a trained run on the test images: per-class mean accuracies, in percent."""
    if margin is not None and not math.isfinite(margin):
        raise click.BadParameter(f"{margin} is not a finite number", param_hint="--margin")
    if model is not None:
        model_entry(model)
    from msdn.train.evaluate import evaluate_run
    from msdn.train.locate import open_run_cache
    from msdn.train.runs import latest_run, open_run

    if run_path is None:
        run = latest_run(home.runs, finished=True, dataset=dataset, model=model)
    else:
        run = open_run(home.runs, run_path)
        _check_is(run, dataset, model)
    with open_run_cache(home, run, cache) as opened:
        result = evaluate_run(run, opened, gzsl=gzsl, czsl=czsl, margin=margin, device=device)
    if as_json:
        click.echo(json.dumps(result))
        return
    console = Console(soft_wrap=True)
    console.print(figures_table(result))
    for line in figures_notes(result):
        console.print(line, highlight=False, markup=False)


def _check_is(run: "Run", dataset: str | None, model: str | None) -> None:
    for name, asked, is_ in (("dataset", dataset, run.dataset), ("model", model, run.settings.model)):
        if asked not in (None, is_):
            raise RunError(
                f"{run.path}: a run of the {name} '{is_}', not '{asked}'; leave out --{name} or --run"
            )
