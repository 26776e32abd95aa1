"""A study as people see it: progress on stderr, then a table and what its figures belong to. No torch."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.table import Table

from msdn.train.reporting import epoch_line, percent, provenance_notes
from msdn.train.run_results import COMPARED
from msdn.train.studies.rows import Facts, RowResult, StudyRow
from msdn.train.tables import plain_table, result_console

_PAPER = ("acc", "H")


class Progress:
    """A line for each run that begins, its epochs, and each result."""

    def __init__(self, jobs: int) -> None:
        """Expect so many results."""
        self._jobs, self._done = jobs, 0

    def begin(self, run: Any) -> None:
        """A run begins."""
        say(f"run: {run.path}")

    def show_epoch(self, record: dict[str, Any]) -> None:
        """An epoch was trained."""
        say(epoch_line(record))

    def show_result(self, row: StudyRow, result: dict[str, Any]) -> None:
        """A row was measured with one seed."""
        self._done += 1
        figures = "  ".join(f"{name} {percent(result[name])}" for name in COMPARED)
        say(f"done {self._done} of {self._jobs}: {row.label}, seed {result['seed']}  {figures}")


def study_table(title: str, facts: Facts, rows: Sequence[RowResult]) -> Table:
    """Mean ± standard deviation of each row, with chance and, where there are any, the paper's figures."""
    with_paper = any(done.row.published for done in rows)
    paper = [f"paper {name}" for name in _PAPER] if with_paper else []
    columns = ["", *COMPARED, "seeds", *paper]
    chance = [percent(facts.chance[name]) if name in facts.chance else "" for name in COMPARED]
    cells = [["chance", *chance, "", *("" for _ in paper)]]
    for done in rows:
        published = (
            [percent(getattr(done.row.published, name, None)) for name in _PAPER] if with_paper else []
        )
        spreads = [str(one) for one in done.figures.values()]
        cells.append([done.row.label, *spreads, str(len(done.results)), *published])
    return plain_table(title, columns, cells, columns[1:])


def study_notes(facts: Facts, rows: Iterable[RowResult]) -> list[str]:
    """What the figures belong to, and where the paper's are from."""
    lines = [
        f"measured on: {facts.measured_on} classes, seeds {' '.join(map(str, facts.seeds))}",
        f"selection: {facts.selection}",
        f"features: {facts.fingerprint[:12]} ({facts.weights} weights, {_pixels(facts)})",
    ]
    papers = dict.fromkeys(done.row.published for done in rows if done.row.published)
    lines += dict.fromkeys(f"paper: {one.source}, {one.selection}" for one in papers)
    return lines + provenance_notes(facts.weights, facts.masked_images)


def print_study(table: Table, notes: Iterable[str]) -> None:
    """Print a table and the lines below it to standard output."""
    console = result_console()
    console.print(table)
    for line in notes:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def say(line: str) -> None:
    """A line of progress, on stderr."""
    click.echo(line, err=True)
    sys.stderr.flush()


def _pixels(facts: Facts) -> str:
    return "image size unknown" if facts.image_size is None else f"images of {facts.image_size} pixels"
