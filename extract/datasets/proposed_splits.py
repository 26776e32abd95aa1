"""Reads a dataset of the Proposed Splits (xlsa17): `res101.mat` and `att_splits.mat`, names and vectors beside them.

Only labels, paths, splits and attributes are read: the features in `res101.mat` are another network's.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msdn.cache.annotations import LOCATIONS, Annotations, check_annotations
from msdn.cache.files import sha256_of
from msdn.extract.datasets.matfile import read_created, read_mat
from msdn.extract.datasets.spec import UNDATED, Dataset, DatasetSpec
from msdn.extract.errors import DatasetError
from msdn.extract.vectors.file import read_vectors

IMAGES_FILE, CLASSES_FILE = LISTS = ("res101.mat", "att_splits.mat")
IMAGE_ROOT = re.compile(r".*(?:^|/)(?:images|JPEGImages)/+")  # greedy: anchors on the last one
DIVISION = ("train_loc", "val_loc")  # not in all copies, and not sound in all
TABLES = ("original_att", "att")  # some copies have only the normalised one
CLASS_NAMES = "allclasses_names"  # not in all copies
MAT_NAMES = "attributes"  # the variable in SUN's attributes.mat, one cell per name
FETCH_AGAIN = "fetch the Proposed Splits (xlsa17.zip) again"


class ClassTable(NamedTuple):
    """What `att_splits.mat` says of the classes."""

    attributes: np.ndarray  # [C, K], raw where the file has them so
    names: tuple[str, ...]  # C names, or none


def read_dataset(spec: DatasetSpec, data: Path) -> Dataset:
    """Read and check everything the annotation files say about a dataset."""
    images_file, classes_file = (data / spec.annotations / name for name in LISTS)
    images = _load(images_file, needed=("labels", "image_files"))
    labels = _count_from_0(images_file, "labels", images["labels"])
    files = _unwrap_texts(images_file, images["image_files"])
    paths = tuple(cut_image_root(path, spec.flat) for path in files)
    classes = read_class_table(classes_file)
    _check_labels(images_file, labels, len(paths), len(classes.attributes))
    count = classes.attributes.shape[1]
    attribute_names = read_attribute_names(data, spec.attribute_names, count)
    dates = {file.name: read_created(file) or UNDATED for file in (images_file, classes_file)}
    digests = {f"{file.name} sha256": sha256_of(file) for file in (images_file, classes_file)}
    sources: dict[str, Any] = {"lists": {**dates, **digests}}
    names_file = find_names_file(data, spec.attribute_names)
    if names_file:
        sources["attribute_names"] = {"file": names_file.name, "sha256": sha256_of(names_file)}
    vectors = None
    if spec.attribute_vectors is not None and (data / spec.attribute_vectors).exists():
        found = read_vectors(data / spec.attribute_vectors, attribute_names, count)
        vectors, sources["vectors"] = found.values, found.source
    annotations = Annotations(
        dataset=spec.name,
        image_paths=paths,
        labels=labels,
        class_names=classes.names or _name_classes(labels, paths, len(classes.attributes)),
        attributes=classes.attributes,
        attribute_names=attribute_names,
        attribute_vectors=vectors,
        splits=read_splits(classes_file, labels),
    )
    check_annotations(annotations)
    other_counts = spec.find_other_counts(annotations)
    if other_counts:
        origin = f"{classes_file} (file of {_date(classes_file)})"
        raise DatasetError(f"{origin}: {other_counts}; get version 2 of the Proposed Splits (xlsa17.zip)")
    return Dataset(annotations, data / spec.images, sources)


def _date(path: Path) -> str:
    return read_created(path) or "unknown date"


def cut_image_root(path: str, flat: bool = False) -> str:
    """Return the path below the last `images/` or `JPEGImages/`, whatever machine it was written on.

    Of a `flat` dataset, whose images all lie in one folder, only the file's name counts.
    """
    path = path.replace("\\", "/")
    return path.rpartition("/")[2] if flat else IMAGE_ROOT.sub("", path)


def _name_classes(labels: np.ndarray, paths: Sequence[str], count: int) -> tuple[str, ...]:
    """Name classes that the lists do not name: by their image folders, or else by plain numbers."""
    folders = {int(label): Path(path).parent.name for label, path in zip(labels, paths, strict=True)}
    names = tuple(folders.get(label, f"class {label + 1}") for label in range(count))
    return names if all(names) and len(set(names)) == count else number_classes(count)


def number_classes(count: int) -> tuple[str, ...]:
    """Return the names of classes that nothing names."""
    return tuple(f"class {number + 1}" for number in range(count))


def _check_labels(file: Path, labels: np.ndarray, n: int, classes: int) -> None:
    if len(labels) != n or n == 0:
        raise DatasetError(f"{file}: {len(labels)} labels for {n} images; {FETCH_AGAIN}")
    if labels.min() < 0 or labels.max() >= classes:
        raise DatasetError(
            f"{file}: labels run from {labels.min() + 1} to {labels.max() + 1}, but {CLASSES_FILE} has "
            f"attributes of {classes} classes; {FETCH_AGAIN}"
        )


def read_class_table(path: Path) -> ClassTable:
    """Read the classes' attributes and names."""
    found = _load(path, optional=(*TABLES, CLASS_NAMES))
    tables = [found[name] for name in TABLES if name in found]
    if not tables or tables[0].ndim != 2 or tables[0].dtype.kind not in "iuf":
        raise DatasetError(f"{path}: holds no table of attributes (original_att); {FETCH_AGAIN}")
    names = tuple(_unwrap_texts(path, found[CLASS_NAMES])) if CLASS_NAMES in found else ()
    return ClassTable(tables[0].T.astype(np.float64), names)


def read_splits(path: Path, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Read the five splits of images with these labels, and refuse what cannot be version 2."""
    found = _load(path, needed=tuple(LOCATIONS.values()), optional=DIVISION)
    rows = {key: _count_from_0(path, key, array) for key, array in found.items()}
    splits = {name: np.sort(rows[key]) for name, key in LOCATIONS.items()}
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
            f"{_date(path)}), whose figures mean nothing; get version 2 (xlsa17.zip)"
        )
    left_out = n - len(np.union1d(tests, splits["trainval"]))
    if left_out:
        raise DatasetError(f"{path}: {left_out} of {n} images are in no split; {FETCH_AGAIN}")


def divide_trainval(
    trainval: np.ndarray, labels: np.ndarray, train: np.ndarray | None = None, val: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Divide trainval by class into train and val, for choosing settings without a look at test images.

    The published `train` and `val` rows decide where their classes are disjoint and are the seen ones;
    else every third seen class is a validation class.
    """
    seen = np.unique(labels[trainval])
    val_classes = seen[2::3]
    if train is not None and val is not None and np.isin([*train, *val], np.arange(len(labels))).all():
        train_classes, published = np.unique(labels[train]), np.unique(labels[val])
        is_disjoint = not np.isin(train_classes, published).any()
        if is_disjoint and np.array_equal(np.union1d(train_classes, published), seen):
            val_classes = published
    is_val = np.isin(labels[trainval], val_classes)
    return {"train": trainval[~is_val], "val": trainval[is_val]}


def find_names_file(data: Path, candidates: tuple[str, ...]) -> Path | None:
    """The first file that exists."""
    return next((data / name for name in candidates if (data / name).is_file()), None)


def read_attribute_names(data: Path, candidates: tuple[str, ...], count: int | None) -> tuple[str, ...]:
    """Return the names from the first file that exists, or none at all; `count` is K where it is known."""
    path = find_names_file(data, candidates)
    if path is None:
        return ()
    if path.suffix == ".mat":
        lines = _unwrap_texts(path, _load(path, needed=(MAT_NAMES,), origin="SUNAttributeDB")[MAT_NAMES])
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path}: is not UTF-8 text ({error})") from error
    names = tuple(_parse_name(line) for line in lines if line.strip())
    if count is not None and len(names) != count:
        raise DatasetError(f"{path}: names {len(names)} attributes, the class table has {count}")
    return names


def _parse_name(line: str) -> str:
    """Turn CUB's `12 has_wing_color::red_(dark)` into `wing color: red (dark)`."""
    name = re.sub(r"^\s*\d+\s+", "", line).strip()
    return name.removeprefix("has_").replace("::", ": ").replace("_", " ")


def _load(
    path: Path,
    needed: Sequence[str] = (),
    optional: Sequence[str] = (),
    origin: str = "the Proposed Splits (xlsa17)",
) -> dict[str, np.ndarray]:
    """Read variables of a .mat file; those needed must be there."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; it belongs to {origin}")
    found = read_mat(path, {*needed, *optional})
    for name in needed:
        if name not in found:
            raise DatasetError(f"{path}: '{name}' is missing; is it a file of {origin}?")
    return found


def _count_from_0(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Turn a list that counts from 1 into int64 that counts from 0."""
    values = np.asarray(array).reshape(-1)
    numeric = values.dtype.kind in "iuf"
    if not numeric or not ((values >= 0) & (values < 2**31) & (values == np.floor(values))).all():
        raise DatasetError(f"{path}: '{name}' holds values that are not whole numbers; {FETCH_AGAIN}")
    return values.astype(np.int64) - 1  # some copies hold uint8: widened before 1 is subtracted


def _unwrap_texts(path: Path, cells: np.ndarray) -> list[str]:
    """Return the texts of a cell array, each of which may lie in further cells."""
    texts = []
    for cell in np.asarray(cells, object).reshape(-1):
        while isinstance(cell, np.ndarray) and cell.size == 1:
            cell = cell.reshape(-1)[0]  # noqa: PLW2901 -- unwraps cells within cells
        if not isinstance(cell, str) or not cell.strip():
            raise DatasetError(f"{path}: a list of names holds an entry that is not a name; {FETCH_AGAIN}")
        texts.append(cell.strip())
    return texts
