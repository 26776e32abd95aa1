"""A study as people see it: a table, and what its figures belong to. No torch."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from msdn.train.measure.reporting import percent, provenance_notes, training_notes
from msdn.train.measure.tables import plain_table
from msdn.train.runs.results import COMPARED
from msdn.train.studies.rows import Facts, RowResult, show_overrides

_PAPER = ("acc", "H")
_TOLD_APART = ("model", "task", "select", "paper_style")  # by labels, the preset's name, and the selection


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
        cells.append([done.row.label, *spreads, done.seeds, *published])
    return plain_table(title, columns, cells, columns[1:])


def study_notes(facts: Facts, rows: Sequence[RowResult]) -> list[str]:
    """What the figures belong to, what to know of single trainings, and where the paper's figures are from."""
    lines = [
        f"measured on: {facts.measured_on} classes, seeds {' '.join(map(str, facts.seeds))}",
        f"selection: {facts.selection}",
        f"features: {facts.fingerprint[:12]} ({facts.weights} weights, {_pixels(facts)})",
        *_preset_line(rows),
    ]
    papers = dict.fromkeys(done.row.published for done in rows if done.row.published)
    lines += dict.fromkeys(f"paper: {one.source}, {one.selection}" for one in papers)
    trained = [(f"{done.row.label}, seed {one['seed']}", one) for done in rows for one in done.results]
    return lines + training_notes(trained) + provenance_notes(facts.weights, facts.masked_images)


def _preset_line(rows: Sequence[RowResult]) -> list[str]:
    """The presets, and what was changed of them in all rows that have the setting."""
    presets = dict.fromkeys(done.row.preset for done in rows if done.row.preset)
    given: dict[str, Any] = {}
    for done in rows:
        given |= {name: value for name, value in done.row.given.items() if name not in _TOLD_APART}
    changed = f"changed: {show_overrides(given)}" if given else "nothing changed"
    return [f"preset: {', '.join(presets)}; {changed}"] if presets else []


def _pixels(facts: Facts) -> str:
    return "image size unknown" if facts.image_size is None else f"images of {facts.image_size} pixels"
