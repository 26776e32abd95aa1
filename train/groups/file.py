"""Files of groups: CSV with the header `attribute,group`, attributes by name or by number from 1."""

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from msdn.train.groups.errors import GroupsError
from msdn.train.groups.groups import AttributeGroups, collect_groups

HEADER = ["attribute", "group"]
_LARGEST = 4 * 2**20  # bytes; a thousand attributes take some 50 thousand
_NAMED = 5  # attributes that an error lists
_LONGEST = 60  # letters of a cell that an error shows
_UTF8 = "save it as UTF-8 text ('CSV UTF-8' in a spreadsheet)"


def read_groups(path: Path, names: Sequence[str], attributes: int) -> AttributeGroups:
    """Read a file that puts each of so many attributes in a group; `names` are theirs, or none."""
    group_of: dict[int, str] = {}
    lines: dict[int, int] = {}
    known = _Attributes(names, attributes)
    for line, (cell, group) in _read_rows(path):
        where = f"{path}:{line}"
        attribute = known.find(where, cell)
        if attribute in lines:
            raise GroupsError(
                f"{where}: attribute {_quote(cell)} is in line {lines[attribute]} already; keep one"
            )
        if not group:
            raise GroupsError(f"{where}: attribute {_quote(cell)} has no group; name one in the second cell")
        group_of[attribute], lines[attribute] = group, line
    missing = [known.describe(number) for number in range(attributes) if number not in group_of]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise GroupsError(
            f"{path}: has no row for {', '.join(missing[:_NAMED])}{more}; every attribute needs a group"
        )
    return collect_groups(f"file {path.name}", [group_of[number] for number in range(attributes)])


def write_groups(path: Path, groups: AttributeGroups, names: Sequence[str]) -> None:
    """Write a file to edit and give back; one that exists is not touched."""
    by_name = _tell_apart(names)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for group in groups.groups:
                for number in group.attributes.tolist():
                    writer.writerow([_clean(names[number]) if by_name else number + 1, group.name])
    except FileExistsError as error:
        raise GroupsError(f"{path}: is there already; choose another name, or remove it first") from error


class _Attributes:
    """Finds attributes by what a cell says."""

    def __init__(self, names: Sequence[str], count: int) -> None:
        self._names = [_clean(name) for name in names] if _tell_apart(names) else []
        self._number_of = {name: number for number, name in enumerate(self._names)}
        self._count = count

    def find(self, where: str, cell: str) -> int:
        """The attribute, numbered from 0; a cell that is both a name and a number is a name."""
        if not cell:
            raise GroupsError(f"{where}: the first cell is empty, expected an attribute's name or number")
        if cell in self._number_of:
            return self._number_of[cell]
        digits = cell.lstrip("0")
        is_number = cell.isascii() and cell.isdecimal() and bool(digits)
        if is_number and len(digits) <= len(str(self._count)) and int(digits) <= self._count:
            return int(digits) - 1
        raise GroupsError(f"{where}: there is no attribute {_quote(cell)}; {self._hint(cell)}")

    def _hint(self, cell: str) -> str:
        numbers = f"numbers run from 1 to {self._count}"
        if not self._names:
            return f"the dataset has no names that tell them apart, and {numbers}"
        near = get_close_matches(cell, self._number_of, n=1)
        return f"did you mean {_quote(near[0])}?" if near else f"'msdn data groups' lists them, {numbers}"

    def describe(self, number: int) -> str:
        """An attribute as an error names it."""
        return _quote(self._names[number]) if self._names else str(number + 1)


def _tell_apart(names: Sequence[str]) -> bool:
    """Whether there are names, each for one attribute and such as a cell gives back."""
    clean = [_clean(name) for name in names]
    return bool(clean) and len(set(clean)) == len(clean) and all(name and not _is_odd(name) for name in clean)


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row's line and two cells; empty rows, and empty cells behind the second, do not count."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True, skipinitialspace=True)
    header, begin = False, 1
    try:
        for raw in reader:
            cells, line = [_clean(cell) for cell in raw], begin
            begin = reader.line_num + 1
            if any(cells) and not header:
                _check_header(f"{path}:{line}", cells)
                header = True
            elif any(cells):
                yield line, _check_row(f"{path}:{line}", cells)
    except csv.Error as error:
        raise GroupsError(
            f"{path}:{begin}: cannot be read as CSV ({error}); look for a quotation mark too many"
        ) from error
    if not header:
        raise GroupsError(
            f"{path}: is empty, expected the header 'attribute,group' and a row for every attribute"
        )


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise GroupsError(f"{path}: is larger than {_LARGEST // 2**20} MiB, so it is no file of groups")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise GroupsError(f"{path}:{line}: is not UTF-8; {_UTF8}") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise GroupsError(f"{path}:{line}: holds a zero byte; {_UTF8}")
    return text


def _check_header(where: str, cells: list[str]) -> None:
    cells = _trim(cells)
    if [cell.lower() for cell in cells] == HEADER:
        return
    if len(cells) == 1 and any(mark in cells[0] for mark in ";\t"):
        raise GroupsError(f"{where}: the cells are not separated by commas; save the file with commas")
    raise GroupsError(
        f"{where}: begins with {_quote(','.join(cells))}, expected the header 'attribute,group'"
    )


def _check_row(where: str, cells: list[str]) -> list[str]:
    trimmed = _trim(cells)
    if len(trimmed) > 2:
        raise GroupsError(
            f"{where}: has {len(trimmed)} cells, expected 2; a name with a comma in it needs quotation marks"
        )
    for cell in trimmed:
        if _is_odd(cell):
            raise GroupsError(f"{where}: {_quote(cell)} has odd characters; write it anew")
    return [*trimmed, ""][:2]


def _trim(cells: list[str]) -> list[str]:
    """Leave out empty cells at the end, which spreadsheets like to add."""
    filled = [number for number, cell in enumerate(cells, start=1) if cell]
    return cells[: filled[-1]]


def _clean(cell: str) -> str:
    """Outer spaces do not count, nor which of two ways an accent is spelt."""
    return unicodedata.normalize("NFC", cell.strip())


def _is_odd(text: str) -> bool:
    """Whether it holds control characters, or bytes that are not UTF-8."""
    return any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def _quote(cell: str) -> str:
    """A cell as an error shows it, printable and not too long."""
    shown = "".join(ascii(letter)[1:-1] if _is_odd(letter) else letter for letter in cell)
    return f"'{shown}'" if len(shown) <= _LONGEST else f"'{shown[:_LONGEST]}…'"
