"""The report's sweeps: the home's studies of this dataset and model, as the paper's Figures 6 and 7."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdn.app.report.charts import Chart, Key, percent_axis
from msdn.app.report.curves import key_of
from msdn.app.report.html import Html, note
from msdn.app.report.subjects import Subject
from msdn.cache import Home
from msdn.cache.records import Kind, find_misfit, is_figure, is_table, is_text, read_sealed
from msdn.train.measure.show import show_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)
_STUDY: dict[str, Kind] = {
    "study": is_text,
    "dataset": is_text,
    "fingerprint": is_text,
    "measured_on": is_text,
}
_SPREAD: dict[str, Kind] = {"mean": is_figure, "std": is_figure}
_ROW: dict[str, Kind] = {
    "settings": is_table,
    "overrides": is_table,
    "summary": {"acc": _SPREAD, "H": _SPREAD},
}
_FIGURES = ("acc", "H")  # as in the paper's


@dataclass(frozen=True)
class Sweep:
    """A study of one setting, or of two.

    Attributes:
        over: the settings that were changed.
        rows: the study's rows.
    """

    facts: dict[str, Any]
    over: tuple[str, ...]
    rows: list[dict[str, Any]]


def sweeps(subjects: Sequence[Subject], home: Home) -> list[Chart | Html]:
    """A chart for each sweep that fits a run; nothing where none was made."""
    found = [
        sweep
        for path in sorted(home.studies.glob("*.json"))
        if (sweep := read_sweep(path)) and any(_fits(sweep, one) for one in subjects)
    ]
    if not found:
        return []
    explained = "Mean over seeds; the band is one standard deviation to either side. From the home's studies."
    return [*(_chart(sweep, number) for number, sweep in enumerate(found, 1)), note(explained)]


def read_sweep(path: Path) -> Sweep | None:
    """A study's file as a sweep; None where it is none, or damaged."""
    try:
        facts = read_sealed(path)
    except (OSError, ValueError) as error:
        log.warning("%s: not used, it cannot be read (%s)", path, error)
        return None
    if "best" not in facts or find_misfit(facts, _STUDY):
        return None
    rows = facts.get("rows")
    if not isinstance(rows, list) or any(not isinstance(row, dict) or find_misfit(row, _ROW) for row in rows):
        log.warning("%s: not used, its rows are not those of a sweep", path)
        return None
    names = dict.fromkeys(name for row in rows for name in row["overrides"])
    over = tuple(name for name in names if len({repr(row["settings"].get(name)) for row in rows}) > 1)
    return Sweep(facts, over, rows) if len(over) in (1, 2) else None


def _fits(sweep: Sweep, one: Subject) -> bool:
    fingerprint = one.run.manifest["cache"]["fingerprint"]
    models = {row["settings"].get("model") for row in sweep.rows}
    return sweep.facts["fingerprint"] == fingerprint and models == {one.run.settings.model}


def _chart(sweep: Sweep, number: int) -> Chart:
    first = sweep.over[0]
    second = sweep.over[1] if len(sweep.over) == 2 else None
    values = list(dict.fromkeys(_value(row, first) for row in sweep.rows))
    others = list(dict.fromkeys(_value(row, second) for row in sweep.rows)) if second else [""]
    series: list[tuple[Key, list[dict[str, Any]]]] = []
    for other in others:
        rows = [row for row in sweep.rows if not second or _value(row, second) == other]
        for figure in _FIGURES if not second else ("H",):
            label = f"{second} {other}" if second else figure
            series.append((key_of(label, len(series)), [row["summary"][figure] for row in rows]))
    lines = [
        {
            **{name: _value(row, name) for name in sweep.over},
            **{figure: row["summary"][figure]["mean"] for figure in _FIGURES},
            **{f"{figure}_std": row["summary"][figure]["std"] for figure in _FIGURES},
        }
        for row in sweep.rows
    ]

    def draw(axes: "Axes") -> None:
        places = np.arange(len(values))
        for key, summaries in series:
            means = np.array([_number(one["mean"]) for one in summaries])
            stds = np.nan_to_num(np.array([_number(one["std"]) for one in summaries]))
            axes.plot(places, means, color=key.colour, linestyle=key.dash, marker="o", markersize=3.5)
            axes.fill_between(places, means - stds, means + stds, color=key.colour, alpha=0.15, linewidth=0)
        axes.set_xticks(places, values)
        axes.set_ylabel("%" if not second else "H, %")
        axes.set_xlabel(first)
        low, high = axes.get_ylim()
        axes.set_ylim(max(0, low), min(102, high))
        percent_axis(axes.yaxis, high - low)

    on = f"{sweep.facts['measured_on']} classes"
    title = f"{' and '.join(sweep.over)}, {on}"
    known = [row for row in sweep.rows if row["summary"]["H"]["mean"] is not None]
    best = max(known, key=lambda row: float(row["summary"]["H"]["mean"]), default=None)
    told = ""
    if best:
        at = ", ".join(f"{name} {_value(best, name)}" for name in sweep.over)
        told = f" Highest H: {best['summary']['H']['mean']:.1f} % at {at}."
    looked = " Figures of test classes: choose nothing by them." if on.startswith("test") else ""
    name = f"sweep-{number}-{'-'.join(sweep.over)}"
    return Chart(
        name,
        title,
        f"{title}.{told}",
        lines,
        draw,
        [key for key, _ in series],
        below=f"Study {sweep.facts['study']}.{told}{looked}",
    )


def _value(row: dict[str, Any], name: str | None) -> str:
    return show_value(row["settings"][name]) if name else ""


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
