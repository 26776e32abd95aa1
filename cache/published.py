"""The layout of the published feature files: what DAZLE's, TransZero's, MSDN's and DEDN's scripts read.

`feature_map` (N, F, h, w) float32 and 0-based lists beside it. What that layout has no place for goes into a group
of its own, which those scripts pass over.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msdn.cache.annotations import LOCATIONS, NAME_LISTS, SPLIT_NAMES, Annotations
from msdn.cache.errors import CacheError, explain_damage
from msdn.cache.files import check_folder, check_free_space, new_file
from msdn.cache.layout import EXPORTED_MAP, MAIN
from msdn.cache.reader import FeatureCache
from msdn.cache.sink import write_hdf5

MAPS = "feature_map"
EXTRA = "msdn"
NOT_WRITTEN = "what was read back is not what was written; check the disk, or choose another place"
DAMAGED = "damaged, or not a published feature file"
BLOCK_BYTES = 2**28  # of float32 maps in memory at once
LARGEST_CHUNK = 4  # blocks: images compressed together in larger pieces are unpacked more than once


@dataclass(frozen=True)
class PublishedFile:
    """What a published feature file says beside its features.

    Names, train and val are there only in a file of our own, and so is what follows the shape.
    """

    annotations: Annotations
    shape: tuple[int, int, int, int]  # (N, F, h, w)
    provenance: dict[str, Any] | None = None  # of the cache it was exported from
    masked: dict[int, str] = field(default_factory=dict)  # rows without features, with the reason


def write_published(cache: FeatureCache, path: Path, compress: bool, replaces: bool = False) -> None:
    """Write a cache's features and annotations to `path` in the published layout, read them back and compare."""
    check_folder(path, "place")
    if not compress:
        check_free_space(path, int(np.prod(cache.shape)) * 4)
    lists, facts = _collect_lists(cache), _collect_facts(cache)
    with new_file(path, replaces=replaces) as making:
        with write_hdf5(making) as (file, sink):
            for name, values in lists.items():
                file[name] = values
            file.require_group(EXTRA).attrs.update(facts)
            maps = _set_aside_maps(file, cache, compress)
            for rows, block in _blocks(cache):
                maps[rows] = block
                sink.check()
        with explain_damage(path, NOT_WRITTEN), h5py.File(making, "r", locking=False) as file:
            same = dict(file[EXTRA].attrs) == facts
            same = same and all(np.array_equal(_stored(file[name]), lists[name]) for name in lists)
            same = same and all(np.array_equal(file[MAPS][rows], block) for rows, block in _blocks(cache))
        if not same:
            raise CacheError(f"{path}: {NOT_WRITTEN}")


def _set_aside_maps(file: h5py.File, cache: FeatureCache, compress: bool) -> h5py.Dataset:
    n, h, w, f = cache.shape
    packing = "gzip" if compress else None
    return file.create_dataset(MAPS, (n, f, h, w), np.float32, chunks=(1, f, h, w), compression=packing)


def _blocks(cache: FeatureCache) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield row numbers and their features [n, F, h, w], without the masked ones."""
    n, h, w, f = cache.shape
    good = np.setdiff1d(np.arange(n), cache.masked_rows)
    step = max(1, BLOCK_BYTES // (h * w * f * 4))
    for start in range(0, len(good), step):
        rows = good[start : start + step]
        block = cache.read_rows(rows).reshape(len(rows), h, w, f)
        yield rows, block.transpose(0, 3, 1, 2).astype(np.float32)


def _collect_lists(cache: FeatureCache) -> dict[str, np.ndarray]:
    a = cache.annotations
    lengths = np.linalg.norm(a.attributes, axis=1, keepdims=True)
    vectors = {} if a.attribute_vectors is None else {"w2v_att": a.attribute_vectors}
    texts = h5py.string_dtype()
    return {
        "labels": a.labels,
        **{key: cache.rows(name) for name, key in LOCATIONS.items()},
        "att": a.attributes / np.where(lengths, lengths, 1),
        "original_att": a.attributes,
        **vectors,
        **{f"{EXTRA}/{name}": np.array(list(getattr(a, name)), texts) for name in NAME_LISTS},
        **{f"{EXTRA}/splits/{name}": a.splits[name] for name in SPLIT_NAMES},
    }


def _collect_facts(cache: FeatureCache) -> dict[str, str]:
    exported = {} if cache.map.name == MAIN else {EXPORTED_MAP: cache.map.name}
    return {
        "provenance": json.dumps(cache.provenance | exported, sort_keys=True),
        "masked": json.dumps(cache.mask_reasons),
    }


def _stored(dataset: h5py.Dataset) -> np.ndarray:
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    return np.asarray((dataset.asstr() if is_text and len(dataset) else dataset)[()])


def open_published(path: Path) -> h5py.File:
    """Open such a file for `read_lists` and `read_blocks`."""
    if not path.is_file():
        raise CacheError(f"{path}: no such file")
    if not h5py.is_hdf5(path):
        raise CacheError(f"{path}: not an HDF5 file, expected a published feature file with '{MAPS}'")
    with explain_damage(path, DAMAGED):
        return h5py.File(path, "r", rdcc_nbytes=BLOCK_BYTES)


def read_lists(file: h5py.File) -> PublishedFile:
    """Read everything but the features."""
    with explain_damage(file.filename, DAMAGED):
        lists = _read_lists(file)
        _check_shapes(file.filename, lists)
        return lists


def _read_lists(file: h5py.File) -> PublishedFile:
    path = file.filename
    for name in (MAPS, "labels", *LOCATIONS.values()):
        if name not in file:
            raise CacheError(f"{path}: '{name}' is missing, expected a published feature file")
    table = next((name for name in ("original_att", "att") if name in file), None)
    if table is None:
        missing = "neither 'original_att' nor 'att' is there"
        raise CacheError(f"{path}: {missing}, expected a published feature file")
    shape = file[MAPS].shape
    if len(shape) != 4 or file[MAPS].dtype.kind != "f" or 0 in shape:
        got = f"{file[MAPS].dtype} of shape {shape}"
        raise CacheError(f"{path}: '{MAPS}' is {got}, expected float (N, F, h, w)")
    lists = Annotations(
        dataset="",
        image_paths=(),
        labels=_whole_numbers(file, "labels"),
        class_names=(),
        attributes=np.asarray(file[table][()], np.float64),
        attribute_names=(),
        attribute_vectors=np.asarray(file["w2v_att"][()], np.float32) if "w2v_att" in file else None,
        splits={name: np.sort(_whole_numbers(file, key)) for name, key in LOCATIONS.items()},
    )
    if EXTRA not in file:
        return PublishedFile(lists, shape)
    extra = file[EXTRA]
    more: dict[str, Any] = {name: _texts(extra[name]) for name in NAME_LISTS}
    more["splits"] = {name: _whole_numbers(extra, f"splits/{name}") for name in SPLIT_NAMES}
    return PublishedFile(
        replace(lists, **more),
        shape,
        provenance=dict(json.loads(str(extra.attrs["provenance"]))),
        masked={int(row): str(reason) for row, reason in json.loads(str(extra.attrs["masked"])).items()},
    )


def _check_shapes(path: str, file: PublishedFile) -> None:
    n, lists = file.shape[0], file.annotations
    if lists.attributes.ndim != 2:
        raise CacheError(f"{path}: attributes have shape {lists.attributes.shape}, expected a table")
    if len(lists.labels) != n:
        raise CacheError(f"{path}: {len(lists.labels)} labels for {n} feature maps")
    named = np.concatenate([*lists.splits.values(), np.array([*file.masked], np.int64)])
    strangers = named[(named < 0) | (named >= n)]
    if len(strangers):
        raise CacheError(f"{path}: its lists name row {strangers[0]}, but rows run from 0 to {n - 1}")


def _whole_numbers(group: h5py.Group, name: str) -> np.ndarray:
    values = np.asarray(group[name][()]).reshape(-1)
    if values.dtype.kind not in "iuf" or not ((values == np.floor(values)) & (np.abs(values) < 2**31)).all():
        raise CacheError(f"{group.file.filename}: '{name}' holds values that are not whole numbers")
    return values.astype(np.int64)


def _texts(texts: h5py.Dataset) -> tuple[str, ...]:
    return tuple(texts.asstr()[()].reshape(-1).tolist()) if len(texts) else ()


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
            with explain_damage(file.filename, DAMAGED):
                block = maps[start : min(n, start + step)]
            yield wanted, block[wanted - start].transpose(0, 2, 3, 1)
