"""All attributes of a dataset in groups, and where the groups come from: in a run's manifest, in CSV files."""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from msdn.cache.csv_table import clean_cell, is_odd, quote, read_csv, write_rows
from msdn.cache.files import create_file
from msdn.terminal import escape
from msdn.train.errors import RunError, TrainError
from msdn.train.models.parts.problem import AttributeGroup

HEADER = ("attribute", "group")
LARGEST = 4 * 2**20  # bytes of a file; a thousand attributes take some 50 thousand
NAMED = 5  # attributes that an error lists


class GroupsError(TrainError):
    """A file of groups cannot be used, or is in the way."""


@dataclass(frozen=True)
class AttributeGroups:
    """Every attribute in exactly one group.

    Attributes:
        source: where the groups come from, in words.
        groups: the groups, in the order of the model's sub-nets.
    """

    source: str
    groups: tuple[AttributeGroup, ...]

    @property
    def sizes(self) -> list[int]:
        """How many attributes each group has."""
        return [len(group.attributes) for group in self.groups]

    @property
    def order(self) -> np.ndarray:
        """The attributes' numbers, group by group."""
        return np.concatenate([group.attributes for group in self.groups])

    def as_json(self) -> dict[str, Any]:
        """The groups as JSON knows them, attributes numbered from 1 as in files of groups."""
        groups = [{"name": one.name, "attributes": (one.attributes + 1).tolist()} for one in self.groups]
        return {"source": self.source, "groups": groups}

    @classmethod
    def from_json(cls, stored: Any, attributes: int, file: Path) -> "AttributeGroups":
        """The groups of so many attributes that `as_json` gave; `file` holds them, for the error."""
        try:
            members = [(str(one["name"]), np.array(one["attributes"], np.int64)) for one in stored["groups"]]
            groups = tuple(AttributeGroup(name, numbers.reshape(-1) - 1) for name, numbers in members)
            found = cls(str(stored["source"]), groups)
            is_same = json.dumps(found.as_json(), sort_keys=True) == json.dumps(stored, sort_keys=True)
        except (TypeError, KeyError, ValueError, OverflowError):
            is_same = False
        if not is_same:
            raise RunError(f"{file}: damaged, the attribute groups cannot be read; train the model again")
        if not is_partition(groups, attributes):
            what = f"the groups do not hold each of {attributes} attributes once, in ascending order"
            raise RunError(f"{file}: damaged, {what}; train the model again")
        return found


def collect_groups(source: str, group_of: Sequence[str]) -> AttributeGroups:
    """Put attributes of the same group name together; groups come in the order of their first attribute."""
    members: dict[str, list[int]] = {}
    for attribute, name in enumerate(group_of):
        members.setdefault(name, []).append(attribute)
    groups = (AttributeGroup(name, np.array(numbers)) for name, numbers in members.items())
    return AttributeGroups(source, tuple(groups))


def is_partition(groups: Iterable[AttributeGroup], attributes: int) -> bool:
    """Whether each of so many attributes is in one group, ascending in it, and no group is empty."""
    members = [group.attributes for group in groups]
    if not members or not all(len(numbers) and (np.diff(numbers) > 0).all() for numbers in members):
        return False
    return np.array_equal(np.sort(np.concatenate(members)), np.arange(attributes))


def read_groups(path: Path, names: Sequence[str], attributes: int) -> AttributeGroups:
    """Read a CSV file that puts each of so many attributes, by name or by number from 1, in a group.

    `names` are the attributes', or none.
    """

    def refuse(message: str, line: int | None = None) -> NoReturn:
        raise GroupsError(escape(f"{path}{f':{line}' if line else ''}: {message}"))

    table = read_csv(path, HEADER[:1], refuse, others=HEADER[1:], largest=LARGEST)
    assert table is not None, "no table and no mistake"
    names = [clean_cell(name) for name in names] if _tell_apart(names) else []
    group_of: dict[int, str] = {}
    lines: dict[int, int] = {}
    for row in table.rows:
        cell, group = row.cells
        if is_odd(cell + group):
            refuse(f"{quote(cell)},{quote(group)} has odd characters; write it again", row.line)
        number = _find_attribute(cell, names, attributes)
        if number is None:
            refuse(f"there is no attribute {quote(cell)}; {_hint(cell, names, attributes)}", row.line)
        if number in lines:
            refuse(f"attribute {quote(cell)} is in line {lines[number]} already; keep one", row.line)
        if not group:
            refuse(f"attribute {quote(cell)} has no group; name one in the second cell", row.line)
        group_of[number], lines[number] = group, row.line
    missing = [quote(names[n]) if names else str(n + 1) for n in range(attributes) if n not in group_of]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        refuse(f"has no row for {', '.join(missing[:NAMED])}{more}; every attribute needs a group")
    return collect_groups(f"file {path.name}", [group_of[number] for number in range(attributes)])


def write_groups(path: Path, groups: AttributeGroups, names: Sequence[str]) -> None:
    """Write a file to edit and give back; one that exists is not touched."""
    by_name = _tell_apart(names)
    text = io.StringIO()
    write_rows(text, [HEADER])
    for group in groups.groups:
        numbers = group.attributes.tolist()
        named = [clean_cell(names[number]) if by_name else number + 1 for number in numbers]
        write_rows(text, [(name, group.name) for name in named])
    create_file(path, text.getvalue().encode(), "--csv")


def _find_attribute(cell: str, names: Sequence[str], count: int) -> int | None:
    """The attribute, numbered from 0; a cell that is both a name and a number is a name."""
    if cell in names:
        return names.index(cell)
    is_number = cell.isascii() and cell.isdecimal() and len(cell.lstrip("0")) <= len(str(count))
    return int(cell) - 1 if is_number and 1 <= int(cell) <= count else None


def _hint(cell: str, names: Sequence[str], count: int) -> str:
    numbers = f"numbers run from 1 to {count}"
    if not names:
        return f"the dataset has no names that tell them apart, and {numbers}"
    near = get_close_matches(cell, names, n=1)
    return f"did you mean {quote(near[0])}?" if near else f"'msdn data groups' lists them, {numbers}"


def _tell_apart(names: Sequence[str]) -> bool:
    """Whether there are names, each for one attribute and such as a cell gives back."""
    clean = [clean_cell(name) for name in names]
    return bool(clean) and len(set(clean)) == len(clean) and all(name and not is_odd(name) for name in clean)
