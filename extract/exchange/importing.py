"""Makes a cache of a published feature file, with the dataset's own names where its lists are at hand."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import LOCATIONS, Annotations, check_annotations, name_differences
from msdn.cache.errors import CacheError
from msdn.cache.files import FileLock, check_folder, make_folder
from msdn.cache.header import read_header, refuse_foreign_file
from msdn.cache.home import Home, dataset_name, name_cache
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.published_reading import PublishedFile, PublishedReader
from msdn.cache.reader import find_damaged_rows
from msdn.cache.records import fits, whole
from msdn.cache.structure import create_structure
from msdn.extract.backbones.entry import features_tag
from msdn.extract.datasets.proposed_splits import divide_trainval, number_classes
from msdn.extract.datasets.registry import find_spec, is_own_folder, open_dataset
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError
from msdn.terminal import counted

log = logging.getLogger(__name__)
KINDS = ("imagenet", "file", "random", "imported")  # of weights
PUBLISHED_CHANNELS, PIXELS = 2048, 32  # of the published files' ResNet101; pixels of an image side per region
SHA256 = re.compile(r"[0-9a-f]{64}")
ZERO_REASON = "all zero in the file it was imported from"


@dataclass(frozen=True)
class Imported:
    """What an import made."""

    path: Path
    masked: dict[int, str]  # rows without features, with the reason
    named: bool  # whether the file or the dataset's lists gave the names
    has_other_counts: bool  # whether its splits are not as large as the dataset's


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
    if out is not None:
        check_folder(out, "--out")
    with PublishedReader(source) as file:
        lists = file.lists
        other_counts = "" if is_own_folder(text) else find_spec(text).find_other_counts(lists.annotations)
        if other_counts and not allow_other_counts:
            raise DatasetError(
                f"{source}: {other_counts}; is it from another dataset? --allow-other-counts accepts it, "
                "but its results are then not results on the dataset"
            )
        dataset = _find_lists(text, home) if _is_unnamed(lists) else None
        annotations = _settle_annotations(source, lists, dataset_name(text), dataset)
        check_annotations(annotations)
        facts = _describe_import(source, lists, annotations.dataset, dataset, dtype)
        if other_counts:
            facts[layout.COUNTS] = other_counts
        _, channels, height, width = lists.shape
        spec = MapSpec(MAIN, height, width, channels, np.dtype(dtype), signed=None)
        final = out or home.features / _name_import(annotations.dataset, facts, f"{height}x{width}")
        make_folder(final.parent)
        with FileLock(final.with_name(final.name + ".lock"), f"writing {final}"):
            _begin(final, annotations, spec, facts, restart)
            with PartialCache(final) as cache:
                _forget_damaged(cache)
                masked = lists.masked | _fill(cache, file, lists.masked, on_progress)
                cache.mask_rows(masked)
                cache.finish()
    return Imported(final, masked, dataset is not None or not _is_unnamed(lists), bool(other_counts))


def _name_import(dataset: str, facts: dict[str, Any], grid: str) -> str:
    """Name the cache as its extraction was named; where the images' size is not known, by its regions."""
    tag = features_tag(facts)
    if layout.EXPORTED_MAP in facts:
        tag += f"_{facts[layout.EXPORTED_MAP]}"
    return name_cache(dataset, facts["image_size"] or grid, tag)


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
    """Return the file's annotations with names: the dataset's, its own, or numbers."""
    a = replace(lists.annotations, dataset=name)
    if dataset is not None:
        return _take_names(source, a, dataset.annotations)
    if lists.provenance is not None:
        return a
    return replace(
        a,
        image_paths=tuple(f"image {row + 1}" for row in range(len(a.labels))),
        class_names=number_classes(len(a.attributes)),
        splits=a.splits | divide_trainval(a.splits["trainval"], a.labels),
    )


def _take_names(source: Path, lists: Annotations, a: Annotations) -> Annotations:
    """Return the dataset's annotations, with the file's vectors, when both mean the same images."""
    same = np.array_equal(lists.labels, a.labels)
    for split in LOCATIONS:
        same = same and np.array_equal(np.sort(lists.splits[split]), a.splits[split])
    if not same or lists.attributes.shape != a.attributes.shape:
        raise DatasetError(
            f"{source}: its labels, splits or number of attributes are not those of '{a.dataset}' in this home; "
            "is it from another dataset, or does it have other splits?"
        )
    return a if lists.attribute_vectors is None else replace(a, attribute_vectors=lists.attribute_vectors)


def _describe_import(
    source: Path, lists: PublishedFile, name: str, dataset: Dataset | None, dtype: str
) -> dict[str, Any]:
    """Return the cache's provenance; `dataset` is what gave names to a file without."""
    if lists.provenance is None:
        facts: dict[str, Any] = {
            "dataset": name,
            "backbone": "not known: features were imported",
            "weights": {"kind": "imported", "name": source.name, "bytes": source.stat().st_size},
            "image_size": lists.shape[2] * PIXELS if lists.shape[1] == PUBLISHED_CHANNELS else None,
            "dtype": dtype,
            layout.ANNOTATIONS: {"features": source.name},
            layout.UNNAMED_IMAGES: True,
        }
    else:
        _check_provenance(source, lists.provenance, name)
        facts = {**lists.provenance, "dtype": dtype}
        facts.pop(layout.COUNTS, None)  # counted anew
    if dataset is not None:
        facts[layout.ANNOTATIONS] = {**facts.get(layout.ANNOTATIONS, {}), **dataset.sources}
        facts.pop(layout.UNNAMED_IMAGES, None)
    return facts


def _check_provenance(source: Path, provenance: dict[str, Any], dataset: str) -> None:
    """Refuse what no export says: the cache's name is made of it."""
    for name, value, is_fit, expected in _examine(provenance, dataset):
        if not is_fit:
            said = "lacks" if value is None else f"says {value!r:.60} for"
            raise DatasetError(
                f"{source}: its provenance {said} '{name}', expected {expected}; check that 'msdn cache export' "
                "wrote the file, and that --dataset names its dataset"
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
    size = provenance.get("image_size")
    is_fit = fits(size, whole(1)) or (size is None and kind == "imported")
    yield "image_size", size, is_fit, "a whole number of pixels"
    name = provenance.get(layout.EXPORTED_MAP, MAIN)
    yield layout.EXPORTED_MAP, name, bool(layout.MAP_NAME.fullmatch(str(name))), "a map's name"
    if kind == "random":
        seed = weights.get("seed")
        yield "weights seed", seed, fits(seed, whole(0)), "a whole number"
    if kind == "file":
        digest = weights.get("sha256")
        yield "weights sha256", digest, bool(SHA256.fullmatch(str(digest))), "64 hexadecimal digits"


def _begin(
    final: Path, annotations: Annotations, spec: MapSpec, provenance: Mapping[str, Any], restart: bool
) -> None:
    """Make the unfinished file of `final`, or find one that the same import began."""
    partial = partial_path(final)
    for path in (partial, final):
        refuse_foreign_file(path)
    otherwise = "--restart replaces it, --out names another place"
    if final.exists() and not restart:
        raise CacheError(f"{final}: already exists; {otherwise}")
    if restart or not partial.exists():
        create_structure(partial, annotations, [spec], provenance, {})
        return
    begun = read_header(partial)
    same = begun.provenance == provenance and begun.annotations.image_paths == annotations.image_paths
    if not same or name_differences(begun.annotations, annotations):
        raise CacheError(f"{partial}: was started with other options or files; {otherwise}")


def _forget_damaged(cache: PartialCache) -> None:
    """Have the rows made again that an earlier run wrote and that are not what it wrote."""
    damaged = sorted({row for _, row in find_damaged_rows(cache.header, fast=True)})
    if damaged:
        log.warning(
            "%s: damaged: %s, first row %d; imported again",
            cache.path,
            counted(len(damaged), "row"),
            damaged[0],
        )
        cache.forget_rows(damaged)


def _fill(
    cache: PartialCache,
    file: PublishedReader,
    masked: Mapping[int, str],
    on_progress: Callable[[int, int], None],
) -> dict[int, str]:
    """Write the rows that are missing; return those that are all zero, with the reason."""
    dtype, total = cache.header.maps[MAIN].dtype, len(cache.states)
    rows = np.setdiff1d(cache.unfinished_rows, list(masked))
    done = total - len(rows)
    zero: dict[int, str] = {}
    for chosen, block in file.read_blocks(rows):
        with np.errstate(over="ignore"):
            features = block.astype(dtype)
        _check_finite(chosen, block, features)
        filled = features.any(axis=(1, 2, 3))
        zero |= {int(row): ZERO_REASON for row in chosen[~filled]}
        cache.write_rows(chosen[filled].tolist(), {MAIN: features[filled]})
        done += len(chosen)
        on_progress(done, total)
    return zero


def _check_finite(rows: np.ndarray, block: np.ndarray, features: np.ndarray) -> None:
    bad = rows[~np.isfinite(features).all(axis=(1, 2, 3))]
    if len(bad) and np.isfinite(block).all():
        raise CacheError(f"row {bad[0]} holds features beyond float16; repeat with '--dtype float32'")
    if len(bad):
        raise CacheError(
            f"row {bad[0]} of the feature maps holds values that are not finite; get the file again"
        )
