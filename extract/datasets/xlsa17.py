"""Reads the annotation files of the Proposed Splits (xlsa17): `res101.mat` and `att_splits.mat`.

Only labels, paths, splits and attributes are read: the features in `res101.mat` are another network's.
"""

import re
from pathlib import Path

import numpy as np
import scipy.io

from msdn.cache.annotations import Annotations, check_annotations
from msdn.extract.datasets.attributes import read_attribute_names, read_attribute_vectors
from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.errors import DatasetError

IMAGE_ROOT = re.compile(r".*(?:^|/)(?:images|JPEGImages)/+")  # greedy: anchors on the last one
PUBLISHED = {"trainval": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}
DIVISION = ("train_loc", "val_loc")
OPTIONAL = {"allclasses_names", *DIVISION}
FETCH_AGAIN = "fetch the Proposed Splits (xlsa17.zip) again"


def read_annotations(spec: DatasetSpec, data: Path) -> Annotations:
    """Read and check everything the annotation files say about a dataset."""
    folder = data / spec.annotations
    images = _load(folder / "res101.mat", "image_files", one_based=("labels",))
    classes = _load(
        folder / "att_splits.mat",
        "original_att",
        "allclasses_names",
        one_based=(*PUBLISHED.values(), *DIVISION),
    )
    labels, attributes = images["labels"], classes["original_att"].T
    paths = tuple(cut_image_root(path) for path in _texts(folder, images["image_files"]))
    splits = {name: np.sort(classes[key]) for name, key in PUBLISHED.items()}
    _check_lists(folder, labels, len(paths), attributes)
    _check_versions(folder, splits, len(paths))
    annotations = Annotations(
        dataset=spec.name,
        image_paths=paths,
        labels=labels,
        class_names=_name_classes(folder, classes, labels, paths, len(attributes)),
        attributes=attributes.astype(np.float64),
        attribute_names=read_attribute_names(data, spec.attribute_names, attributes.shape[1]),
        attribute_vectors=read_attribute_vectors(data, spec.attribute_vectors),
        splits=splits | divide_trainval(splits["trainval"], labels, *(classes.get(key) for key in DIVISION)),
    )
    check_annotations(annotations)
    _check_counts(spec, annotations)
    return annotations


def cut_image_root(path: str) -> str:
    """Return the path below the last `images/` or `JPEGImages/`, whatever machine it was written on."""
    return IMAGE_ROOT.sub("", path.replace("\\", "/"))


def divide_trainval(
    trainval: np.ndarray, labels: np.ndarray, train: np.ndarray | None, val: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Divide trainval by class into train and val.

    The published `train` and `val` rows decide where their classes are disjoint and are the seen ones;
    else every third seen class is a validation class.
    """
    seen = np.unique(labels[trainval])
    val_classes = seen[2::3]
    if train is not None and val is not None and max([*train, *val], default=0) < len(labels):
        both = [np.unique(labels[rows]) for rows in (train, val)]
        if not len(np.intersect1d(both[0], both[1])) and np.array_equal(np.union1d(both[0], both[1]), seen):
            val_classes = both[1]
    is_val = np.isin(labels[trainval], val_classes)
    return {"train": trainval[~is_val], "val": trainval[is_val]}


def _load(path: Path, *names: str, one_based: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read variables of a .mat file, those that count from 1 as int64 arrays that count from 0."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; it belongs to the Proposed Splits (xlsa17)")
    try:
        found = scipy.io.loadmat(path, variable_names=[*names, *one_based])
    except Exception as error:  # SciPy raises nearly anything on damaged files
        raise DatasetError(f"{path}: cannot be read as a MATLAB file ({error}); {FETCH_AGAIN}") from error
    missing = [name for name in (*names, *one_based) if name not in found and name not in OPTIONAL]
    if missing:
        raise DatasetError(
            f"{path}: '{missing[0]}' is missing; is it the file of the Proposed Splits (xlsa17)?"
        )
    arrays = {name: found[name] for name in names if name in found}
    return arrays | {name: _count_from_0(path, name, found[name]) for name in one_based if name in found}


def _count_from_0(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    values = np.asarray(array).reshape(-1)
    numeric = values.dtype.kind in "iuf"
    if not numeric or not ((values >= 0) & (values < 2**31) & (values == np.floor(values))).all():
        raise DatasetError(f"{path}: '{name}' holds something else than whole numbers; {FETCH_AGAIN}")
    return values.astype(np.int64) - 1  # some copies hold uint8: widened before 1 is subtracted


def _texts(folder: Path, cells: np.ndarray) -> list[str]:
    try:
        return [str(np.asarray(cell).reshape(-1)[0]) for cell in np.asarray(cells).reshape(-1)]
    except IndexError as error:
        raise DatasetError(f"{folder}: a list of names holds an empty one; {FETCH_AGAIN}") from error


def _name_classes(
    folder: Path, classes: dict[str, np.ndarray], labels: np.ndarray, paths: tuple[str, ...], count: int
) -> tuple[str, ...]:
    if "allclasses_names" in classes:
        return tuple(_texts(folder, classes["allclasses_names"]))
    names = [f"class {number + 1}" for number in range(count)]
    for label, path in zip(labels, paths, strict=True):
        names[label] = Path(path).parent.name
    return tuple(names)


def _check_lists(folder: Path, labels: np.ndarray, n: int, attributes: np.ndarray) -> None:
    if attributes.ndim != 2 or attributes.dtype.kind not in "iuf":
        raise DatasetError(f"{folder}: 'original_att' is no table of numbers; {FETCH_AGAIN}")
    if len(labels) != n or n == 0:
        raise DatasetError(f"{folder}/res101.mat: {len(labels)} labels for {n} images; {FETCH_AGAIN}")
    if labels.min() < 0 or labels.max() >= len(attributes):
        raise DatasetError(
            f"{folder}: labels run from {labels.min() + 1} to {labels.max() + 1}, but att_splits.mat has "
            f"attributes of {len(attributes)} classes; {FETCH_AGAIN}"
        )


def _check_versions(folder: Path, splits: dict[str, np.ndarray], n: int) -> None:
    for name, rows in splits.items():
        if len(rows) and not 0 <= rows[0] <= rows[-1] < n:
            raise DatasetError(f"{folder}: '{name}' points at image {rows[-1] + 1}, but res101.mat lists {n}")
    tests = np.union1d(splits["test_seen"], splits["test_unseen"])
    shared = np.intersect1d(splits["trainval"], tests)
    if len(shared):
        raise DatasetError(
            f"{folder}/att_splits.mat: {len(shared)} training images are test images too; this is version 1 of the "
            "splits, get version 2 (xlsa17.zip)"
        )


def _check_counts(spec: DatasetSpec, annotations: Annotations) -> None:
    for name, expected in spec.counts.items():
        got = len(annotations.splits[name])
        if got != expected:
            raise DatasetError(
                f"dataset '{spec.name}': split '{name}' has {got} images, expected {expected}; get version 2 of the "
                "Proposed Splits (xlsa17.zip)"
            )
