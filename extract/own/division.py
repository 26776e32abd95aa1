"""Divides the images of one's own dataset into splits by a rule that knows nothing but names; can write it down."""

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from msdn.cache.annotations import SPLIT_NAMES, Annotations
from msdn.extract.datasets.divide import divide_trainval
from msdn.extract.errors import DatasetError

RULE = "by SHA-256 of names, the first fifth of classes is unseen, of a seen class's images test_seen"
TRAINING = ("trainval", "train", "val")


@dataclass(frozen=True)
class Images:
    """What is to be divided: N paths, [N] labels, C class names."""

    paths: Sequence[str]
    labels: np.ndarray
    class_names: Sequence[str]


def divide_by_rule(images: Images) -> dict[str, np.ndarray]:
    """Divide images where nobody said how; depends on names only, and one name more changes little."""
    numbers = range(len(images.class_names))
    ranked = sorted(numbers, key=lambda number: _rank(images.class_names[number]))
    return divide_by_class(images, set(ranked[: _fifth(len(ranked))]))


def divide_by_class(images: Images, unseen: set[int]) -> dict[str, np.ndarray]:
    """Put the images of unseen classes into test_unseen, a fifth of each other class's into test_seen."""
    split_of = np.full(len(images.paths), "trainval", dtype="<U11")
    for label in range(len(images.class_names)):
        rows = np.flatnonzero(images.labels == label)
        if label in unseen:
            split_of[rows] = "test_unseen"
        elif len(rows) > 1:
            ranked = sorted(rows.tolist(), key=lambda row: _rank(images.paths[row]))
            split_of[ranked[: _fifth(len(rows))]] = "test_seen"
    return complete_splits(split_of, images.labels)


def complete_splits(split_of: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Turn each image's split into the rows of all five, trainval and its two parts from each other."""
    splits = {name: np.flatnonzero(split_of == name) for name in SPLIT_NAMES}
    if len(splits["trainval"]):
        return splits | divide_trainval(splits["trainval"], labels, None, None)
    return splits | {"trainval": np.union1d(splits["train"], splits["val"])}


def write_splits_csv(path: Path, annotations: Annotations) -> None:
    """Write a division down, so that it stays when images or classes are added."""
    if path.exists():
        raise DatasetError(f"{path}: is there already and decides; remove it to write another")
    parts = [name for name in SPLIT_NAMES if name not in TRAINING]
    parts += ["train", "val"] if len(annotations.splits["val"]) else ["trainval"]
    split_of = {int(row): name for name in parts for row in annotations.splits[name]}
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "split"])
        writer.writerows([annotations.image_paths[row], split_of[row]] for row in sorted(split_of))


def _fifth(count: int) -> int:
    """A fifth, to the nearest whole number, and at least 1."""
    return max((count + 2) // 5, 1)


def _rank(name: str) -> str:
    return sha256(unicodedata.normalize("NFC", name).encode()).hexdigest()
