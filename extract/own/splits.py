"""Divides the images of one's own dataset: as `splits.csv` says, or by a rule that knows nothing but names."""

import io
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from msdn.cache.annotations import SPLIT_NAMES, Annotations
from msdn.cache.csv_table import CsvTable, quote, write_rows
from msdn.cache.files import create_file, remove_leftovers
from msdn.extract.datasets.proposed_splits import divide_trainval
from msdn.extract.errors import DatasetError
from msdn.extract.own.mistakes import Mistake, Report, refuse

RULE = "by SHA-256 of names, the first fifth of classes is unseen, of a seen class's images test_seen"
TRAINING = ("trainval", "train", "val")
KINDS = ("seen", "unseen")
FEWEST_SEEN = 2
Splits = dict[str, np.ndarray]


@dataclass(frozen=True)
class Images:
    """What is to be divided: N paths, [N] labels, C class names."""

    paths: Sequence[str]
    labels: np.ndarray
    class_names: Sequence[str]

    @property
    def classes(self) -> list[int]:
        """Those that have images; the others are divided nowhere."""
        return [int(label) for label in np.unique(self.labels)]


def divide_by_rule(images: Images) -> Splits:
    """Divide images where nobody said how; depends on names only, and one name more changes little."""
    ranked = sorted(images.classes, key=lambda number: _rank(images.class_names[number]))
    return _divide_by_class(images, set(ranked[: _fifth(len(ranked))]))


def _divide_by_class(images: Images, unseen: set[int]) -> Splits:
    """Put the images of unseen classes into test_unseen, a fifth of each other class's into test_seen."""
    split_of = np.full(len(images.paths), "trainval", dtype="<U11")
    for label in range(len(images.class_names)):
        rows = np.flatnonzero(images.labels == label)
        if label in unseen:
            split_of[rows] = "test_unseen"
        elif len(rows) > 1:
            ranked = sorted(rows.tolist(), key=lambda row: _rank(images.paths[row]))
            split_of[ranked[: _fifth(len(rows))]] = "test_seen"
    return _complete(split_of, images.labels)


def _fifth(count: int) -> int:
    """A fifth, to the nearest whole number, and at least 1."""
    return max((count + 2) // 5, 1)


def _rank(name: str) -> str:
    return sha256(unicodedata.normalize("NFC", name).encode()).hexdigest()


def _complete(split_of: np.ndarray, labels: np.ndarray) -> Splits:
    """Turn each image's split into the rows of all five, trainval and its two parts from each other."""
    splits = {name: np.flatnonzero(split_of == name) for name in SPLIT_NAMES}
    if len(splits["trainval"]):
        return splits | divide_trainval(splits["trainval"], labels)
    return splits | {"trainval": np.union1d(splits["train"], splits["val"])}


def write_splits_csv(path: Path, annotations: Annotations) -> None:
    """Write a division down, so that it stays when images or classes are added."""
    remove_leftovers(path)
    if path.exists():
        raise DatasetError(f"{path}: already exists and is used; remove it to write a new one")
    parts = [name for name in SPLIT_NAMES if name not in TRAINING]
    parts += ["train", "val"] if len(annotations.splits["val"]) else ["trainval"]
    split_of = {int(row): name for name in parts for row in annotations.splits[name]}
    text = io.StringIO()
    rows = ((annotations.image_paths[row], split_of[row]) for row in sorted(split_of))
    write_rows(text, [("image", "split"), *rows])
    create_file(path, text.getvalue().encode(), "folder")


def read_splits_csv(
    path: Path, image_paths: Sequence[str], labels: np.ndarray, class_names: Sequence[str]
) -> Splits:
    """Read the rows of all five splits, or raise a `DatasetError` that names the file's mistakes."""
    found: list[Mistake] = []
    splits = read_splits(path, Images(image_paths, labels, class_names), found)
    refuse(found)
    return splits


def read_splits(path: Path, images: Images, found: list[Mistake]) -> Splits:
    """Read either form of the file; where `found` has gained mistakes, what is returned is not to be used."""
    report, before = Report(path, found), len(found)
    table = report.read_csv(("image", "class"), ("split",))
    if table is None:
        return {}
    by_class = table.header.cells[0].lower() == "class"
    splits = (_read_classes if by_class else _read_images)(report, table, images)
    if len(found) == before:
        seen = len(np.unique(images.labels[splits["trainval"]]))
        if not len(splits["test_unseen"]):
            report.add("no class is unseen; at least one class must stay out of training")
        if seen < FEWEST_SEEN:
            report.add(f"{seen} classes have training images, at least {FEWEST_SEEN} are needed")
    return splits


def _read_classes(report: Report, table: CsvTable, images: Images) -> Splits:
    places = {name: number for number, name in enumerate(images.class_names)}
    listed = _read_pairs(report, table, "class", places.get, KINDS)
    _find_unlisted(report, "classes", {label: images.class_names[label] for label in images.classes}, listed)
    return _divide_by_class(images, {number for number, (kind, _) in listed.items() if kind == "unseen"})


def _read_images(report: Report, table: CsvTable, images: Images) -> Splits:
    places = {unicodedata.normalize("NFC", name): row for row, name in enumerate(images.paths)}

    def find(text: str) -> int | None:
        plain = text.replace("\\", "/").removeprefix("./")
        return next((places[t] for t in (text, plain, plain.removeprefix("images/")) if t in places), None)

    before = len(report.found)
    listed = _read_pairs(report, table, "image", find, SPLIT_NAMES)
    _find_unlisted(report, "images", dict(enumerate(images.paths)), listed)
    if len(report.found) == before:
        _find_contradictions(report, listed, images)
    split_of = [listed[row][0] if row in listed else "" for row in range(len(images.paths))]
    return _complete(np.array(split_of), images.labels)


def _read_pairs(
    report: Report, table: CsvTable, what: str, find: Callable[[str], int | None], known: Sequence[str]
) -> dict[int, tuple[str, int]]:
    """Return for every number that `find` gives to a first cell its split and line."""
    listed: dict[int, tuple[str, int]] = {}
    for row in table.rows:
        name, split = row.cells[0], row.cells[1].lower()
        number = find(name)
        if number is not None and number in listed:
            line = listed[number][1]
            report.add(f"{what} {quote(name)} is already in line {line}; keep one", row.line)
        elif number is not None:
            listed[number] = (split, row.line)
        elif row.whole:
            report.add(f"there is no {what} {quote(name)}; fix the name or remove the row", row.line)
        if row.whole and split not in known:
            report.add(f"{quote(split)} is not a split of {what} rows; expected {', '.join(known)}", row.line)
    return listed


def _find_unlisted(report: Report, what: str, names: Mapping[int, str], listed: Iterable[int]) -> None:
    missing = sorted(names.keys() - {*listed})
    if missing:
        count, example = f"{len(missing)} of {len(names)}", quote(names[missing[0]])
        report.add(f"{count} {what} have no row, first {example}; every one needs a row")


def _find_contradictions(report: Report, listed: dict[int, tuple[str, int]], images: Images) -> None:
    """Find classes whose images are in splits that no class may share."""
    lines: dict[int, dict[str, int]] = {}  # of each class: the first line of each split
    for row, (split, line) in listed.items():
        lines.setdefault(int(images.labels[row]), {}).setdefault(split, line)
    for label, at in lines.items():
        name = quote(images.class_names[label])
        training = next((split for split in TRAINING if split in at), None)
        if training and "test_unseen" in at:
            both = f"'test_unseen' here and in '{training}' in line {at[training]}"
            advice = "images of an unseen class cannot be used for training"
            report.add(f"class {name} is in {both}; {advice}", at["test_unseen"])
        if "train" in at and "val" in at:
            both = f"'val' here and in 'train' in line {at['train']}"
            advice = "train and val divide classes, not images; to let msdn divide them, write 'trainval' everywhere"
            report.add(f"class {name} is in {both}; {advice}", at["val"])
        if not training and "test_seen" in at:
            report.add(
                f"class {name} is in 'test_seen', but none of its images is for training", at["test_seen"]
            )
    _find_mixture(report, listed.values())


def _find_mixture(report: Report, listed: Iterable[tuple[str, int]]) -> None:
    """Find 'train' and 'val' beside 'trainval', or one without the other."""
    at: dict[str, int] = {}  # the first line of each split
    for split, line in listed:
        at.setdefault(split, line)
    parts = [split for split in ("train", "val") if split in at]
    if parts and "trainval" in at:
        other = f"'{parts[0]}' in line {at[parts[0]]}"
        report.add(f"'trainval' here but {other}; use train and val, or trainval alone", at["trainval"])
    elif len(parts) == 1:
        advice = "write 'trainval' to let msdn make both"
        report.add(f"there is '{parts[0]}' but not the other of train and val; {advice}", at[parts[0]])
