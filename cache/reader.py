"""A finished cache, open for reading: annotations in memory, features by random row access."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations
from msdn.cache.checksums import checksum_row, crc_reason, crc_row
from msdn.cache.errors import CacheError, UnknownNameError
from msdn.cache.header import AGAIN, Header, read_header
from msdn.cache.layout import MAIN, MapSpec


class FeatureCache:
    """Random rows of one of a cache's maps at memory speed, without the HDF5 library.

    Features are copied from a memory map of the place HDF5 says they lie at. A file cut short under
    a map would end the process, so its size is checked before every batch. A row is compared with its
    CRC-32 when it is read for the first time.

    Attributes:
        map: the map that was chosen; `shape` (N, h, w, C), `dtype` and `signed` are its own.
        maps: all maps by name, the main one first; columns of `checksums` and `crc32` [N, M] are in this order.
    """

    def __init__(self, path: Path | str, map: str = MAIN) -> None:
        self.path = Path(path)
        header = read_header(self.path)
        check_complete(header)
        self.header = header
        self.annotations: Annotations = header.annotations
        self.provenance: dict[str, Any] = header.provenance
        self.backbone_state = header.backbone_state
        self.masked_rows = header.masked_rows
        self.mask_reasons = header.mask_reasons
        self.checksums = header.checksums
        self.crc32 = header.crc32
        self.fingerprint = header.fingerprint
        self.maps = header.maps
        self.map = self._find(map)
        self.shape = (len(header.states), *self.map.row_shape)
        self.dtype = self.map.dtype
        self.signed = self.map.signed
        self._mapped: mmap.mmap | None = map_file(self.path)
        self._places = {name: header.places[spec.dataset] for name, spec in self.maps.items()}
        self._rows = {name: view_rows(self._mapped, place) for name, place in self._places.items()}
        self._is_checked = {name: header.states != layout.DONE for name in self.maps}

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; rows can no longer be read. A second time does nothing."""
        self._rows, self._mapped = {}, None  # the file's map goes with the last view of it

    def rows(self, split: str) -> np.ndarray:
        """Return the usable rows of a split: masked ones are left out."""
        return np.setdiff1d(self.annotations.splits[split], self.masked_rows)

    def read_rows(
        self, rows: np.ndarray, out: np.ndarray | None = None, map: str | None = None
    ) -> np.ndarray:
        """Return the features [n, R, C] of `rows`, in their stored type; into `out` where given.

        They are of the chosen map, or of another one that `map` names. Damaged ones are refused; `out` then holds
        what nobody may use. Masked rows have no features: what comes for them means nothing.
        """
        spec = self.map if map is None else self._find(map)
        rows = np.asarray(rows, np.int64)
        wanted = (len(rows), spec.height * spec.width, spec.channels)
        if self._mapped is None:
            raise CacheError(f"{self.path}: was closed; open the cache again to read from it")
        if out is None:
            out = np.empty(wanted, spec.dtype)
        if out.shape != wanted or out.dtype != spec.dtype or not out.flags.c_contiguous:
            raise ValueError(f"out must be a contiguous {spec.dtype} array of shape {wanted}")
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.shape[0]:
            raise IndexError(f"rows run from {rows.min()} to {rows.max()}, the cache has {self.shape[0]}")
        if self._mapped.size() < len(self._mapped):
            raise CacheError(f"{self.path}: cut short while it was in use; {AGAIN}")
        # rows are checked above; "clip" copies without a buffer
        np.take(self._rows[spec.name], rows, axis=0, out=out, mode="clip")
        self._check_new(spec.name, rows, out)
        return out

    def _check_new(self, name: str, rows: np.ndarray, values: np.ndarray) -> None:
        """Compare the values of rows with their checksums, where that was not done before.

        Threads that read the same row at once both compare it.
        """
        is_checked = self._is_checked[name]
        column = [*self.maps].index(name)
        for position in np.flatnonzero(~is_checked[rows]).tolist():
            row = rows[position]
            if is_checked[row]:  # it comes twice
                continue
            if crc_row(values[position]) != self.crc32[row, column]:
                raise CacheError(describe_damage(self.header, {int(row): [name]}))
            is_checked[row] = True

    def expect_rows(self, rows: np.ndarray) -> None:
        """Let the system begin to read rows of the chosen map from the disk, all at once and without waiting."""
        if self._mapped is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        place = self._places[self.map.name]
        for row in np.asarray(rows).tolist():
            start = place.start_of(row)
            begin = start - start % mmap.PAGESIZE
            self._mapped.madvise(mmap.MADV_WILLNEED, begin, start + place.row_bytes - begin)

    def _find(self, name: str) -> MapSpec:
        if name not in self.maps:
            raise UnknownNameError("map", name, self.maps, f" in {self.path}")
        return self.maps[name]


def check_complete(header: Header) -> None:
    """Refuse a part of a cache, and a cache with rows that are neither done nor masked."""
    if layout.PART in header.provenance:
        raise CacheError(
            f"{header.path}: one part of a cache; when all are there, 'msdn cache merge' makes the cache of them"
        )
    check_rows(header)


def check_rows(header: Header) -> None:
    """Refuse rows that are neither done nor masked, and those that are marked otherwise than they are."""
    todo = int((header.states == layout.TODO).sum())
    if todo:
        raise CacheError(
            f"{header.path}: incomplete, {todo} of {len(header.states)} images not extracted yet; repeat the command "
            f"that started it, or {AGAIN}"
        )
    is_done, is_masked = header.states == layout.DONE, header.states == layout.MASKED
    is_wrong = (is_done[:, None] != (header.checksums != 0)).any(axis=1) | ~(is_done | is_masked)
    for row in header.masked_rows.tolist():
        is_wrong[row] |= (header.crc32[row] != crc_reason(header.mask_reasons[row].encode())).any()
    if is_wrong.any():
        raise CacheError(
            f"{header.path}: damaged, the marks and checksums of {is_wrong.sum()} rows do not match; {AGAIN}"
        )


def map_file(path: Path) -> mmap.mmap:
    """Map the whole file read-only."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def view_rows(mapped: mmap.mmap, place: layout.Place) -> np.ndarray:
    """View a map's features as [N, R, C]."""
    n, h, w, c = place.shape
    return np.frombuffer(mapped, place.dtype, prod(place.shape), place.offset).reshape(n, h * w, c)


def find_damaged_rows(header: Header, fast: bool = False) -> Iterator[tuple[str, int]]:
    """Yield map and row wherever features differ from what was written; masked rows have none.

    Both checksums are compared, or with `fast` only the CRC-32.
    """
    mapped = map_file(header.path)
    for column, (name, spec) in enumerate(header.maps.items()):
        values = view_rows(mapped, header.places[spec.dataset])
        for row in np.flatnonzero(header.states == layout.DONE).tolist():
            if mapped.size() < len(mapped):
                raise CacheError(f"{header.path}: cut short while it was in use; {AGAIN}")
            is_whole = crc_row(values[row]) == header.crc32[row, column]
            if not is_whole or not (fast or checksum_row(values[row]) == header.checksums[row, column]):
                yield name, row


def refuse_damaged_rows(header: Header, fast: bool = False) -> None:
    """Raise where features differ from what was written, naming the first row."""
    damaged: dict[int, list[str]] = {}
    for name, row in find_damaged_rows(header, fast):
        damaged.setdefault(row, []).append(name)
    if damaged:
        raise CacheError(describe_damage(header, damaged))


def describe_damage(header: Header, damaged: Mapping[int, Sequence[str]]) -> str:
    """One sentence on damaged rows: the first of them with its image and maps, and what helps.

    Args:
        header: of the cache that they are in.
        damaged: by row, the names of the maps whose features are damaged.
    """
    row = min(damaged)
    maps = f" in map {' and '.join(damaged[row])}" if len(header.maps) > 1 else ""
    which = f"row {row} ({header.annotations.image_paths[row]}){maps} does not match its checksum"
    if len(damaged) > 1:
        which = f"{len(damaged)} of {len(header.states)} rows are damaged, first {which}"
    return f"{header.path}: {which}; 'msdn cache verify' names all that are damaged; {repair(header)}"


def repair(header: Header) -> str:
    """How the damaged rows of a finished cache are made again."""
    if header.provenance.get("weights", {}).get("kind") == "imported":
        return "import the file again, with --restart"
    return "repeat its 'msdn extract' command with --retry-bad, which makes damaged rows again"
