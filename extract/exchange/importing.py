"""Makes a cache of a published feature file, with the dataset's own names where its lists are at hand."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations, check_annotations
from msdn.cache.home import Home, dataset_name, name_cache
from msdn.cache.published import LOCATIONS, PublishedFile, import_rows, open_published, read_lists
from msdn.extract.backbones.entry import features_tag
from msdn.extract.datasets.proposed_splits import divide_trainval, number_classes
from msdn.extract.datasets.registry import find_spec, is_own_folder, open_dataset
from msdn.extract.datasets.spec import Dataset, DatasetSpec
from msdn.extract.errors import DatasetError

KINDS = ("imagenet", "file", "random", "imported")  # of weights
PUBLISHED_CHANNELS, PIXELS = 2048, 32  # of the published files' ResNet101; pixels of an image side per region
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        path: the cache.
        masked: its rows without features, with the reason.
        named: whether the file or the dataset's lists gave the names.
        has_other_counts: whether its splits are not as large as the dataset's.
    """

    path: Path
    masked: dict[int, str]
    named: bool
    has_other_counts: bool


def import_features(
    source: Path,
    text: str,
    home: Home,
    out: Path | None = None,
    dtype: str = "float16",
    allow_other_counts: bool = False,
    restart: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Imported:
    """Turn the published feature file `source` of the dataset `text` into a cache."""
    spec = None if is_own_folder(text) else find_spec(text)
    with open_published(source) as file:
        lists = read_lists(file)
        differs = spec is not None and _has_other_counts(source, spec, lists, allow_other_counts)
        dataset = _find_lists(text, home) if _is_unnamed(lists) else None
        annotations = _settle_annotations(source, lists, dataset_name(text), dataset)
        check_annotations(annotations)
        facts = _describe_import(source, lists, annotations, dataset, dtype)
        if differs:
            facts[layout.COUNTS] = f"not those of {annotations.dataset}"
        _, channels, height, width = lists.shape
        final = out or home.features / _name_import(annotations.dataset, facts, f"{height}x{width}")
        masked = import_rows(
            file,
            final,
            annotations,
            layout.MapSpec(layout.MAIN, height, width, channels, np.dtype(dtype), signed=None),
            facts,
            lists.masked,
            restart,
            on_progress,
        )
    return Imported(final, masked, dataset is not None or not _is_unnamed(lists), differs)


def _name_import(dataset: str, facts: dict[str, Any], grid: str) -> str:
    """Name the cache as its extraction was named; where the images' size is not known, by its regions."""
    tag = features_tag(facts)
    if layout.EXPORTED_MAP in facts:
        tag += f"_{facts[layout.EXPORTED_MAP]}"
    return name_cache(dataset, facts["image_size"] or grid, tag)


def _has_other_counts(source: Path, spec: DatasetSpec, lists: PublishedFile, is_allowed: bool) -> bool:
    """Whether the file's splits are not as large as the dataset's are known to be; refused unless allowed."""
    classes, attributes = lists.attributes.shape
    counted = {name: len(rows) for name, rows in lists.splits.items()}
    counted |= {"classes": classes, "attributes": attributes}
    found = {name: counted[name] for name in spec.counts}
    if found != spec.counts and not is_allowed:
        said, known = (", ".join(f"{n} {name}" for name, n in c.items()) for c in (found, spec.counts))
        raise DatasetError(
            f"{source}: holds {said}, but '{spec.name}' has {known}; is it of another dataset? "
            "--allow-other-counts takes it all the same, and its results are then not those of the dataset"
        )
    return found != spec.counts


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


def _describe_import(
    source: Path, lists: PublishedFile, a: Annotations, dataset: Dataset | None, dtype: str
) -> dict[str, Any]:
    """Return the cache's provenance; `dataset` is what gave names to a file without."""
    if lists.provenance is None:
        facts = _describe_foreign(source, lists, a, dtype)
    else:
        _check_provenance(source, lists.provenance, a.dataset)
        facts = {**lists.provenance, "dtype": dtype}
        facts.pop(layout.COUNTS, None)  # counted anew
    if dataset is not None:
        facts[layout.ANNOTATIONS] = {**facts.get(layout.ANNOTATIONS, {}), **dataset.sources}
        facts.pop(layout.UNNAMED_IMAGES, None)
    return facts


def _describe_foreign(source: Path, lists: PublishedFile, a: Annotations, dtype: str) -> dict[str, Any]:
    return {
        "dataset": a.dataset,
        "backbone": "not known: features were imported",
        "weights": {"kind": "imported", "name": source.name, "bytes": source.stat().st_size},
        "image_size": lists.shape[2] * PIXELS if lists.shape[1] == PUBLISHED_CHANNELS else None,
        "dtype": dtype,
        layout.ANNOTATIONS: {"features": source.name},
        layout.UNNAMED_IMAGES: True,
    }


def _check_provenance(source: Path, provenance: dict[str, Any], dataset: str) -> None:
    """Refuse what no export says: the cache's name is made of it."""
    for name, value, is_fit, expected in _examine(provenance, dataset):
        if not is_fit:
            said = "lacks" if value is None else f"says {value!r:.60} for"
            raise DatasetError(
                f"{source}: its provenance {said} '{name}', expected {expected}; is it what 'msdn cache export' wrote, "
                "and of the dataset that --dataset names?"
            )


def _examine(provenance: dict[str, Any], dataset: str) -> Iterator[tuple[str, Any, bool, str]]:
    """Yield name, value, whether it will do, and what would; each is asked for only when those before will do."""
    yield "dataset", provenance.get("dataset"), provenance.get("dataset") == dataset, f"'{dataset}'"
    sources = provenance.get(layout.ANNOTATIONS, {})
    yield layout.ANNOTATIONS, sources, isinstance(sources, dict), "names and where they come from"
    weights: Any = provenance.get("weights")
    yield "weights", weights, isinstance(weights, dict), "their description"
    kind = weights.get("kind")
    yield "weights kind", kind, kind in KINDS, f"one of {', '.join(KINDS)}"
    size: Any = provenance.get("image_size")
    is_unknown = size is None and kind == "imported"
    yield "image_size", size, is_unknown or (_is_whole(size) and size > 0), "a whole number of pixels"
    name = provenance.get(layout.EXPORTED_MAP, layout.MAIN)
    yield layout.EXPORTED_MAP, name, bool(layout.MAP_NAME.fullmatch(str(name))), "a map's name"
    if kind == "random":
        seed = weights.get("seed")
        yield "weights seed", seed, _is_whole(seed) and seed >= 0, "a whole number"
    if kind == "file":
        digest = weights.get("sha256")
        yield "weights sha256", digest, bool(SHA256.fullmatch(str(digest))), "64 hexadecimal digits"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
