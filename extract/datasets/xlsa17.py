"""Reads a dataset of the Proposed Splits (xlsa17): `res101.mat` and `att_splits.mat` together.

Only labels, paths, splits and attributes are read: the features in `res101.mat` are another network's.
"""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.annotations import Annotations, check_annotations
from msdn.extract.datasets import att_splits
from msdn.extract.datasets.attributes import read_attribute_names, read_attribute_vectors
from msdn.extract.datasets.lists import FETCH_AGAIN, count_from_0, load_lists, unwrap_texts
from msdn.extract.datasets.matfile import read_created
from msdn.extract.datasets.spec import UNDATED, Dataset, DatasetSpec
from msdn.extract.errors import DatasetError

FILE = "res101.mat"
IMAGE_ROOT = re.compile(r".*(?:^|/)(?:images|JPEGImages)/+")  # greedy: anchors on the last one


def read_dataset(spec: DatasetSpec, data: Path) -> Dataset:
    """Read and check everything the annotation files say about a dataset."""
    folder = data / spec.annotations
    images = load_lists(folder / FILE, needed=("labels", "image_files"))
    labels = count_from_0(folder / FILE, "labels", images["labels"])
    files = unwrap_texts(folder / FILE, images["image_files"])
    paths = tuple(cut_image_root(path, spec.flat) for path in files)
    classes = att_splits.read_class_table(folder / att_splits.FILE)
    _check_labels(folder, labels, len(paths), len(classes.attributes))
    names = classes.names or _name_classes(labels, paths, len(classes.attributes))
    count = classes.attributes.shape[1]
    attribute_names = read_attribute_names(data, spec.attribute_names, count)
    vectors = read_attribute_vectors(data, spec.attribute_vectors, attribute_names, count)
    annotations = Annotations(
        dataset=spec.name,
        image_paths=paths,
        labels=labels,
        class_names=names,
        attributes=classes.attributes,
        attribute_names=attribute_names,
        attribute_vectors=None if vectors is None else vectors.values,
        splits=att_splits.read_splits(folder / att_splits.FILE, labels),
    )
    check_annotations(annotations)
    _check_counts(spec, folder / att_splits.FILE, annotations)
    sources = {"lists": _describe_lists(folder)} | ({} if vectors is None else {"vectors": vectors.source})
    return Dataset(annotations, data / spec.images, sources)


def _describe_lists(folder: Path) -> dict[str, Any]:
    """Say which copy of the lists this is: the dates in the files' headers, and the splits' hash."""
    lists, splits = (folder / name for name in (FILE, att_splits.FILE))
    return {
        FILE: read_created(lists) or UNDATED,
        att_splits.FILE: read_created(splits) or UNDATED,
        f"{att_splits.FILE} sha256": sha256(splits.read_bytes()).hexdigest(),
    }


def cut_image_root(path: str, flat: bool = False) -> str:
    """Return the path below the last `images/` or `JPEGImages/`, whatever machine it was written on.

    Of a `flat` dataset, whose images all lie in one folder, only the file's name counts.
    """
    path = path.replace("\\", "/")
    return path.rpartition("/")[2] if flat else IMAGE_ROOT.sub("", path)


def _name_classes(labels: np.ndarray, paths: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Name classes that the lists do not name: by their image folders, or else by plain numbers."""
    numbers = att_splits.number_classes(count)
    names = list(numbers)
    for label, path in zip(labels, paths, strict=True):
        names[label] = Path(path).parent.name
    return tuple(names if all(names) and len(set(names)) == count else numbers)


def _check_labels(folder: Path, labels: np.ndarray, n: int, classes: int) -> None:
    if len(labels) != n or n == 0:
        raise DatasetError(f"{folder / FILE}: {len(labels)} labels for {n} images; {FETCH_AGAIN}")
    if labels.min() < 0 or labels.max() >= classes:
        raise DatasetError(
            f"{folder / FILE}: labels run from {labels.min() + 1} to {labels.max() + 1}, but {att_splits.FILE} has "
            f"attributes of {classes} classes; {FETCH_AGAIN}"
        )


def _check_counts(spec: DatasetSpec, file: Path, annotations: Annotations) -> None:
    for name, expected in spec.counts.items():
        got = len(annotations.splits[name])
        if got != expected:
            raise DatasetError(
                f"{file} (file of {read_created(file) or 'unknown date'}): split '{name}' of '{spec.name}' has {got} "
                f"images, expected {expected}; get version 2 of the Proposed Splits (xlsa17.zip)"
            )
