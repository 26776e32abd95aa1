"""Reads `attributes.csv`: a header `class,attribute,…` and a row of numbers for every class."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdn.extract.own.csv_rows import CsvTable, Row, read_csv
from msdn.extract.own.mistakes import Mistake, Report, quote, refuse

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
LARGEST = 1e15  # squares and sums of such numbers are still exact enough
SMALLEST = 1e-9  # a shorter row of attributes would be lost when it is scaled to length 1


@dataclass(frozen=True)
class ClassTable:
    """What `attributes.csv` says.

    Attributes:
        class_names: C names.
        attribute_names: K names.
        values: [C, K] float64.
        lines: the line of each class.
    """

    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    values: np.ndarray
    lines: tuple[int, ...]


def read_attributes_csv(path: Path, class_names: Sequence[str] | None = None) -> ClassTable:
    """Read the table, or raise a `DatasetError` that names its mistakes.

    Args:
        path: the file.
        class_names: the classes it must describe; its rows may be in any order and are put into this one.
    """
    found: list[Mistake] = []
    table = read_class_table(path, found)
    if table is not None and class_names is not None and not found:
        _compare_classes(Report(path, found), table, class_names)
    refuse(found)
    assert table is not None, "no table and no mistake"
    return table if class_names is None else _reorder(table, class_names)


def read_class_table(path: Path, found: list[Mistake]) -> ClassTable | None:
    """Read the table; cells that are no numbers are NaN in it, and named in `found`."""
    report = Report(path, found)
    table = read_csv(report, ("class",))
    if table is None or not table.rows:
        return None
    values = np.array([_read_row(report, row, table) for row in table.rows])
    classes = ClassTable(
        tuple(row.cells[0] for row in table.rows),
        table.header.cells[1:],
        values,
        tuple(row.line for row in table.rows),
    )
    _find_bad_names(report, classes)
    _find_alike(report, classes)
    return classes


def _read_row(report: Report, row: Row, table: CsvTable) -> list[float]:
    """Return the row's numbers; one mistake names its first bad cell and counts the others."""
    if not row.whole:
        return [np.nan] * (len(row.cells) - 1)
    complaints = [_complain(cell) for cell in row.cells[1:]]
    bad = [place for place, complaint in enumerate(complaints) if complaint]
    if bad:
        others = f" (and {len(bad) - 1} more cells of this row)" if len(bad) > 1 else ""
        column = quote(table.header.cells[1 + bad[0]])
        report.add(f"column {column}: {complaints[bad[0]]}{others}", row.line)
    return [
        np.nan if complaint else float(cell)
        for cell, complaint in zip(row.cells[1:], complaints, strict=True)
    ]


def _complain(cell: str) -> str:
    if NUMBER.fullmatch(cell):
        return "" if abs(float(cell)) <= LARGEST else f"{quote(cell)} is too large, the limit is {LARGEST:g}"
    if not cell:
        return "the cell is empty, expected a number; write 0 where a class lacks the attribute"
    if DECIMAL_COMMA.fullmatch(cell):
        return f"{quote(cell)} has a decimal comma; write '{cell.replace(',', '.')}'"
    if NUMBER.fullmatch(cell.removesuffix("%").rstrip()):
        return f"{quote(cell)} has a percent sign; write the number alone"
    if cell.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return f"{quote(cell)} is not a finite number; write what is known of the class, or 0"
    return f"{quote(cell)} is not a number"


def _find_bad_names(report: Report, table: ClassTable) -> None:
    lines: dict[str, int] = {}
    for name, line in zip(table.class_names, table.lines, strict=True):
        if not name:
            report.add("the row names no class in its first cell", line)
        elif name in lines:
            report.add(f"class {quote(name)} has a row in line {lines[name]} already; keep one", line)
        else:
            lines[name] = line


def _find_alike(report: Report, table: ClassTable) -> None:
    """Find classes that no model could tell apart: attributes are scaled to length 1 before they are used."""
    first: dict[bytes, int] = {}
    done: set[str] = set()
    for row, (name, line) in enumerate(zip(table.class_names, table.lines, strict=True)):
        length = np.linalg.norm(table.values[row])
        if name in done or not np.isfinite(length):
            continue
        done.add(name)
        if length < SMALLEST:
            report.add(f"class {quote(name)} has nothing but zeros; say what it looks like", line)
            continue
        direction = (table.values[row] / length).round(9) + 0.0  # turns -0 into 0
        other = first.setdefault(direction.tobytes(), row)
        if other != row:
            twin = f"{quote(table.class_names[other])} (line {table.lines[other]})"
            report.add(
                f"class {quote(name)} cannot be told from {twin}: "
                "the same attributes, or a multiple of them; add an attribute that differs",
                line,
            )


def _compare_classes(report: Report, table: ClassTable, expected: Sequence[str]) -> None:
    known, given = set(expected), set(table.class_names)
    for name, line in zip(table.class_names, table.lines, strict=True):
        if name not in known:
            report.add(f"there is no class {quote(name)}", line)
    for name in expected:
        if name not in given:
            report.add(f"class {quote(name)} has no row")


def _reorder(table: ClassTable, class_names: Sequence[str]) -> ClassTable:
    rows = {name: row for row, name in enumerate(table.class_names)}
    order = [rows[name] for name in class_names]
    lines = tuple(table.lines[row] for row in order)
    return ClassTable(tuple(class_names), table.attribute_names, table.values[order], lines)
