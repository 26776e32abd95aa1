"""Makes a cache of a published feature file, with the dataset's own names where its lists are at hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations, check_annotations
from msdn.cache.find import name_cache
from msdn.cache.home import Home
from msdn.cache.import_rows import import_rows
from msdn.cache.names import dataset_name
from msdn.cache.published import LOCATIONS, PublishedFile, open_published, read_lists
from msdn.extract.backbones.entry import features_tag
from msdn.extract.datasets.att_splits import number_classes
from msdn.extract.datasets.divide import divide_trainval
from msdn.extract.datasets.registry import find_spec, is_own_folder, open_dataset
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError
from msdn.extract.exchange.import_provenance import describe_import


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
        lists = read_lists(file)
        dataset = _find_lists(text, home) if _is_unnamed(lists) else None
        annotations = _settle_annotations(source, lists, dataset_name(text), dataset)
        check_annotations(annotations)
        provenance = describe_import(source, lists, annotations, dataset, dtype)
        tag = features_tag(provenance)
        final = out or home.features / name_cache(annotations.dataset, provenance["image_size"], tag)
        _, channels, height, width = lists.shape
        masked = import_rows(
            file,
            final,
            annotations,
            layout.MapSpec(layout.MAIN, height, width, channels, np.dtype(dtype), signed=None),
            provenance,
            lists.masked,
            restart,
            on_progress,
        )
    return Imported(final, masked, dataset is not None or not _is_unnamed(lists))


def _find_lists(text: str, home: Home) -> Dataset | None:
    """Return the dataset where its lists and images are here."""
    if not is_own_folder(text):
        spec = find_spec(text)
        if not all((home.data / part).is_dir() for part in (spec.images, spec.annotations)):
            return None
    return open_dataset(text, home)


def _is_unnamed(lists: PublishedFile) -> bool:
    """Whether the file has no names, or only the numbers that an earlier import gave."""
    return lists.provenance is None or bool(lists.provenance.get(layout.UNNAMED_IMAGES))


def _settle_annotations(
    source: Path, lists: PublishedFile, name: str, dataset: Dataset | None
) -> Annotations:
    if dataset is not None:
        return _take_names(source, lists, dataset.annotations)
    if lists.names:
        return _annotate(name, lists, lists.names, lists.splits)
    names = {
        "image_paths": tuple(f"image {row + 1}" for row in range(len(lists.labels))),
        "class_names": number_classes(len(lists.attributes)),
        "attribute_names": (),
    }
    return _annotate(
        name, lists, names, lists.splits | divide_trainval(lists.splits["trainval"], lists.labels)
    )


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
    for split in LOCATIONS:
        same = same and np.array_equal(np.sort(lists.splits[split]), a.splits[split])
    if not same or lists.attributes.shape != a.attributes.shape:
        raise DatasetError(
            f"{source}: its labels, splits or number of attributes are not those of '{a.dataset}' in this home; "
            "is it of another dataset, or of other splits?"
        )
    vectors = a.attribute_vectors if lists.attribute_vectors is None else lists.attribute_vectors
    return replace(a, attribute_vectors=vectors)
