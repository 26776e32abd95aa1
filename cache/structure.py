"""Makes an empty cache file: annotations and provenance written, room for the rows set aside."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations, check_annotations, settle_types
from msdn.cache.checksum import digest_header
from msdn.cache.errors import CacheError

TEXT = h5py.string_dtype()


def create_structure(
    path: Path,
    annotations: Annotations,
    row_shape: tuple[int, int, int],
    dtype: np.dtype,
    provenance: Mapping[str, Any],
    backbone_state: Mapping[str, np.ndarray],
) -> None:
    """Write the file at `path` under another name, flush it, and rename it into place.

    The default (oldest) library version bounds are kept on purpose: a file of newer bounds that
    loses its writer cannot be opened again.
    """
    annotations = settle_types(annotations)
    check_annotations(annotations)
    check_free_space(path, _estimate_size(annotations, int(np.prod(row_shape)) * dtype.itemsize))
    making = path.with_name(path.name + ".creating")
    with h5py.File(
        making,
        "w",
        locking=False,
        alignment_threshold=layout.ALIGNMENT,
        alignment_interval=layout.ALIGNMENT,
    ) as file:
        file.attrs["format"] = layout.FORMAT
        file.attrs["schema"] = layout.SCHEMA
        file.attrs["provenance"] = text = json.dumps(provenance, sort_keys=True)
        file.attrs["header_digest"] = digest_header(annotations, backbone_state, text)
        _write_annotations(file, annotations)
        for name, array in backbone_state.items():
            file[f"backbone/{name}"] = array
        _set_aside_rows(file, (len(annotations.image_paths), *row_shape), dtype)
    _flush(making)
    making.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_annotations(file: h5py.File, a: Annotations) -> None:
    file.attrs["dataset"] = a.dataset
    file["labels"] = a.labels
    file["attributes"] = a.attributes
    if a.attribute_vectors is not None:
        file["attribute_vectors"] = a.attribute_vectors
    for name in ("image_paths", "class_names", "attribute_names"):
        file.create_dataset(name, data=list(getattr(a, name)), dtype=TEXT, shape=(len(getattr(a, name)),))
    for name, rows in a.splits.items():
        file[f"splits/{name}"] = rows


def _set_aside_rows(file: h5py.File, shape: tuple[int, ...], dtype: np.dtype) -> None:
    n = shape[0]
    _set_aside(file, layout.CHECKSUMS, (n,), np.dtype(np.uint64), h5py.h5d.FILL_TIME_ALLOC)
    _set_aside(file, layout.STATES, (n,), np.dtype(np.uint8), h5py.h5d.FILL_TIME_ALLOC)
    _set_aside(file, layout.REASONS, (n,), np.dtype(f"S{layout.REASON_BYTES}"), h5py.h5d.FILL_TIME_ALLOC)
    # last, and never filled: the file is sparse until rows come
    _set_aside(file, layout.FEATURES, shape, dtype, h5py.h5d.FILL_TIME_NEVER)


def _set_aside(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, fill_time: int) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(fill_time)
    plan.set_obj_track_times(False)  # the same extraction gives the same file, whenever it ran
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, plan)


def _estimate_size(annotations: Annotations, row_bytes: int) -> int:
    """Bytes that the complete file takes, rather too many than too few."""
    vectors = annotations.attribute_vectors
    tables = annotations.attributes.nbytes + (0 if vectors is None else vectors.nbytes) + 2**20
    return tables + len(annotations.image_paths) * (row_bytes + layout.REASON_BYTES + 256)


def check_free_space(path: Path, needed: int) -> None:
    """Raise unless `needed` bytes are free where `path` is to be written."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise CacheError(
            f"{path.parent}: the features need {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free; "
            "make room or choose another place"
        )


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
