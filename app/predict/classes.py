"""The classes that a prediction chooses among: a run's own, and new ones described by their attributes alone."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msdn.cache.csv_table import quote
from msdn.cache.errors import UnknownNameError, WrongUsageError
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import WORDS, read_attributes_csv, read_number
from msdn.train.errors import RunError
from msdn.train.runs.basis import Basis

SEEN, UNSEEN, NEW = "seen", "unseen", "new"
KINDS = (SEEN, UNSEEN)  # that a run knows


@dataclass(frozen=True)
class Candidates:
    """The classes to choose among.

    Attributes:
        names: C names.
        kinds: of each class, `SEEN` (trained on), `UNSEEN` (known to the run by its attributes), or `NEW`.
        attributes: [C, K], raw, in the dataset's units.
        attribute_names: K names, or none.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    attributes: np.ndarray
    attribute_names: tuple[str, ...]

    @property
    def seen(self) -> np.ndarray:
        """The numbers of the classes that were trained on."""
        return np.flatnonzero(np.array(self.kinds) == SEEN)


@dataclass(frozen=True)
class Wanted:
    """Which classes a user wants to choose among; by default all that the run knows.

    Attributes:
        among: the kinds of known classes to keep.
        drop: known classes to leave out.
        file: a CSV of new classes.
        only: leave out all known classes.
        fill: what stands for an attribute that the file has no column for.
        like: a known class that one more new class resembles.
        changes: in which attributes it differs.
        name: what that one is called.
    """

    among: tuple[str, ...] = KINDS
    drop: tuple[str, ...] = ()
    file: Path | None = None
    only: bool = False
    fill: str | None = None
    like: str | None = None
    changes: Mapping[str, float] = field(default_factory=dict)
    name: str | None = None


def choose_candidates(basis: Basis, wanted: Wanted) -> Candidates:
    """The known classes that are kept, and the new ones behind them."""
    known = known_candidates(basis)
    chosen = drop(select(known, () if wanted.only else wanted.among), known, wanted.drop)
    if wanted.file is not None:
        names, attributes = read_new_classes(wanted.file, basis, wanted.fill)
        chosen = add(chosen, names, attributes, str(wanted.file))
    if wanted.like is not None:
        changed = ", ".join(f"{name}={value:g}" for name, value in wanted.changes.items())
        name = wanted.name or f"{wanted.like} with {changed}"
        chosen = add(chosen, [name], edit_class(known, wanted.like, wanted.changes), "--like")
    return chosen


def known_candidates(basis: Basis) -> Candidates:
    """The classes that a run was trained with."""
    seen = set(basis.problem.seen.tolist())
    return Candidates(
        basis.class_names,
        tuple(SEEN if number in seen else UNSEEN for number in range(len(basis.class_names))),
        basis.problem.attributes,
        basis.attribute_names,
    )


def select(candidates: Candidates, kinds: Iterable[str]) -> Candidates:
    """The candidates of some kinds."""
    wanted = set(kinds)
    return _take(candidates, [n for n, kind in enumerate(candidates.kinds) if kind in wanted])


def drop(candidates: Candidates, known: Candidates, names: Sequence[str]) -> Candidates:
    """All candidates but these, which must be known ones."""
    for name in names:
        number_of(known, name)
    return _take(candidates, [n for n, name in enumerate(candidates.names) if name not in names])


def add(candidates: Candidates, names: Sequence[str], attributes: np.ndarray, where: str) -> Candidates:
    """The candidates and new ones behind them."""
    for name in names:
        if name in candidates.names:
            raise RunError(
                f"{where}: there is a class {quote(name)} already; give the new one another name, or leave the known "
                f"one out with --drop {quote(name)}"
            )
    return Candidates(
        (*candidates.names, *names),
        (*candidates.kinds, *[NEW] * len(names)),
        np.concatenate([candidates.attributes, attributes]),
        candidates.attribute_names,
    )


def read_new_classes(path: Path, basis: Basis, fill: str | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and attributes of the classes in a CSV; attributes it lacks are an error, or the known classes' mean."""
    known = basis.attribute_names
    if not known:
        raise RunError(
            f"{path}: cannot be used with this run: its attributes have no names; train on features "
            "whose attributes have names"
        )
    try:
        table = read_attributes_csv(path)
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); give a CSV of classes and attributes"
        ) from error
    columns = {name: column for column, name in enumerate(table.attribute_names)}
    strange = [name for name in columns if name not in known]
    if strange:
        near = difflib.get_close_matches(strange[0], known, n=1)
        hint = (
            f"; did you mean {quote(near[0])}?" if near else f"; its attributes are {', '.join(known[:3])}, …"
        )
        raise DatasetError(f"{path}: the run has no attribute {quote(strange[0])}{hint}")
    missing = [name for name in known if name not in columns]
    if missing and fill is None:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(
            f"{path}: has no column for the attribute {quote(missing[0])}{more}; add it, or take the mean of the known "
            "classes with --fill mean"
        )
    values = np.tile(basis.problem.attributes.mean(axis=0), (len(table.class_names), 1))
    for number, name in enumerate(known):
        if name in columns:
            values[:, number] = table.values[:, columns[name]]
    return table.class_names, values


def edit_class(candidates: Candidates, like: str, changes: Mapping[str, float]) -> np.ndarray:
    """The attributes [1, K] of a known class, with some of them changed."""
    values = candidates.attributes[number_of(candidates, like)].copy()
    for name, value in changes.items():
        if name not in candidates.attribute_names:
            raise UnknownNameError("attribute", name, candidates.attribute_names)
        values[candidates.attribute_names.index(name)] = value
    if not values.any():
        raise RunError(
            f"--like {quote(like)}: all its attributes are 0 now, so it looks like nothing; set one with --set"
        )
    return values[None]


def parse_changes(texts: Sequence[str], known: Candidates) -> dict[str, float]:
    """What `--set "attribute=value"` says; a value is written as in attributes.csv."""
    changes = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        number = read_number(value.strip())
        if (
            value.strip().lower() in WORDS and known.attributes.max() > 1
        ):  # a yes would be next to nothing there
            number = None
        if not equals or number is None:
            raise WrongUsageError(f"--set {quote(text)}: expected ATTRIBUTE=NUMBER{_example(known)}")
        changes[name.strip()] = number
    return changes


def _example(known: Candidates) -> str:
    """An attribute of the run's own, with the highest value that a class has of it."""
    if not known.attribute_names:
        return ""
    return f", such as {quote(f'{known.attribute_names[0]}={known.attributes[:, 0].max():g}')}"


def number_of(candidates: Candidates, name: str) -> int:
    """The number of a class."""
    if name not in candidates.names:
        raise UnknownNameError("class", name, candidates.names)
    return candidates.names.index(name)


def _take(candidates: Candidates, numbers: Sequence[int]) -> Candidates:
    return Candidates(
        tuple(candidates.names[n] for n in numbers),
        tuple(candidates.kinds[n] for n in numbers),
        candidates.attributes[list(numbers)],
        candidates.attribute_names,
    )
