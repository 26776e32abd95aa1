"""Reads `att_splits.mat` of the Proposed Splits: class attributes, class names and splits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdn.extract.datasets.divide import divide_trainval
from msdn.extract.datasets.lists import FETCH_AGAIN, count_from_0, load_lists, unwrap_texts
from msdn.extract.datasets.matfile import read_created
from msdn.extract.errors import DatasetError

FILE = "att_splits.mat"
PUBLISHED = {"trainval": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}
DIVISION = ("train_loc", "val_loc")  # not in all copies, and not sound in all
TABLES = ("original_att", "att")  # some copies have only the normalised one
NAMES = "allclasses_names"  # not in all copies


@dataclass(frozen=True)
class ClassTable:
    """What the file says of the classes.

    Attributes:
        attributes: [C, K], raw where the file has them so.
        names: C names, or none.
    """

    attributes: np.ndarray
    names: tuple[str, ...]


def read_class_table(path: Path) -> ClassTable:
    """Read the classes' attributes and names."""
    found = load_lists(path, optional=(*TABLES, NAMES))
    tables = [found[name] for name in TABLES if name in found]
    if not tables or tables[0].ndim != 2 or tables[0].dtype.kind not in "iuf":
        raise DatasetError(f"{path}: holds no table of attributes (original_att); {FETCH_AGAIN}")
    names = tuple(unwrap_texts(path, found[NAMES])) if NAMES in found else ()
    return ClassTable(tables[0].T.astype(np.float64), names)


def number_classes(count: int) -> tuple[str, ...]:
    """Return the names of classes that nothing names."""
    return tuple(f"class {number + 1}" for number in range(count))


def read_splits(path: Path, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Read the five splits of images with these labels, and refuse what cannot be version 2."""
    found = load_lists(path, needed=tuple(PUBLISHED.values()), optional=DIVISION)
    rows = {key: count_from_0(path, key, array) for key, array in found.items()}
    splits = {name: np.sort(rows[key]) for name, key in PUBLISHED.items()}
    _check_version(path, splits, len(labels))
    return splits | divide_trainval(splits["trainval"], labels, *(rows.get(key) for key in DIVISION))


def _check_version(path: Path, splits: dict[str, np.ndarray], n: int) -> None:
    for name, rows in splits.items():
        if len(rows) and not 0 <= rows[0] <= rows[-1] < n:
            raise DatasetError(f"{path}: '{name}' points at image {rows[-1] + 1}, but there are {n}")
    tests = np.union1d(splits["test_seen"], splits["test_unseen"])
    shared = np.intersect1d(splits["trainval"], tests)
    if len(shared):
        raise DatasetError(
            f"{path}: {len(shared)} training images are test images too; this is version 1 of the splits (file of "
            f"{read_created(path) or 'unknown date'}), whose figures are worth nothing; get version 2 (xlsa17.zip)"
        )
    left_out = n - len(np.union1d(tests, splits["trainval"]))
    if left_out:
        raise DatasetError(f"{path}: {left_out} of {n} images are in no split; {FETCH_AGAIN}")
