"""A finished cache, open for reading: annotations in memory, features by random row access."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations
from msdn.cache.checksum import fingerprint
from msdn.cache.errors import CacheError
from msdn.cache.header import AGAIN, read_header


class FeatureCache:
    """Random rows of a cache at memory speed, without the HDF5 library.

    Features are read with `preadv` at the place HDF5 says they lie. A memory map would be as
    fast, but a file cut short under a map ends the process; here it is an error with a sentence.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        header = read_header(self.path)
        todo = int((header.states == layout.TODO).sum())
        if todo:
            raise CacheError(
                f"{self.path}: incomplete, {todo} of {len(header.states)} images not extracted yet; {AGAIN}"
            )
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
        self._fd = os.open(self.path, os.O_RDONLY)

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; closing twice is fine."""
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def rows(self, split: str) -> np.ndarray:
        """Return the usable rows of a split: masked ones are left out."""
        return np.setdiff1d(self.annotations.splits[split], self.masked_rows)

    def read_rows(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the features [n, R, F] of `rows`, in their stored type; into `out` where given."""
        _, h, w, f = self.shape
        if out is None:
            out = np.empty((len(rows), h * w, f), self.dtype)
        if out.shape != (len(rows), h * w, f) or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(f"out must be a contiguous {self.dtype} array of shape {(len(rows), h * w, f)}")
        if len(rows) and not 0 <= min(rows) <= max(rows) < self.shape[0]:
            raise IndexError(f"rows run from {min(rows)} to {max(rows)}, the cache has {self.shape[0]}")
        target = memoryview(out).cast("B") if len(rows) else memoryview(b"")
        size = self._place.row_bytes
        for position, row in enumerate(rows):
            self._read_into(target[position * size : (position + 1) * size], self._place.start_of(int(row)))
        return out

    def _read_into(self, target: memoryview, offset: int) -> None:
        done = 0
        while done < len(target):
            got = os.preadv(self._fd, [target[done:]], offset + done)
            if got == 0:
                raise CacheError(f"{self.path}: cut short while it was read; {AGAIN}")
            done += got
