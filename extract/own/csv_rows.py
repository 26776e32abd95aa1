"""Reads a CSV file as a header and rows with their line numbers; what is wrong with it is collected."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from msdn.extract.own.mistakes import Report, is_odd, quote

SAVE_AS_UTF8 = "save it as UTF-8 text ('CSV UTF-8' in a spreadsheet)"
LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


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


def read_csv(report: Report, first_cells: tuple[str, ...]) -> CsvTable | None:
    """Read a CSV file whose header begins with one of `first_cells`; None where it is no such table.

    Spaces around cells, empty lines and empty cells behind the last column do not count.
    """
    text = _read_text(report)
    rows = None if text is None else _split(report, text)
    if rows is None:
        return None
    if not rows:
        report.add(f"is empty, expected a header row that begins with '{first_cells[0]}'")
        return None
    header, body = _trim(rows[0], 0), rows[1:]
    complaint = _complain_of_header(header.cells, first_cells)
    if complaint:
        report.add(complaint, header.line)
        return None
    for message in _find_bad_names(header.cells):
        report.add(message, header.line)
    if not body:
        report.add("has a header but no rows below it", header.line)
    return CsvTable(header, tuple(_fit(report, row, len(header.cells)) for row in body))


def _read_text(report: Report) -> str | None:
    data = report.file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        report.add(f"is UTF-16 text; {SAVE_AS_UTF8}", 1)
        return None
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        report.add(f"holds a zero byte, so it is no text file; {SAVE_AS_UTF8}", line)
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        report.add(f"byte 0x{byte:02X} is not UTF-8; {SAVE_AS_UTF8}", line)
        return None


def _split(report: Report, text: str) -> list[Row] | None:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows: list[Row] = []
    begin = 1
    try:
        for cells in reader:
            clean = tuple(_clean(cell) for cell in cells)
            if any(clean):
                rows.append(Row(begin, clean))
            begin = reader.line_num + 1
    except csv.Error as error:
        report.add(
            f"the row that begins here cannot be read ({error}); look for a quotation mark too many", begin
        )
        return None
    return rows


def _clean(cell: str) -> str:
    """Put a cell on one line, without outer spaces, its accents spelt in the usual one of two ways."""
    return unicodedata.normalize("NFC", LINE_BREAK.sub(" ", cell.strip()))


def _trim(row: Row, width: int) -> Row:
    cells = row.cells
    while len(cells) > width and not cells[-1]:
        cells = cells[:-1]
    return Row(row.line, cells)


def _fit(report: Report, row: Row, width: int) -> Row:
    trimmed = _trim(row, width)
    if len(trimmed.cells) == width:
        return trimmed
    report.add(
        f"has {len(trimmed.cells)} cells, the header {width}; a cell with a comma in it needs quotation marks",
        row.line,
    )
    return Row(row.line, (*trimmed.cells, *[""] * width)[:width], whole=False)


def _complain_of_header(cells: tuple[str, ...], first_cells: tuple[str, ...]) -> str:
    for separator, name in SEPARATORS.items():
        if len(cells) == 1 and separator in cells[0]:
            return f"cells are separated by {name}, expected commas; save it with commas"
    if cells[0].lower() not in first_cells:
        expected = " or ".join(f"'{cell}'" for cell in first_cells)
        return f"the first cell is {quote(cells[0])}, expected a header row that begins with {expected}"
    if len(cells) == 1:
        return f"the header has no cell after {quote(cells[0])}"
    return ""


def _find_bad_names(cells: tuple[str, ...]) -> Iterator[str]:
    places: dict[str, int] = {}
    for place, cell in enumerate(cells, start=1):
        if not cell:
            yield f"cell {place} of the header is empty; name the column or remove it"
        elif is_odd(cell):
            yield f"cell {place} of the header, {quote(cell)}, has odd characters; rename the column"
        elif cell in places:
            yield f"{quote(cell)} heads both column {places[cell]} and column {place}; rename one"
        else:
            places[cell] = place
