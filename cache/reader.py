"""A finished cache, open for reading: annotations in memory, features by random row access."""

import mmap
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations
from msdn.cache.checksum import fingerprint
from msdn.cache.errors import CacheError
from msdn.cache.header import AGAIN, Header, read_header


class FeatureCache:
    """Random rows of a cache at memory speed, without the HDF5 library.

    Features are copied from a memory map of the place HDF5 says they lie at. A file cut short under
    a map would end the process, so its size is checked before every batch.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        header = read_header(self.path)
        check_complete(header)
        self.annotations: Annotations = header.annotations
        self.provenance: dict[str, Any] = header.provenance
        self.backbone_state = header.backbone_state
        self.shape = header.shape
        self.dtype = header.places[layout.FEATURES].dtype
        self.masked_rows = header.masked_rows
        self.mask_reasons = header.mask_reasons
        self.checksums = header.checksums
        self.fingerprint = fingerprint(header.annotations, header.checksums)
        self._place = header.places[layout.FEATURES]
        self._mapped = map_file(self.path, self._place)
        self._rows = view_rows(self._mapped, self._place)

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; rows can no longer be read."""
        del self._rows, self._mapped  # the map goes with the last view of it

    def rows(self, split: str) -> np.ndarray:
        """Return the usable rows of a split: masked ones are left out."""
        return np.setdiff1d(self.annotations.splits[split], self.masked_rows)

    def read_rows(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the features [n, R, F] of `rows`, in their stored type; into `out` where given."""
        rows = np.asarray(rows, np.int64)
        _, h, w, f = self.shape
        if out is None:
            out = np.empty((len(rows), h * w, f), self.dtype)
        if out.shape != (len(rows), h * w, f) or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(f"out must be a contiguous {self.dtype} array of shape {(len(rows), h * w, f)}")
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.shape[0]:
            raise IndexError(f"rows run from {rows.min()} to {rows.max()}, the cache has {self.shape[0]}")
        if self._mapped.size() < self._place.end:
            raise CacheError(f"{self.path}: cut short while it was in use; {AGAIN}")
        np.take(
            self._rows, rows, axis=0, out=out, mode="clip"
        )  # checked above; "clip" copies without a buffer
        return out


def check_complete(header: Header) -> None:
    """Refuse a cache with rows that are neither done nor masked."""
    todo = int((header.states == layout.TODO).sum())
    if todo:
        raise CacheError(
            f"{header.path}: incomplete, {todo} of {len(header.states)} images not extracted yet; repeat the command "
            f"that began it, or {AGAIN}"
        )
    wrong = np.flatnonzero((header.states == layout.DONE) != (header.checksums != 0))
    if len(wrong) or header.states.max() > layout.MASKED:
        raise CacheError(
            f"{header.path}: damaged, the marks of {max(1, len(wrong))} rows contradict them; {AGAIN}"
        )


def map_file(path: Path, place: layout.Place) -> mmap.mmap:
    """Map the file read-only up to the end of `place`."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), place.end, access=mmap.ACCESS_READ)


def view_rows(mapped: mmap.mmap, place: layout.Place) -> np.ndarray:
    """View the mapped features as [N, R, F]."""
    n, h, w, f = place.shape
    return np.frombuffer(mapped, place.dtype, n * h * w * f, place.offset).reshape(n, h * w, f)
