"""A study's files: NAME.csv with a line for each row and seed, NAME-means.csv with a line for each row, NAME.json."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msdn.cache.files import replace_file
from msdn.train.models.published import PAPER_FIGURES
from msdn.train.runs.results import COMPARED
from msdn.train.studies.rows import Facts, RowResult, show_overrides

_OF_A_RUN = ("margin", "epochs", "training_seconds", "parameters", "watch_test", "run", "failed")
_OF_ALL = ("dataset", "weights", "image_size", "fingerprint", "measured_on", "selection")


def write_study(
    folder: Path, facts: Facts, rows: Sequence[RowResult], extra: Mapping[str, Any]
) -> list[Path]:
    """Write the three files; those of an earlier study of the same name are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        f"{facts.study}.csv": _csv_text([line for row in rows for line in _seed_lines(facts, row)]),
        f"{facts.study}-means.csv": _csv_text([_mean_line(facts, row) for row in rows]),
        f"{facts.study}.json": json.dumps(study_json(facts, rows, extra), indent=2) + "\n",
    }
    for name, text in contents.items():
        replace_file(folder / name, text.encode())
    return [folder / name for name in contents]


def study_json(facts: Facts, rows: Sequence[RowResult], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for machines; `extra` is what this kind of study adds."""
    return {**dataclasses.asdict(facts), **extra, "rows": [_row_json(row) for row in rows]}


def _row_json(done: RowResult) -> dict[str, Any]:
    row = done.row
    settings = {name: value for name, value in row.settings.as_json().items() if name != "seed"}
    return {
        "label": row.label,
        **row.facts,
        "preset": row.preset,
        "overrides": dict(row.overrides),
        "settings": settings,
        "summary": {
            name: {"mean": one.mean, "std": one.std, "seeds": one.count} for name, one in done.figures.items()
        },
        "seeds": [
            {name: result.get(name) for name in ("seed", *COMPARED, *_OF_A_RUN)} for result in done.results
        ],
        "paper": row.published and dataclasses.asdict(row.published),
    }


def _seed_lines(facts: Facts, done: RowResult) -> list[dict[str, Any]]:
    return [
        {
            "row": done.row.label,
            **done.row.facts,
            **{name: result.get(name) for name in ("seed", *COMPARED, *_OF_A_RUN)},
            **_common(facts, done),
        }
        for result in done.results
    ]


def _mean_line(facts: Facts, done: RowResult) -> dict[str, Any]:
    line: dict[str, Any] = {"row": done.row.label, **done.row.facts}
    line |= {"seeds": len(done.results), "failed": done.failed}
    for name, one in done.figures.items():
        line |= {name: one.mean, f"{name}_std": one.std}
    line |= {f"paper_{name}": getattr(done.row.published, name, None) for name in PAPER_FIGURES}
    return line | _common(facts, done)


def _common(facts: Facts, done: RowResult) -> dict[str, Any]:
    """What a row's lines end with in both files."""
    changed = {"preset": done.row.preset, "overrides": show_overrides(done.row.overrides)}
    return {**changed, **{name: getattr(facts, name) for name in _OF_ALL}}


def _csv_text(lines: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()
