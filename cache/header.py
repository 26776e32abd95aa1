"""Reads all of a cache file but its features, and refuses what is not a cache in good order.

The index says where things lie (see `index.py`); HDF5 is not asked. Kinds, shapes and sizes are compared with each
other before anything is read, the bytes with their digest before they are understood.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import SPLIT_NAMES, Annotations, check_annotations, settle_types
from msdn.cache.errors import CacheError, MsdnError, explain_damage
from msdn.cache.index import AGAIN, altered, is_hdf5, read_index
from msdn.cache.layout import MAIN, MapSpec, Place
from msdn.cache.provenance import parse_provenance

# name: type and number of dimensions ("S": texts of some fixed length)
TABLES: dict[str, tuple[str, int]] = {
    "dataset": ("S", 1),
    "provenance": ("u1", 1),
    layout.MAP_NAMES: ("S", 1),
    layout.MAP_SIGNS: ("i1", 1),
    "labels": ("i8", 1),
    "attributes": ("f8", 2),
    "image_paths": ("S", 1),
    "class_names": ("S", 1),
    "attribute_names": ("S", 1),
    "attribute_vectors": ("f4", 2),
    **{f"splits/{name}": ("i8", 1) for name in SPLIT_NAMES},
    layout.CHECKSUMS: ("u8", 2),
    layout.CRC32: ("u4", 2),
    layout.STATES: ("u1", 1),
    layout.REASONS: (f"S{layout.REASON_BYTES}", 1),
}
SIGNS = {-1: None, 0: False, 1: True}
OPTIONAL = {"attribute_vectors"}


@dataclass(frozen=True)
class Header:
    """A cache's annotations, provenance, maps, row states and the places of its rows.

    Attributes:
        maps: by name, the main map first; columns of `checksums` and `crc32` are in this order.
        mask_reasons: why, for every masked row.
        places: where each dataset lies, by its name in the file.
    """

    path: Path
    annotations: Annotations
    provenance: dict[str, Any]
    backbone_state: dict[str, np.ndarray]
    maps: dict[str, MapSpec]
    places: dict[str, Place]
    states: np.ndarray
    checksums: np.ndarray
    crc32: np.ndarray
    mask_reasons: dict[int, str]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, h, w, C) of the main map."""
        return len(self.states), *self.maps[MAIN].row_shape

    @property
    def fingerprint(self) -> str:
        """Tells this cache from every other."""
        return layout.fingerprint(self.annotations, self.maps.values(), self.checksums)

    @property
    def masked_rows(self) -> np.ndarray:
        """Rows whose image could not be used."""
        return np.flatnonzero(self.states == layout.MASKED)


def read_header(path: Path) -> Header:
    """Read the header of a finished or unfinished cache."""
    if not path.exists():
        raise CacheError(f"{path}: no such file; 'msdn extract' makes caches")
    if not path.is_file():
        raise CacheError(f"{path}: not a file, expected a cache made by 'msdn extract'")
    with explain_damage(path, "damaged or cut short", f"; {AGAIN}"), path.open("rb") as raw:
        index = read_index(path, raw)
        _check_places(path, index.places)
        return _read(path, raw, index.places, index.digest)


def refuse_foreign_file(path: Path) -> None:
    """Raise unless there is no such file or it is a cache, be it damaged or old: nothing else is replaced."""
    if not path.exists():
        return
    try:
        read_header(path)
    except MsdnError as error:
        if not path.is_file() or not is_hdf5(path) or "not a cache made by" in str(error):
            raise CacheError(
                f"{path}: exists and is not a cache made by 'msdn extract'; choose another --out"
            ) from error


def _check_places(path: Path, places: dict[str, Place]) -> None:
    """Refuse what no cache holds, and sizes that contradict each other; nothing is read yet."""
    for name, place in places.items():
        expected = TABLES.get(name)
        if expected is not None and not _fits(place, *expected):
            raise altered(path, f"'{name}' is {place.dtype} of shape {place.shape}")
        is_features = layout.is_map(name) and len(place.shape) == 4
        if expected is None and not (is_features or _is_state(name, place)):
            raise altered(path, f"it holds '{name}', which is not part of a cache")
    missing = sorted(TABLES.keys() - places.keys() - OPTIONAL)
    if missing:
        raise altered(path, f"'{missing[0]}' is missing")
    n, m = places["image_paths"].shape[0], sum(map(layout.is_map, places))
    for name in ("labels", *layout.ROW_TABLES, *filter(layout.is_map, places)):
        shape = places[name].shape
        if shape[:1] != (n,) or (name in (layout.CHECKSUMS, layout.CRC32) and shape[1] != m):
            raise altered(path, f"'{name}' has shape {shape} for {n} images and {m} maps")
    layout.check_sizes(path, places)


def _fits(place: Place, kind: str, dimensions: int) -> bool:
    same = place.dtype.kind == "S" if kind == "S" else place.dtype == np.dtype(kind)
    return same and len(place.shape) == dimensions


def _read(path: Path, raw: BinaryIO, places: dict[str, Place], digest: str) -> Header:
    at_once = [name for name in places if name != layout.REASONS and not layout.is_map(name)]
    arrays = {name: _read_array(raw, places[name]) for name in at_once}
    rows = {name: arrays.pop(name) for name in layout.ROW_TABLES if name != layout.REASONS}
    shapes = {name: (place.dtype, place.shape) for name, place in places.items() if layout.is_map(name)}
    if layout.digest_metadata(arrays, shapes) != digest:
        raise CacheError(f"{path}: damaged, its annotations changed since it was made; {AGAIN}")
    maps = _settle_maps(path, arrays, places)
    annotations = settle_types(_settle_annotations(arrays))
    try:
        provenance = parse_provenance(arrays["provenance"].tobytes())
    except ValueError as error:
        raise altered(path, str(error)) from error
    check_annotations(annotations, layout.PART in provenance)
    return Header(
        path=path,
        annotations=annotations,
        provenance=provenance,
        backbone_state={
            name.removeprefix("backbone/"): array
            for name, array in arrays.items()
            if name.startswith("backbone/")
        },
        maps=maps,
        places=places,
        states=rows[layout.STATES],
        checksums=rows[layout.CHECKSUMS],
        crc32=rows[layout.CRC32],
        mask_reasons=_read_reasons(raw, places[layout.REASONS], rows[layout.STATES]),
    )


def _read_reasons(raw: BinaryIO, place: Place, states: np.ndarray) -> dict[int, str]:
    reasons = {}
    for row in np.flatnonzero(states == layout.MASKED).tolist():
        raw.seek(place.start_of(row))
        reasons[row] = raw.read(place.row_bytes).rstrip(b"\0").decode(errors="replace")
    return reasons


def _is_state(name: str, place: Place) -> bool:
    return name.startswith("backbone/") and place.dtype.kind in "fiu"


def _read_array(raw: BinaryIO, place: Place) -> np.ndarray:
    raw.seek(place.offset)
    return np.fromfile(raw, place.dtype, prod(place.shape)).reshape(place.shape)


def _settle_maps(path: Path, arrays: dict[str, np.ndarray], places: dict[str, Place]) -> dict[str, MapSpec]:
    maps = {}
    for name, sign in zip(_texts(arrays[layout.MAP_NAMES]), arrays[layout.MAP_SIGNS].tolist(), strict=True):
        place = places["features" if name == MAIN else f"features_{name}"]
        _, height, width, channels = place.shape
        maps[name] = MapSpec(name, height, width, channels, place.dtype, SIGNS[sign])
    try:
        layout.check_maps(maps.values())
    except CacheError as error:
        raise altered(path, str(error)) from error
    if len(maps) != sum(map(layout.is_map, places)):
        raise altered(path, f"'{layout.MAP_NAMES}' does not name every map")
    return maps


def _settle_annotations(arrays: dict[str, np.ndarray]) -> Annotations:
    return Annotations(
        dataset=_texts(arrays["dataset"])[0],
        image_paths=_texts(arrays["image_paths"]),
        labels=arrays["labels"],
        class_names=_texts(arrays["class_names"]),
        attributes=arrays["attributes"],
        attribute_names=_texts(arrays["attribute_names"]),
        attribute_vectors=arrays.get("attribute_vectors"),
        splits={name: arrays[f"splits/{name}"] for name in SPLIT_NAMES},
    )


def _texts(array: np.ndarray) -> tuple[str, ...]:
    return tuple(text.decode() for text in array.tolist())
