"""The layout of the published feature files: what DAZLE's, TransZero's, MSDN's and DEDN's scripts read.

`feature_map` (N, F, h, w) float32 and 0-based lists beside it. What that layout has no place for goes into a group
of its own, which those scripts pass over.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from msdn.cache.annotations import LOCATIONS, NAME_LISTS, SPLIT_NAMES
from msdn.cache.errors import CacheError, explain_damage
from msdn.cache.files import check_folder, check_free_space, new_file
from msdn.cache.layout import EXPORTED_MAP, MAIN
from msdn.cache.reader import FeatureCache
from msdn.cache.sink import write_hdf5

MAPS = "feature_map"
EXTRA = "msdn"
NOT_WRITTEN = "what was read back is not what was written; check the disk, or choose another place"
BLOCK_BYTES = 2**28  # of float32 maps in memory at once


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
