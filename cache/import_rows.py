"""Fills a cache from a published feature file, block by block; killed, it goes on where it stopped."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msdn.cache.annotations import Annotations, name_differences
from msdn.cache.errors import CacheError
from msdn.cache.header import read_header, refuse_foreign_file
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.lock import FileLock
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.published import read_blocks
from msdn.cache.structure import create_structure

ZERO_REASON = "all zero in the file it was imported from"


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
