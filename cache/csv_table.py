"""Reads a small CSV file as a header and rows with their lines; its caller collects mistakes or raises them."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from msdn.terminal import ODD

LARGEST = 2**28  # bytes; the paths and splits of a million images take some 2**26
LONGEST = 60  # letters of a cell that a message shows
SAVE_AS_UTF8 = "save it as UTF-8 text ('CSV UTF-8' in a spreadsheet)"
FORMULA = re.compile(r"'*[=+\-@\t\r\n]")  # what a spreadsheet may run; marks before it are counted
GUARDED = re.compile(r"''*[=+\-@\t\r\n]")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

Complain = Callable[[str, int | None], None]  # takes what is wrong, and the line from 1 where there is one


@dataclass(frozen=True)
class Row:
    """The cells of a row, as many as the header has, and the line it begins in; `whole` if it came so."""

    line: int
    cells: tuple[str, ...]
    whole: bool = True


@dataclass(frozen=True)
class CsvTable:
    """A header and its rows."""

    header: Row
    rows: tuple[Row, ...]


class _NoTableError(Exception):
    """A message and a line: reading cannot go on."""


def read_csv(
    path: Path,
    first: tuple[str, ...],
    complain: Complain,
    others: tuple[str, ...] | None = None,
    largest: int = LARGEST,
) -> CsvTable | None:
    """Read a CSV file; None where it is no such table.

    Spaces around cells, empty lines and empty cells behind the last column do not count.

    Args:
        path: the file, UTF-8 text with commas.
        first: what the header may begin with, in lower case.
        complain: called for every mistake.
        others: how the header goes on, in lower case; None for columns of any name.
        largest: bytes.
    """
    expected = " or ".join(f"'{','.join((cell, *(others or ())))}'" for cell in first)
    expected = f"the header {expected}" if others else f"a header row that starts with {expected}"
    try:
        rows = _split(_read_text(path, largest))
        header, *body = rows or [Row(0, ())]
        header = _trim(header, 1)
        _check_header(header, first, others, expected)
    except _NoTableError as error:
        complain(*error.args)
        return None
    for message in _find_bad_names(header.cells):
        complain(message, header.line)
    if not body:
        complain("has a header but no rows below it", header.line)
    return CsvTable(header, tuple(_fit(row, len(header.cells), complain) for row in body))


def _read_text(path: Path, largest: int) -> str:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise _NoTableError("is not a file", None)  # a pipe would never end
    with path.open("rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise _NoTableError(f"is larger than {largest / 2**20:g} MiB, too large for such a table", None)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _NoTableError(f"is UTF-16 text; {SAVE_AS_UTF8}", 1)
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise _NoTableError(f"contains a zero byte, so it is not a text file; {SAVE_AS_UTF8}", line)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise _NoTableError(f"byte 0x{byte:02X} is not UTF-8; {SAVE_AS_UTF8}", line) from error


def _split(text: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows, begin = [], 1
    try:
        for cells in reader:
            clean = tuple(map(clean_cell, cells))
            if any(clean):
                rows.append(Row(begin, clean))
            begin = reader.line_num + 1
    except csv.Error as error:
        advice = "look for an extra quotation mark"
        raise _NoTableError(f"the row that starts here cannot be read ({error}); {advice}", begin) from error
    return rows


def clean_cell(cell: str) -> str:
    """Put a cell on one line, without outer spaces, its accents spelt in the usual one of two ways.

    What `inert_cell` put before it is taken away.
    """
    text = re.sub(r"\s*[\r\n]\s*", " ", cell.strip())
    return unicodedata.normalize("NFC", text[1:] if GUARDED.match(text) else text)


def inert_cell(value: Any) -> Any:
    """The value, a quotation mark before it where it is a text that a spreadsheet would run as a formula."""
    if not isinstance(value, str) or not FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value  # a number below zero is one


def write_rows(file: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV; `clean_cell` gives their texts back."""
    csv.writer(file, lineterminator="\n").writerows([inert_cell(cell) for cell in row] for row in rows)


def _trim(row: Row, width: int) -> Row:
    cells = row.cells
    while len(cells) > width and not cells[-1]:
        cells = cells[:-1]
    return Row(row.line, cells)


def _fit(row: Row, width: int, complain: Complain) -> Row:
    row = _trim(row, width)
    if len(row.cells) == width:
        return row
    advice = "a cell with a comma in it needs quotation marks"
    complain(f"has {len(row.cells)} cells, the header {width}; {advice}", row.line)
    return Row(row.line, (*row.cells, *[""] * width)[:width], whole=False)


def _check_header(header: Row, first: tuple[str, ...], others: tuple[str, ...] | None, expected: str) -> None:
    cells = tuple(cell.lower() for cell in header.cells)
    if not cells:
        raise _NoTableError(f"is empty, expected {expected}", None)
    for separator, name in SEPARATORS.items():
        if len(cells) == 1 and separator in cells[0]:
            raise _NoTableError(f"cells are separated by {name}; save it with commas", header.line)
    if cells[0] not in first:
        raise _NoTableError(f"the first cell is {quote(header.cells[0])}, expected {expected}", header.line)
    if len(cells) == 1:
        raise _NoTableError(f"the header has no cell after {quote(header.cells[0])}", header.line)
    if others is not None and cells[1:] != others:
        rest = quote(",".join(header.cells[1:]))
        raise _NoTableError(f"the header continues with {rest}, expected '{','.join(others)}'", header.line)


def _find_bad_names(cells: tuple[str, ...]) -> Iterator[str]:
    places: dict[str, int] = {}
    for place, cell in enumerate(cells, start=1):
        if not cell:
            yield f"cell {place} of the header is empty; name the column or remove it"
        elif is_odd(cell):
            yield f"cell {place} of the header, {quote(cell)}, has odd characters; rename the column"
        elif cell in places:
            yield f"{quote(cell)} is the name of both column {places[cell]} and column {place}; rename one"
        else:
            places[cell] = place


def is_odd(text: str) -> bool:
    """Whether a name holds control characters, or bytes that are not UTF-8."""
    return ODD.search(text) is not None


def quote(text: str) -> str:
    """Show a name or a cell, shortened where it is long."""
    return f"'{text}'" if len(text) <= LONGEST else f"'{text[:LONGEST]}…'"
