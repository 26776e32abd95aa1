"""`msdn compare`: a leaderboard of finished runs. Loads torch only where a run has to be measured first."""

import json
from pathlib import Path

import click

from msdn.cache.files import replace_file
from msdn.cache.home import Home, dataset_name, home_option
from msdn.train.errors import RunError
from msdn.train.measure.tables import result_console
from msdn.train.models import registry
from msdn.train.runs.results import LeftOut, collect_results
from msdn.train.studies import compare_view as view
from msdn.train.studies.compare import Board, compare_runs


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--dataset", metavar="NAME|FOLDER", help="Runs of this dataset alone.")
@click.option(
    "--model", metavar="NAME|FILE", help="Runs of this model alone; a model of your own by its file."
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tables to this CSV file too; one that is there is replaced.",
)
@click.option("--device", default="auto", help="Where to measure: cpu, cuda, …  [a GPU where there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print the tables as JSON.")
@home_option
def compare(
    home: Home,
    runs: tuple[Path, ...],
    dataset: str | None,
    model: str | None,
    csv_file: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Rank finished runs by their test figures, in percent: the given folders, or all runs of the home.

    Runs that differ only in the seed are one line, mean ± standard deviation of the sample. Lines are ranked where
    dataset, features, task, selection and margin are the same; others get a table of their own.

    A RUN may be a folder copied from another machine, so that runs made in several places become one table. Figures
    that 'msdn evaluate' left in a run's folder are used as they are; other runs are measured now, which takes
    the features that they were trained on.
    """
    registry.use_home(home)
    model = model and registry.choose_model(model).name
    measured, left_out = collect_results(
        home,
        runs,
        dataset=dataset and dataset_name(dataset),
        model=model,
        device=device,
        on_measure=lambda run: click.echo(f"measuring {run.path}", err=True),
    )
    if not measured:
        raise RunError(_nothing(home, left_out))
    boards = compare_runs(measured)
    if csv_file is not None:
        replace_file(csv_file, view.as_csv(boards).encode())
    if as_json:
        click.echo(json.dumps(view.as_json(boards, left_out)))
    else:
        _show(boards, left_out)


def _show(boards: list[Board], left_out: list[LeftOut]) -> None:
    console = result_console()

    def say(lines: list[str]) -> None:
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    if len(boards) > 1:
        say([view.apart(boards), ""])
    for board in boards:
        say(view.heading(board))
        console.print(view.board_table(board))
        say([*view.notes(board), ""])
    say(view.left_out_lines(left_out))


def _nothing(home: Home, left_out: list[LeftOut]) -> str:
    if not left_out:
        return f"no run to compare in {home.runs}; train one with 'msdn train --dataset NAME'"
    return "no run that can be compared; " + "; ".join(view.left_out_lines(left_out))
