"""The layout of the published feature files: what DAZLE's, TransZero's, MSDN's and DEDN's scripts read.

`feature_map` (N, F, h, w) float32 and 0-based lists beside it. What that layout has no place for goes into a group
of its own, which those scripts pass over.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msdn.cache.annotations import SPLIT_NAMES, Annotations, name_differences
from msdn.cache.errors import CacheError, MsdnError
from msdn.cache.files import FileLock, check_free_space
from msdn.cache.header import read_header, refuse_foreign_file
from msdn.cache.layout import EXPORTED_MAP, MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.reader import FeatureCache
from msdn.cache.structure import create_structure

MAPS = "feature_map"
LOCATIONS = {"trainval": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}
EXTRA = "msdn"
BLOCK_BYTES = 2**28  # of float32 maps in memory at once
ZERO_REASON = "all zero in the file it was imported from"
LARGEST_CHUNK = 4  # blocks: images compressed together in larger pieces are unpacked more than once


@dataclass(frozen=True)
class PublishedFile:
    """What a published feature file says beside its features.

    Attributes:
        labels: [N], 0-based.
        splits: rows of `LOCATIONS`, and of train and val where a file of our own says them.
        attributes: [C, K], raw.
        attribute_vectors: [K, D], or None.
        shape: (N, F, h, w).
        names: image paths, class names, attribute names: only in a file of our own.
        provenance: of the cache it was exported from, or None.
        masked: rows without features, with the reason.
    """

    labels: np.ndarray
    splits: dict[str, np.ndarray]
    attributes: np.ndarray
    attribute_vectors: np.ndarray | None
    shape: tuple[int, int, int, int]
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    provenance: dict[str, Any] | None = None
    masked: dict[int, str] = field(default_factory=dict)


def write_published(cache: FeatureCache, path: Path, compress: bool) -> None:
    """Write a cache's features and annotations to `path` in the published layout."""
    if not path.parent.is_dir():
        raise CacheError(f"{path.parent}: there is no such folder; make it, or choose another place")
    if not compress:
        check_free_space(path, int(np.prod(cache.shape)) * 4)
    making = path.with_name(path.name + ".partial")
    try:
        with h5py.File(making, "w") as file:
            _write_lists(file, cache.annotations, cache)
            _write_maps(file, cache, compress)
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def _write_maps(file: h5py.File, cache: FeatureCache, compress: bool) -> None:
    n, h, w, f = cache.shape
    packing = "gzip" if compress else None
    maps = file.create_dataset(MAPS, (n, f, h, w), np.float32, chunks=(1, f, h, w), compression=packing)
    good = np.setdiff1d(np.arange(n), cache.masked_rows)
    step = max(1, BLOCK_BYTES // (h * w * f * 4))
    for start in range(0, len(good), step):
        rows = good[start : start + step]
        block = cache.read_rows(rows).reshape(len(rows), h, w, f)
        maps[rows] = block.transpose(0, 3, 1, 2).astype(np.float32)


def _write_lists(file: h5py.File, a: Annotations, cache: FeatureCache) -> None:
    file["labels"] = a.labels
    for name, key in LOCATIONS.items():
        file[key] = cache.rows(name)
    lengths = np.linalg.norm(a.attributes, axis=1, keepdims=True)
    file["att"] = a.attributes / np.where(lengths, lengths, 1)
    file["original_att"] = a.attributes
    if a.attribute_vectors is not None:
        file["w2v_att"] = a.attribute_vectors
    extra = file.create_group(EXTRA)
    provenance = (
        cache.provenance if cache.map.name == MAIN else cache.provenance | {EXPORTED_MAP: cache.map.name}
    )
    extra.attrs["provenance"] = json.dumps(provenance, sort_keys=True)
    extra.attrs["masked"] = json.dumps(cache.mask_reasons)
    for name in ("image_paths", "class_names", "attribute_names"):
        texts = getattr(a, name)
        extra.create_dataset(name, data=list(texts), dtype=h5py.string_dtype(), shape=(len(texts),))
    for name in SPLIT_NAMES:
        extra[f"splits/{name}"] = a.splits[name]


def open_published(path: Path) -> h5py.File:
    """Open such a file for `read_lists` and `read_blocks`."""
    if not path.is_file():
        raise CacheError(f"{path}: no such file")
    if not h5py.is_hdf5(path):
        raise CacheError(f"{path}: not an HDF5 file, expected a published feature file with '{MAPS}'")
    with _explain_damage(path):
        return h5py.File(path, "r", rdcc_nbytes=BLOCK_BYTES)


@contextmanager
def _explain_damage(path: Path | str) -> Iterator[None]:
    """Turn what goes wrong while such a file is read into a sentence."""
    try:
        yield
    except MsdnError:
        raise
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
        OverflowError,
    ) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CacheError(f"{path}: damaged, or no published feature file ({what})") from error


def read_lists(file: h5py.File) -> PublishedFile:
    """Read everything but the features."""
    with _explain_damage(file.filename):
        lists = _read_lists(file)
        _check_shapes(file, lists)
        return lists


def _read_lists(file: h5py.File) -> PublishedFile:
    path = file.filename
    for name in (MAPS, "labels", *LOCATIONS.values()):
        if name not in file:
            raise CacheError(f"{path}: '{name}' is missing, expected a published feature file")
    if "original_att" not in file and "att" not in file:
        raise CacheError(
            f"{path}: neither 'original_att' nor 'att' is there, expected a published feature file"
        )
    shape = file[MAPS].shape
    if len(shape) != 4 or file[MAPS].dtype.kind != "f" or 0 in shape:
        raise CacheError(
            f"{path}: '{MAPS}' is {file[MAPS].dtype} of shape {shape}, expected float (N, F, h, w)"
        )
    splits = {name: _whole_numbers(file, key) for name, key in LOCATIONS.items()}
    attributes = file["original_att" if "original_att" in file else "att"][()]
    lists = PublishedFile(
        labels=_whole_numbers(file, "labels"),
        splits={name: np.sort(rows) for name, rows in splits.items()},
        attributes=np.asarray(attributes, np.float64),
        attribute_vectors=np.asarray(file["w2v_att"][()], np.float32) if "w2v_att" in file else None,
        shape=shape,
    )
    return replace(lists, **_read_extra(file[EXTRA])) if EXTRA in file else lists


def _check_shapes(file: h5py.File, lists: PublishedFile) -> None:
    n = lists.shape[0]
    if lists.attributes.ndim != 2:
        raise CacheError(f"{file.filename}: attributes have shape {lists.attributes.shape}, expected a table")
    if len(lists.labels) != n:
        raise CacheError(f"{file.filename}: {len(lists.labels)} labels for {n} feature maps")
    named = np.concatenate([*lists.splits.values(), np.array([*lists.masked], np.int64)])
    strangers = named[(named < 0) | (named >= n)]
    if len(strangers):
        raise CacheError(
            f"{file.filename}: its lists name row {strangers[0]}, but rows run from 0 to {n - 1}"
        )


def _whole_numbers(group: h5py.Group, name: str) -> np.ndarray:
    values = np.asarray(group[name][()]).reshape(-1)
    if values.dtype.kind not in "iuf" or not ((values == np.floor(values)) & (np.abs(values) < 2**31)).all():
        raise CacheError(f"{group.file.filename}: '{name}' holds something else than whole numbers")
    return values.astype(np.int64)


def _read_extra(extra: h5py.Group) -> dict[str, Any]:
    names = ("image_paths", "class_names", "attribute_names")
    texts = {
        name: tuple(extra[name].asstr()[()].reshape(-1).tolist()) if len(extra[name]) else ()
        for name in names
    }
    reasons = json.loads(str(extra.attrs["masked"]))
    return {
        "names": texts,
        "provenance": dict(json.loads(str(extra.attrs["provenance"]))),
        "masked": {int(row): str(reason) for row, reason in reasons.items()},
        "splits": {name: _whole_numbers(extra, f"splits/{name}") for name in SPLIT_NAMES},
    }


def read_blocks(file: h5py.File, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield row numbers and their features [n, h, w, F] as stored, in order.

    Blocks follow the file's chunks: one that is compressed across many images is unpacked once, not once an image.
    """
    maps = file[MAPS]
    n, f, h, w = maps.shape
    step = max(1, BLOCK_BYTES // (f * h * w * 4))
    chunk = maps.chunks[0] if maps.chunks else 1
    if chunk <= LARGEST_CHUNK * step:
        step = max(chunk, step // chunk * chunk)
    for start in range(0, n, step):
        wanted = rows[(rows >= start) & (rows < start + step)]
        if len(wanted):
            with _explain_damage(file.filename):
                block = maps[start : min(n, start + step)]
            yield wanted, block[wanted - start].transpose(0, 2, 3, 1)


def import_rows(
    file: h5py.File,
    final: Path,
    annotations: Annotations,
    spec: MapSpec,
    provenance: Mapping[str, Any],
    masked: Mapping[int, str],
    restart: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[int, str]:
    """Write the cache `final` and return its masked rows: those given, and rows that are all zero."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_name(final.name + ".lock"), f"writing {final}"):
        partial = partial_path(final)
        for path in (partial, final):
            refuse_foreign_file(path)
        if final.exists() and not restart:
            raise CacheError(f"{final}: exists already; --restart replaces it, --out names another place")
        if restart or not _can_go_on(partial, annotations, provenance):
            create_structure(partial, annotations, [spec], provenance, {})
        with PartialCache(final) as cache:
            reasons = dict(masked) | _fill(cache, file, masked, on_progress)
            cache.mask_rows(reasons)
            cache.finish()
    return reasons


def _can_go_on(partial: Path, annotations: Annotations, provenance: Mapping[str, Any]) -> bool:
    if not partial.exists():
        return False
    header = read_header(partial)
    same = header.provenance == provenance and header.annotations.image_paths == annotations.image_paths
    if not same or name_differences(header.annotations, annotations):
        raise CacheError(f"{partial}: was begun otherwise; --restart replaces it, --out names another place")
    return True


def _fill(
    cache: PartialCache, file: h5py.File, masked: Mapping[int, str], on_progress: Callable[[int, int], None]
) -> dict[int, str]:
    dtype = cache.header.maps[MAIN].dtype
    total = len(cache.states)
    rows = np.setdiff1d(cache.unfinished_rows, list(masked))
    done = total - len(rows)
    zero: dict[int, str] = {}
    for chosen, block in read_blocks(file, rows):
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
    if not len(bad):
        return
    if np.isfinite(block).all():
        raise CacheError(f"row {bad[0]} holds features beyond float16; repeat with '--dtype float32'")
    raise CacheError(f"row {bad[0]} of the feature maps holds values that are not finite; get the file again")
