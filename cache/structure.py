"""Makes an empty cache file: annotations and provenance written, room for the rows of every map set aside."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import NAME_LISTS, SPLIT_NAMES, Annotations, check_annotations, settle_types
from msdn.cache.errors import CacheError, explain_damage
from msdn.cache.files import check_free_space, new_file
from msdn.cache.header import read_header
from msdn.cache.index import room_for, write_index
from msdn.cache.layout import MapSpec, Place
from msdn.cache.provenance import check_provenance
from msdn.cache.sink import write_hdf5

_NOT_WRITTEN = "{}: what was read back is not what was written; check the disk, or choose another place"


def create_structure(
    path: Path,
    annotations: Annotations,
    maps: Sequence[MapSpec],
    provenance: Mapping[str, Any],
    backbone_state: Mapping[str, np.ndarray],
) -> None:
    """Make an empty cache at `path`: whole, or not at all.

    Args:
        path: where the unfinished cache is to lie.
        annotations: what is known of its images.
        maps: the main map first.
        provenance: plain JSON values: what decides the features' bits, and where they come from.
        backbone_state: statistics of the backbone that belong to these features.
    """
    with new_file(path) as making:
        write_structure(making, annotations, maps, provenance, backbone_state)


def write_structure(
    making: Path,
    annotations: Annotations,
    maps: Sequence[MapSpec],
    provenance: Mapping[str, Any],
    backbone_state: Mapping[str, np.ndarray],
) -> None:
    """Fill the empty file of `new_file` as `create_structure` does, and check it; rows can be written to it at once."""
    annotations = settle_types(annotations)
    check_annotations(annotations, layout.PART in provenance)
    check_provenance(provenance)
    layout.check_maps(maps)
    n = len(annotations.image_paths)
    metadata = _collect_metadata(annotations, maps, provenance, backbone_state)
    check_free_space(making, _estimate_size(metadata, maps, n))
    shapes = {spec.dataset: (spec.dtype, (n, *spec.row_shape)) for spec in maps}
    names = [*metadata, *layout.ROW_TABLES, *shapes]
    digest = layout.digest_metadata(metadata, shapes)
    with write_hdf5(
        making,
        libver=(layout.LIBVER, layout.LIBVER),
        userblock_size=room_for(names),
        alignment_threshold=layout.ALIGNMENT,
        alignment_interval=layout.ALIGNMENT,
    ) as (file, _):
        file.attrs["format"] = np.bytes_(layout.FORMAT)
        file.attrs["schema"] = layout.SCHEMA
        file.attrs["digest"] = np.bytes_(digest)
        for name in layout.GROUPS:  # here, for HDF5 dates those it makes on its own
            file.create_group(name)
        for name, array in metadata.items():
            file[name] = array
        _set_aside_rows(file, n, maps)
        places = {name: _find_place(file[name]) for name in names}
    layout.check_sizes(making, places)
    write_index(making, digest, places)
    _check_written(making, digest)


def _check_written(making: Path, digest: str) -> None:
    """Refuse a file that is not what was meant, as a disk that loses writes leaves it."""
    try:
        header = read_header(making)
        with explain_damage(making, "damaged"), h5py.File(making, "r", locking=False) as file:
            same = file.attrs["digest"] == digest.encode()
    except CacheError as error:
        raise CacheError(_NOT_WRITTEN.format(making.parent)) from error
    if not same or header.states.any() or header.checksums.any() or header.crc32.any():
        raise CacheError(_NOT_WRITTEN.format(making.parent))


def _collect_metadata(
    a: Annotations, maps: Sequence[MapSpec], provenance: Mapping[str, Any], state: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return everything but rows, by the dataset's name."""
    metadata = {
        "dataset": _pack_texts([a.dataset]),
        "provenance": np.frombuffer(json.dumps(provenance, sort_keys=True).encode(), np.uint8),
        layout.MAP_NAMES: _pack_texts(spec.name for spec in maps),
        layout.MAP_SIGNS: np.array([-1 if spec.signed is None else spec.signed for spec in maps], np.int8),
        "labels": a.labels,
        "attributes": a.attributes,
    }
    if a.attribute_vectors is not None:
        metadata["attribute_vectors"] = a.attribute_vectors
    for name in NAME_LISTS:
        metadata[name] = _pack_texts(getattr(a, name))
    # in fixed orders: a cache made anew from another one's header has the same bytes
    metadata |= {f"splits/{name}": a.splits[name] for name in SPLIT_NAMES}
    return metadata | {f"backbone/{name}": array for name, array in sorted(state.items())}


def _pack_texts(texts: Iterable[str]) -> np.ndarray:
    encoded = [layout.encode_text(text) for text in texts]
    return np.array(encoded, h5py.string_dtype(length=max([1, *map(len, encoded)])))


def _set_aside_rows(file: h5py.File, n: int, maps: Sequence[MapSpec]) -> None:
    tables = {
        layout.CHECKSUMS: ((n, len(maps)), np.dtype(np.uint64)),
        layout.CRC32: ((n, len(maps)), np.dtype(np.uint32)),
        layout.STATES: ((n,), np.dtype(np.uint8)),
        layout.REASONS: ((n,), h5py.string_dtype(length=layout.REASON_BYTES)),
    }
    for name, (shape, dtype) in tables.items():
        _set_aside(file, name, shape, dtype, h5py.h5d.FILL_TIME_ALLOC)
    for spec in maps:  # last, and never filled: the file is sparse until rows come
        _set_aside(file, spec.dataset, (n, *spec.row_shape), spec.dtype, h5py.h5d.FILL_TIME_NEVER)


def _set_aside(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, fill_time: int) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(fill_time)
    plan.set_obj_track_times(False)  # the same extraction gives the same file, whenever it ran
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, plan)


def _estimate_size(metadata: Mapping[str, np.ndarray], maps: Sequence[MapSpec], n: int) -> int:
    """Bytes that the complete file takes, rather too many than too few."""
    row = layout.REASON_BYTES + 1 + sum(spec.row_bytes + 12 for spec in maps)
    return sum(array.nbytes for array in metadata.values()) + n * row + len(maps) * layout.ALIGNMENT + 2**20


def _find_place(dataset: h5py.Dataset) -> Place:
    return Place(dataset.id.get_offset() or 0, dataset.shape, np.dtype(dataset.dtype.str))
