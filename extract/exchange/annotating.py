"""Replaces parts of a cache's annotations by what files say: vectors, splits, or class attributes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from msdn.cache.annotations import Annotations
from msdn.cache.files import sha256_of
from msdn.extract.datasets.proposed_splits import number_classes, read_class_table, read_splits
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import read_attributes_csv
from msdn.extract.own.splits import read_splits_csv
from msdn.extract.vectors.file import read_vectors


def apply_files(
    a: Annotations, vectors: Path | None = None, splits: Path | None = None, attributes: Path | None = None
) -> tuple[Annotations, dict[str, Any]]:
    """Return the annotations with what the files say, and where that comes from.

    Attributes come first: vectors belong to the new ones.
    """
    sources: dict[str, Any] = {}
    if attributes is not None:
        a = _with_attributes(a, attributes)
        sources["attributes"] = _describe(attributes)
    if vectors is not None:
        read = read_vectors(vectors, a.attribute_names, a.attributes.shape[1])
        a = replace(a, attribute_vectors=read.values)
        sources["vectors"] = read.source
    if splits is not None:
        if splits.suffix.lower() == ".csv":
            rows = read_splits_csv(splits, a.image_paths, a.labels, a.class_names)
        else:
            rows = read_splits(splits, a.labels)
        a = replace(a, splits=rows)
        sources["splits"] = _describe(splits)
    return a, sources


def _with_attributes(a: Annotations, path: Path) -> Annotations:
    if path.suffix.lower() == ".csv":
        table = read_attributes_csv(path, a.class_names)
        new = replace(a, attributes=table.values, attribute_names=table.attribute_names)
    else:
        new = _with_class_table(a, path)
    if new.attributes.shape == a.attributes.shape and new.attribute_names == a.attribute_names:
        return new
    return replace(new, attribute_vectors=None)  # those of other attributes would be wrong


def _with_class_table(a: Annotations, path: Path) -> Annotations:
    """Take attributes from an att_splits.mat, and the classes' names where the cache has numbers for them."""
    classes = read_class_table(path)
    count, size = classes.attributes.shape
    if count != len(a.class_names):
        raise DatasetError(f"{path}: describes {count} classes, but the cache has {len(a.class_names)}")
    names = classes.names or a.class_names
    if a.class_names not in (names, number_classes(count)):
        raise DatasetError(f"{path}: its classes are not those of the cache, or are in another order")
    attribute_names = a.attribute_names if size == a.attributes.shape[1] else ()
    return replace(a, attributes=classes.attributes, class_names=names, attribute_names=attribute_names)


def _describe(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256_of(path)}
