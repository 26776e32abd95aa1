"""Reads all of a cache file but its features, and refuses what is not a cache in good order."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import SPLIT_NAMES, Annotations, check_annotations, settle_types
from msdn.cache.checksum import digest_header
from msdn.cache.errors import CacheError, MsdnError

AGAIN = "make it anew: 'msdn extract' with --restart"
STORED_TYPES = (np.dtype(np.float16), np.dtype(np.float32))


@dataclass(frozen=True)
class Header:
    """A cache's annotations, provenance, row states and the places of its rows."""

    path: Path
    annotations: Annotations
    provenance: dict[str, Any]
    backbone_state: dict[str, np.ndarray]
    places: dict[str, layout.Place]
    states: np.ndarray
    checksums: np.ndarray
    reasons: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, h, w, F) of the features."""
        n, h, w, f = self.places[layout.FEATURES].shape
        return n, h, w, f

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
    try:
        with h5py.File(path, "r", locking=False) as file:
            _check_format(path, file)
            return _read(path, file)
    except MsdnError:
        raise
    except OSError as error:
        raise CacheError(f"{path}: damaged or cut short ({_first_line(error)}); {AGAIN}") from error
    except (
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise CacheError(f"{path}: damaged ({_first_line(error)}); {AGAIN}") from error


def refuse_foreign_file(path: Path) -> None:
    """Raise unless there is no such file or it is a cache, be it damaged or old: nothing else is replaced."""
    if not path.exists():
        return
    try:
        read_header(path)
    except MsdnError as error:
        if not h5py.is_hdf5(path) or "not a cache made by" in str(error):
            raise CacheError(
                f"{path}: exists and is no cache made by 'msdn extract'; choose another --out"
            ) from error


def _check_format(path: Path, file: h5py.File) -> None:
    if file.attrs.get("format") != layout.FORMAT:
        hint = " (a published feature file?)" if "feature_map" in file else ""
        raise CacheError(f"{path}: an HDF5 file, but not a cache made by 'msdn extract'{hint}")
    schema = int(file.attrs.get("schema", 0))
    if schema != layout.SCHEMA:
        raise CacheError(f"{path}: schema version {schema}, expected {layout.SCHEMA}; {AGAIN}")


def _read(path: Path, file: h5py.File) -> Header:
    places = {name: _place_of(path, file, name) for name in layout.FIXED}
    size = path.stat().st_size
    if size < max(place.end for place in places.values()):
        raise CacheError(f"{path}: cut short at {size} bytes; {AGAIN}")
    annotations = settle_types(_read_annotations(file))
    check_annotations(annotations)
    _check_places(path, places, len(annotations.image_paths))
    state = {name: data[()] for name, data in file.get("backbone", {}).items()}
    provenance = str(file.attrs["provenance"])
    if digest_header(annotations, state, provenance) != file.attrs["header_digest"]:
        raise CacheError(f"{path}: damaged, its annotations are not those it was made with; {AGAIN}")
    return Header(
        path=path,
        annotations=annotations,
        provenance=json.loads(provenance),
        backbone_state=state,
        places=places,
        states=file[layout.STATES][()],
        checksums=file[layout.CHECKSUMS][()],
        reasons=file[layout.REASONS][()],
    )


def _check_places(path: Path, places: dict[str, layout.Place], n: int) -> None:
    for name, place in places.items():
        if not place.shape or place.shape[0] != n:
            raise CacheError(f"{path}: '{name}' has shape {place.shape}, expected {n} rows; {AGAIN}")
    features = places[layout.FEATURES]
    if len(features.shape) != 4 or features.dtype not in STORED_TYPES:
        raise CacheError(
            f"{path}: features are {features.dtype} of shape {features.shape}, expected float16 or float32 "
            f"[N, h, w, F]; {AGAIN}"
        )


def _place_of(path: Path, file: h5py.File, name: str) -> layout.Place:
    place = layout.find_place(file[name])
    if place is None:
        raise CacheError(
            f"{path}: '{name}' is chunked, compressed or byte-swapped, so this is an altered copy; use the "
            f"original, or undo it with 'h5repack -f {name}:NONE -l {name}:CONTI {path.name} COPY.h5'"
        )
    return place


def _read_annotations(file: h5py.File) -> Annotations:
    return Annotations(
        dataset=str(file.attrs["dataset"]),
        image_paths=_read_texts(file["image_paths"]),
        labels=file["labels"][()],
        class_names=_read_texts(file["class_names"]),
        attributes=file["attributes"][()],
        attribute_names=_read_texts(file["attribute_names"]),
        attribute_vectors=file["attribute_vectors"][()] if "attribute_vectors" in file else None,
        splits={name: file[f"splits/{name}"][()] for name in SPLIT_NAMES},
    )


def _read_texts(dataset: h5py.Dataset) -> tuple[str, ...]:
    return tuple(dataset.asstr()[()].tolist()) if dataset.shape[0] else ()


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
