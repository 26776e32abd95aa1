"""Reads the annotation files of the Proposed Splits (xlsa17): `res101.mat` and `att_splits.mat`.

Only labels, paths, splits and attributes are read: the features in `res101.mat` are another network's.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from msdn.cache.annotations import Annotations, check_annotations
from msdn.extract.datasets.attributes import read_attribute_names, read_attribute_vectors
from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.errors import DatasetError

IMAGE_ROOT = re.compile(r".*(?:^|/)(?:images|JPEGImages)/+")  # greedy: anchors on the last one
PUBLISHED = {"trainval": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}


def read_annotations(spec: DatasetSpec, data: Path) -> Annotations:
    """Read and check everything the annotation files say about a dataset."""
    folder = data / spec.annotations
    images = _load(folder / "res101.mat", "labels", "image_files")
    classes = _load(
        folder / "att_splits.mat",
        "original_att",
        "allclasses_names",
        "train_loc",
        "val_loc",
        *PUBLISHED.values(),
    )
    labels = _flatten(images["labels"]) - 1
    paths = tuple(cut_image_root(path) for path in _texts(images["image_files"]))
    attributes = np.asarray(classes["original_att"], np.float64).T
    splits = {name: np.sort(_flatten(classes[key]) - 1) for name, key in PUBLISHED.items()}
    _check_versions(folder, splits, len(paths))
    annotations = Annotations(
        dataset=spec.name,
        image_paths=paths,
        labels=labels,
        class_names=_name_classes(classes, labels, paths, len(attributes)),
        attributes=attributes,
        attribute_names=read_attribute_names(data, spec.attribute_names, attributes.shape[1]),
        attribute_vectors=read_attribute_vectors(data, spec.attribute_vectors),
        splits=splits | divide_trainval(splits["trainval"], labels, classes),
    )
    check_annotations(annotations)
    _check_counts(spec, annotations)
    return annotations


def cut_image_root(path: str) -> str:
    """Return the path below the last `images/` or `JPEGImages/`, whatever machine it was written on."""
    return IMAGE_ROOT.sub("", path.replace("\\", "/"))


def divide_trainval(
    trainval: np.ndarray, labels: np.ndarray, classes: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Divide trainval by class into train and val: as published where sound, else every third class is val."""
    seen = np.unique(labels[trainval])
    val_classes = seen[2::3]
    if "train_loc" in classes and "val_loc" in classes:
        train_published, val_published = (
            np.unique(labels[_flatten(classes[key]) - 1]) for key in ("train_loc", "val_loc")
        )
        disjoint = not len(np.intersect1d(train_published, val_published))
        if disjoint and np.array_equal(np.union1d(train_published, val_published), seen):
            val_classes = val_published
    is_val = np.isin(labels[trainval], val_classes)
    return {"train": trainval[~is_val], "val": trainval[is_val]}


def _load(path: Path, *names: str) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; it belongs to the Proposed Splits (xlsa17)")
    try:
        found: dict[str, Any] = scipy.io.loadmat(path, variable_names=names)
    except Exception as error:  # SciPy raises nearly anything on damaged files
        raise DatasetError(f"{path}: cannot be read as a MATLAB file ({error}); fetch it again") from error
    optional = {"allclasses_names", "train_loc", "val_loc"}
    for name in names:
        if name not in found and name not in optional:
            raise DatasetError(
                f"{path}: '{name}' is missing; is it the file of the Proposed Splits (xlsa17)?"
            )
    return found


def _flatten(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).reshape(-1).astype(np.int64)  # some copies hold uint8: cast before subtracting


def _texts(cells: np.ndarray) -> list[str]:
    return [str(np.asarray(cell).reshape(-1)[0]) for cell in np.asarray(cells).reshape(-1)]


def _name_classes(
    classes: dict[str, Any], labels: np.ndarray, paths: tuple[str, ...], count: int
) -> tuple[str, ...]:
    if "allclasses_names" in classes:
        return tuple(_texts(classes["allclasses_names"]))
    names = [f"class {number + 1}" for number in range(count)]
    for label, path in zip(labels, paths, strict=True):
        names[label] = Path(path).parent.name
    return tuple(names)


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
