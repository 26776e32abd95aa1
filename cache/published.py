"""The layout of the published feature files: what DAZLE's, TransZero's, MSDN's and DEDN's scripts read.

`feature_map` (N, F, h, w) float32 and 0-based lists beside it. What that layout has no place for goes into a group
of its own, which those scripts pass over.
"""

import json
from pathlib import Path

import h5py
import numpy as np

from msdn.cache.annotations import LOCATIONS, NAME_LISTS, SPLIT_NAMES
from msdn.cache.files import check_folder, check_free_space
from msdn.cache.layout import EXPORTED_MAP, MAIN
from msdn.cache.reader import FeatureCache

MAPS = "feature_map"
EXTRA = "msdn"
BLOCK_BYTES = 2**28  # of float32 maps in memory at once


def write_published(cache: FeatureCache, path: Path, compress: bool) -> None:
    """Write a cache's features and annotations to `path` in the published layout."""
    check_folder(path, "place")
    if not compress:
        check_free_space(path, int(np.prod(cache.shape)) * 4)
    making = path.with_name(path.name + ".partial")
    try:
        with h5py.File(making, "w") as file:
            _write_lists(file, cache)
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


def _write_lists(file: h5py.File, cache: FeatureCache) -> None:
    a = cache.annotations
    file["labels"] = a.labels
    for name, key in LOCATIONS.items():
        file[key] = cache.rows(name)
    lengths = np.linalg.norm(a.attributes, axis=1, keepdims=True)
    file["att"] = a.attributes / np.where(lengths, lengths, 1)
    file["original_att"] = a.attributes
    if a.attribute_vectors is not None:
        file["w2v_att"] = a.attribute_vectors
    extra = file.create_group(EXTRA)
    exported = {} if cache.map.name == MAIN else {EXPORTED_MAP: cache.map.name}
    extra.attrs["provenance"] = json.dumps(cache.provenance | exported, sort_keys=True)
    extra.attrs["masked"] = json.dumps(cache.mask_reasons)
    for name in NAME_LISTS:
        texts = getattr(a, name)
        extra.create_dataset(name, data=list(texts), dtype=h5py.string_dtype(), shape=(len(texts),))
    for name in SPLIT_NAMES:
        extra[f"splits/{name}"] = a.splits[name]
