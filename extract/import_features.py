"""Makes a cache of a published feature file, with the dataset's own names where its lists are at hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations, check_annotations
from msdn.cache.find import name_cache
from msdn.cache.home import Home
from msdn.cache.import_rows import import_rows
from msdn.cache.names import dataset_name
from msdn.cache.published import PublishedFile, open_published, read_lists
from msdn.extract.datasets.divide import divide_trainval
from msdn.extract.datasets.registry import find_spec, is_own_folder, open_dataset
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError

KINDS = ("imagenet", "file", "random", "imported")  # of weights
PIXELS = 32  # of an image side per region


@dataclass(frozen=True)
class Imported:
    """What an import made: the cache, its masked rows, and whether the dataset's lists gave the names."""

    path: Path
    masked: dict[int, str]
    named: bool


def import_features(
    source: Path,
    text: str,
    home: Home,
    out: Path | None = None,
    dtype: str = "float16",
    restart: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Imported:
    """Turn the published feature file `source` of the dataset `text` into a cache."""
    if not is_own_folder(text):
        find_spec(text)
    with open_published(source) as file:
        lists = read_lists(source, file)
        dataset = _find_lists(text, home)
        annotations = _settle_annotations(source, lists, dataset_name(text), dataset)
        check_annotations(annotations)
        provenance = _describe(source, lists, annotations, dataset, dtype)
        kind = provenance["weights"]["kind"]
        tag = kind if lists.provenance else "imported"
        final = out or home.features / name_cache(annotations.dataset, provenance["image_size"], tag)
        _, channels, height, width = lists.shape
        masked = import_rows(
            file,
            final,
            annotations,
            (height, width, channels),
            provenance,
            lists.masked,
            restart,
            on_progress,
        )
    return Imported(final, masked, not _is_unnamed(lists, dataset))


def _find_lists(text: str, home: Home) -> Dataset | None:
    """Return the dataset where its lists and images are here."""
    if not is_own_folder(text):
        spec = find_spec(text)
        if not all((home.data / part).is_dir() for part in (spec.images, spec.annotations)):
            return None
    return open_dataset(text, home)


def _is_unnamed(lists: PublishedFile, dataset: Dataset | None) -> bool:
    return not lists.names and dataset is None


def _settle_annotations(
    source: Path, lists: PublishedFile, name: str, dataset: Dataset | None
) -> Annotations:
    if lists.names:
        return _annotate(name, lists, lists.names, lists.splits)
    if dataset is None:
        names = {
            "image_paths": tuple(f"image {row + 1}" for row in range(len(lists.labels))),
            "class_names": tuple(f"class {number + 1}" for number in range(len(lists.attributes))),
            "attribute_names": (),
        }
        return _annotate(
            name, lists, names, lists.splits | divide_trainval(lists.splits["trainval"], lists.labels)
        )
    return _take_names(source, lists, dataset.annotations)


def _annotate(
    name: str, lists: PublishedFile, names: dict[str, tuple[str, ...]], splits: dict[str, np.ndarray]
) -> Annotations:
    return Annotations(
        dataset=name,
        labels=lists.labels,
        attributes=lists.attributes,
        attribute_vectors=lists.attribute_vectors,
        splits=splits,
        **names,
    )


def _take_names(source: Path, lists: PublishedFile, a: Annotations) -> Annotations:
    """Return the dataset's annotations, with the file's vectors, when both mean the same images."""
    same = np.array_equal(lists.labels, a.labels)
    for split, rows in lists.splits.items():
        same = same and np.array_equal(np.sort(rows), a.splits[split])
    if not same or lists.attributes.shape != a.attributes.shape:
        raise DatasetError(
            f"{source}: its labels, splits or number of attributes are not those of '{a.dataset}' in this home; "
            "is it of another dataset, or of other splits?"
        )
    vectors = a.attribute_vectors if lists.attribute_vectors is None else lists.attribute_vectors
    return replace(a, attribute_vectors=vectors)


def _describe(
    source: Path, lists: PublishedFile, a: Annotations, dataset: Dataset | None, dtype: str
) -> dict[str, Any]:
    if lists.provenance is not None:
        if lists.provenance["weights"]["kind"] not in KINDS or lists.provenance["dataset"] != a.dataset:
            raise DatasetError(f"{source}: says it holds features of another dataset or of unknown weights")
        return {**lists.provenance, "dataset": a.dataset, "dtype": dtype}
    facts = {
        "dataset": a.dataset,
        "backbone": "not known: features were imported",
        "weights": {"kind": "imported", "name": source.name, "bytes": source.stat().st_size},
        "image_size": lists.shape[2] * PIXELS,
        "dtype": dtype,
        layout.ANNOTATIONS: {**(dataset.sources if dataset else {}), "features": source.name},
    }
    return facts | ({layout.UNNAMED_IMAGES: True} if _is_unnamed(lists, dataset) else {})
