"""Parts of a cache, each a file of its own with whole blocks of the rows: their division, their names, what they share.

The division follows from the number of rows and of rows in a block alone, so any number of workers agree on it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdn.cache.errors import CacheError
from msdn.cache.layout import ANNOTATIONS, GROWN, MIXED, PART
from msdn.cache.partial import SUFFIX

FEWEST = 64  # parts, where there are as many blocks: so many workers share the work of any dataset
MOST_BLOCKS = 512  # in a part: 16,384 rows of the usual blocks, 3 GB of 7x7x2048 numbers
MADE_BY = ("device", "versions")  # of a recipe: what may differ between rows that were not made together
NAME = re.compile(r"\.shard-(\d{4,})-of-(\d{4,})")


@dataclass(frozen=True)
class Part:
    """The rows from `start` to before `stop` of the cache `final`; part `number` of `total`, counted from 0."""

    final: Path
    number: int
    total: int
    start: int
    stop: int

    @property
    def path(self) -> Path:
        """Where the finished part lies: beside the cache."""
        return self.final.with_name(f"{self.final.name}.shard-{self.number:04}-of-{self.total:04}")


def divide(final: Path, rows: int, block_rows: int) -> list[Part]:
    """Cut the rows of a cache into parts of whole blocks, as even as can be."""
    blocks = -(-rows // block_rows)
    total = min(blocks, max(FEWEST, -(-blocks // MOST_BLOCKS)))
    edges = [min(number * blocks // total * block_rows, rows) for number in range(total + 1)]
    return [Part(final, number, total, edges[number], edges[number + 1]) for number in range(total)]


@dataclass(frozen=True)
class FoundParts:
    """The parts that lie beside a cache, by number, and into how many it was cut (0 where there are none)."""

    total: int
    finished: dict[int, Path]
    unfinished: dict[int, Path]

    @property
    def missing(self) -> list[int]:
        """The numbers of those that are not finished."""
        return [number for number in range(self.total) if number not in self.finished]

    @property
    def any_file(self) -> Path | None:
        """One of them, to learn from how all are made; None where there are none."""
        return next(iter([*self.finished.values(), *self.unfinished.values()]), None)


def planning_lock(final: Path) -> Path:
    """The file whose lock one worker holds while it settles what all parts share."""
    return final.with_name(final.name + ".shards.lock")


def find_parts(final: Path) -> FoundParts:
    """Find the parts beside a cache; parts of two divisions are refused."""
    finished: dict[int, Path] = {}
    unfinished: dict[int, Path] = {}
    totals: dict[int, Path] = {}
    for path in sorted(final.parent.iterdir()) if final.parent.is_dir() else []:
        name = path.name.removeprefix(final.name)
        match = NAME.fullmatch(name.removesuffix(SUFFIX)) if name != path.name else None
        if match:
            (unfinished if name.endswith(SUFFIX) else finished)[int(match[1])] = path
            totals[int(match[2])] = path
    if len(totals) > 1:
        first, second, *_ = totals.values()
        raise CacheError(f"{first} and {second.name} are parts of different divisions; remove those of one")
    return FoundParts(next(iter(totals), 0), finished, unfinished)


def name_numbers(numbers: list[int]) -> str:
    """Numbers in a sentence: `0, 3-7, 9`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def compare_recipes(
    stored: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield name and both values of everything that decides a feature's bits and differs between two provenances."""
    for key in sorted({*stored, *now}):
        before, after, name = stored.get(key), now.get(key), f"{prefix}{key}"
        if name in ("weights name", ANNOTATIONS, GROWN, MIXED):
            continue  # the weights' hash decides, wherever the file lies; the others decide no feature of a new row
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from compare_recipes(before, after, f"{name} ")
        elif before != after:
            yield name, before, after


def shared_recipe(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same for every part of a cache, wherever the part was made."""
    return {key: value for key, value in provenance.items() if key not in (PART, *MADE_BY)}
