"""Names, types and fixed places inside a cache file: what writer and reader agree on."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.annotations import Annotations
from msdn.cache.errors import CacheError

FORMAT = "msdn-cache"
SCHEMA = 3
LIBVER = "v108"  # HDF5 1.8 and later read it
ALIGNMENT = 4096  # a page: features can be mapped, and reads never straddle one page more than they must
REASON_BYTES = 240
GROUPS = ("splits", "backbone")
MOST_ROWS = 2**24  # images of a cache, and texts of any list in it
LARGEST = 2**31  # bytes of all that is read when a cache is opened: not the features, nor why rows are masked

MAIN = "regions"  # the map that every cache has, in the dataset `features`
MAP_NAME = re.compile(r"[a-z0-9_]{1,64}")
STORED_TYPES = (np.dtype(np.float16), np.dtype(np.float32))

MAP_NAMES = "map_names"  # in the order of the checksums' columns
MAP_SIGNS = "map_signs"  # may values be negative: 1 yes, 0 no, -1 not known
CHECKSUMS = "row_checksums"
CRC32 = "row_crc32"
STATES = "row_states"
REASONS = "mask_reasons"
ROW_TABLES = (CHECKSUMS, CRC32, STATES, REASONS)  # filled in place, never through the HDF5 library

ANNOTATIONS = "annotations"  # the key of provenance that says where labels, splits and vectors come from
UNNAMED_IMAGES = "images_without_names"  # the key that marks an imported cache whose image paths are made up
COUNTS = "counts"  # the key that marks an import whose splits are not as large as the known dataset's
GROWN = "grown"  # the key that says which rows came from an earlier cache with fewer images, and how those were made
PART = "part"  # the key that says which rows of a cache a file holds that is one part of it
MIXED = "mixed_devices"  # the key that says which rows were made on which device, where those differ
EXPORTED_MAP = "exported_map"  # the key that says which map an imported one was, where not the main one

TODO, DONE, MASKED = 0, 1, 2  # values of row_states


@dataclass(frozen=True)
class MapSpec:
    """One map of features: `height` x `width` regions of `channels` values for every image.

    Attributes:
        name: `MAIN`, or lower-case letters, digits and underscores.
        signed: whether values may be negative; None where that is not known, as of an import.
    """

    name: str
    height: int
    width: int
    channels: int
    dtype: np.dtype
    signed: bool | None

    @property
    def dataset(self) -> str:
        """Name of the HDF5 dataset that holds it."""
        return "features" if self.name == MAIN else f"features_{self.name}"

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """(h, w, C) of one image."""
        return self.height, self.width, self.channels

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return prod(self.row_shape) * self.dtype.itemsize


def check_maps(maps: Iterable[MapSpec]) -> None:
    """Refuse maps that a cache cannot hold."""
    names = [spec.name for spec in maps]
    if names[:1] != [MAIN] or len(set(names)) != len(names):
        raise CacheError(f"maps are {', '.join(names) or 'none'}, expected '{MAIN}' first and no name twice")
    for spec in maps:
        if not MAP_NAME.fullmatch(spec.name):
            raise CacheError(f"a map is called '{spec.name}', expected lower-case letters, digits and _")
        if min(spec.row_shape) < 1 or spec.dtype not in STORED_TYPES:
            raise CacheError(
                f"map '{spec.name}' is {spec.dtype} of shape {spec.row_shape} an image, expected float16 or "
                "float32 (h, w, C)"
            )


@dataclass(frozen=True)
class Place:
    """Where one contiguous dataset lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        """Bytes of the dataset."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """First byte behind the dataset."""
        return self.offset + self.bytes

    def start_of(self, row: int) -> int:
        """File offset of a row."""
        return self.offset + row * self.row_bytes


def is_map(name: str) -> bool:
    """Whether a dataset of this name holds features."""
    return name == "features" or name.startswith("features_")


def check_sizes(path: Path, places: Mapping[str, Place]) -> None:
    """Refuse more than opening a cache should ever take from the memory."""
    longest = max(place.shape[0] for place in places.values() if place.dtype.kind == "S")
    read = sum(place.bytes for name, place in places.items() if name != REASONS and not is_map(name))
    if longest > MOST_ROWS or read > LARGEST:
        raise CacheError(
            f"{path}: {longest} texts and {read / 1e9:.2f} GB beside the features, more than a cache can have "
            f"({MOST_ROWS} and {LARGEST / 1e9:.2f} GB)"
        )


def fingerprint(annotations: Annotations, maps: Iterable[MapSpec], checksums: np.ndarray) -> str:
    """Hash what training depends on: all maps' rows, labels, splits, attributes, vectors; no times, no versions."""
    digest = sha256()
    for spec in maps:
        digest.update(f"map {spec.name} {spec.dtype.str} {spec.row_shape};".encode())
    arrays = {"checksums": checksums, "labels": annotations.labels, "attributes": annotations.attributes}
    if annotations.attribute_vectors is not None:
        arrays["vectors"] = annotations.attribute_vectors
    arrays |= {f"split {name}": rows for name, rows in annotations.splits.items()}
    _update(digest, arrays)
    return digest.hexdigest()[:32]


def digest_metadata(
    metadata: Mapping[str, np.ndarray], maps: Mapping[str, tuple[np.dtype, tuple[int, ...]]]
) -> str:
    """Hash everything but the rows: all other datasets byte by byte, and type and shape of each map's dataset."""
    digest = sha256(f"{FORMAT} {SCHEMA};".encode())
    for name, (dtype, shape) in sorted(maps.items()):
        digest.update(f"{name} {dtype.str} {shape};".encode())
    _update(digest, metadata)
    return digest.hexdigest()


def _update(digest: Any, arrays: Mapping[str, np.ndarray]) -> None:
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())


def encode_text(text: str) -> bytes:
    """Return the text as a cache stores it: UTF-8 without zero bytes, which would end it early."""
    if "\0" in text:
        raise CacheError(f"{text!a} contains a zero byte; a cache cannot store it")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise CacheError(f"{text!a} is not UTF-8; a cache cannot store it; rename it") from error
