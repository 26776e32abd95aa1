"""Reads all of a cache file but its features, and refuses what is not a cache in good order.

HDF5 is asked only where things lie. They are read from there as raw bytes, compared with their digest, and only
then understood.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5s, h5t

from msdn.cache import layout
from msdn.cache.annotations import SPLIT_NAMES, Annotations, check_annotations, settle_types
from msdn.cache.errors import CacheError, MsdnError, explain_damage
from msdn.cache.layout import MAIN, MapSpec, Place

AGAIN = "make it again: 'msdn extract' with --restart"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
END_OF_FILE_AT = {0: 40, 2: 28}  # in a superblock of that version: how long the file is to be

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
    reasons: np.ndarray

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

    @property
    def mask_reasons(self) -> dict[int, str]:
        """Why, for every masked row."""
        return {int(row): self.reasons[row].decode(errors="replace") for row in self.masked_rows}


def read_header(path: Path) -> Header:
    """Read the header of a finished or unfinished cache."""
    if not path.exists():
        raise CacheError(f"{path}: no such file; 'msdn extract' makes caches")
    if not path.is_file() or not h5py.is_hdf5(path):
        raise CacheError(f"{path}: not an HDF5 file, expected a cache made by 'msdn extract'")
    with explain_damage(path, "damaged or cut short", f"; {AGAIN}"):
        with h5py.File(path, "r", locking=False) as file:
            digest = _check_format(path, file)
            places = dict(_find_places(path, file))
        with path.open("rb") as raw:
            return _read(path, raw, places, digest)


def refuse_foreign_file(path: Path) -> None:
    """Raise unless there is no such file or it is a cache, be it damaged or old: nothing else is replaced."""
    if not path.exists():
        return
    try:
        read_header(path)
    except MsdnError as error:
        if not h5py.is_hdf5(path) or "not a cache made by" in str(error):
            raise CacheError(
                f"{path}: exists and is not a cache made by 'msdn extract'; choose another --out"
            ) from error


def _check_format(path: Path, file: h5py.File) -> str:
    """Return the digest that the file should have."""
    if not {"format", "schema"} <= set(file.attrs) or layout.STATES not in list(file):
        hint = " (a published feature file?)" if "feature_map" in file else ""
        raise CacheError(f"{path}: an HDF5 file, but not a cache made by 'msdn extract'{hint}")
    schema = int(_read_attribute(path, file, "schema", h5t.INTEGER))
    if schema != layout.SCHEMA:
        raise CacheError(f"{path}: schema version {schema}, expected {layout.SCHEMA}; {AGAIN}")
    if _read_attribute(path, file, "format", h5t.STRING) != layout.FORMAT.encode():
        raise CacheError(f"{path}: an HDF5 file, but not a cache made by 'msdn extract'")
    return bytes(_read_attribute(path, file, "digest", h5t.STRING)).decode()


def _read_attribute(path: Path, file: h5py.File, name: str, expected: int) -> Any:
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    is_scalar = attribute.get_space().get_simple_extent_type() == h5s.SCALAR
    if not _has_fixed_size(kind, expected) or not is_scalar or kind.get_size() > 256:
        raise _altered(path, f"attribute '{name}' is not of its type")
    return file.attrs[name]


def _has_fixed_size(kind: h5t.TypeID, *classes: int) -> bool:
    is_text = kind.get_class() == h5t.STRING
    return kind.get_class() in classes and not (is_text and kind.is_variable_str())


def _altered(path: Path, what: str) -> CacheError:
    return CacheError(f"{path}: damaged or changed, {what}; {AGAIN}")


def _find_places(path: Path, file: h5py.File) -> Iterator[tuple[str, Place]]:
    """Yield where every dataset lies; nothing of them is read, and what no cache holds is refused."""
    size = path.stat().st_size
    found = set()
    for name, thing in _walk(path, file.id, ""):
        place = _find_place(path, name, thing)
        expected = TABLES.get(name)
        if expected is not None and not _fits(place, *expected):
            raise _altered(path, f"'{name}' is {place.dtype} of shape {place.shape}")
        if expected is None and not name.startswith(("features", "backbone/")):
            raise _altered(path, f"it holds '{name}', which is not part of a cache")
        if place.end > size:
            raise CacheError(f"{path}: cut short at {size} bytes; {AGAIN}")
        found.add(name)
        yield name, place
    missing = sorted(TABLES.keys() - found - OPTIONAL)
    if missing:
        raise _altered(path, f"'{missing[0]}' is missing")


def _walk(path: Path, group: h5g.GroupID, prefix: str) -> Iterator[tuple[str, h5d.DatasetID]]:
    for link in list(group):
        name = prefix + link.decode()
        if group.links.get_info(link).type != h5l.TYPE_HARD:
            raise _altered(path, f"'{name}' is a link to another place")
        thing = h5o.open(group, link)
        if isinstance(thing, h5d.DatasetID):
            yield name, thing
        elif isinstance(thing, h5g.GroupID) and name in layout.GROUPS:
            yield from _walk(path, thing, f"{name}/")
        else:
            raise _altered(path, f"'{name}' is not a dataset")


def _find_place(path: Path, name: str, dataset: h5d.DatasetID) -> Place:
    kind, plan = dataset.get_type(), dataset.get_create_plist()
    if not _has_fixed_size(kind, h5t.INTEGER, h5t.FLOAT, h5t.STRING):
        raise _altered(path, f"'{name}' holds values without a fixed size")
    dtype = np.dtype(kind.dtype)
    is_plain = plan.get_layout() == h5d.CONTIGUOUS and not plan.get_external_count()
    is_native = dtype.kind == "S" or (dtype.kind in "fiu" and dtype.isnative and kind == h5t.py_create(dtype))
    if not is_plain or plan.get_nfilters() or not is_native:
        raise CacheError(
            f"{path}: '{name}' is chunked, compressed or byte-swapped, so this is a changed copy; use the "
            f"original, or undo it with 'h5repack -f {name}:NONE -l {name}:CONTI {path.name} COPY.h5'"
        )
    offset = dataset.get_offset()
    if offset is None and 0 not in dataset.shape:
        raise _altered(path, f"'{name}' has no place in the file")
    return Place(offset or 0, tuple(map(int, dataset.shape)), np.dtype(dtype.str))


def _fits(place: Place, kind: str, dimensions: int) -> bool:
    same = place.dtype.kind == "S" if kind == "S" else place.dtype == np.dtype(kind)
    return same and len(place.shape) == dimensions


def _read(path: Path, raw: BinaryIO, places: dict[str, Place], digest: str) -> Header:
    _check_length(path, raw)
    arrays = {name: _read_array(raw, place) for name, place in places.items() if not _is_map(name)}
    rows = {name: arrays.pop(name) for name in layout.ROW_TABLES}
    shapes = {name: (place.dtype, place.shape) for name, place in places.items() if _is_map(name)}
    if layout.digest_metadata(arrays, shapes) != digest:
        raise CacheError(f"{path}: damaged, its annotations changed since it was made; {AGAIN}")
    maps = _settle_maps(path, arrays, places)
    annotations = settle_types(_settle_annotations(arrays))
    provenance = dict(json.loads(arrays["provenance"].tobytes()))
    check_annotations(annotations, layout.PART in provenance)
    n, m = len(annotations.image_paths), len(maps)
    for name, expected in zip(layout.ROW_TABLES, ((n, m), (n, m), (n,), (n,)), strict=True):
        if rows[name].shape != expected:
            raise _altered(path, f"'{name}' has shape {rows[name].shape}, expected {expected}")
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
        reasons=rows[layout.REASONS],
    )


def _is_map(name: str) -> bool:
    return name.startswith("features")


def _check_length(path: Path, raw: BinaryIO) -> None:
    """Refuse a file that is shorter or longer than HDF5 left it."""
    head = raw.read(64)
    at = END_OF_FILE_AT.get(head[8]) if head.startswith(SIGNATURE) else None
    if at is None or head[13 if head[8] == 0 else 9] != 8:
        raise _altered(path, "its start is not that of a cache")
    size, expected = path.stat().st_size, int.from_bytes(head[at : at + 8], "little")
    if size != expected:
        raise CacheError(f"{path}: damaged or cut short, {size} bytes long, expected {expected}; {AGAIN}")


def _read_array(raw: BinaryIO, place: Place) -> np.ndarray:
    raw.seek(place.offset)
    return np.fromfile(raw, place.dtype, prod(place.shape)).reshape(place.shape)


def _settle_maps(path: Path, arrays: dict[str, np.ndarray], places: dict[str, Place]) -> dict[str, MapSpec]:
    maps = {}
    for name, sign in zip(_texts(arrays[layout.MAP_NAMES]), arrays[layout.MAP_SIGNS].tolist(), strict=True):
        place = places["features" if name == MAIN else f"features_{name}"]
        n, height, width, channels = place.shape
        if n != len(arrays["image_paths"]):
            raise _altered(path, f"map '{name}' has {n} rows for {len(arrays['image_paths'])} images")
        maps[name] = MapSpec(name, height, width, channels, place.dtype, SIGNS[sign])
    try:
        layout.check_maps(maps.values())
    except CacheError as error:
        raise _altered(path, str(error)) from error
    if len(maps) != sum(map(_is_map, places)):
        raise _altered(path, f"'{layout.MAP_NAMES}' does not name every map")
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
