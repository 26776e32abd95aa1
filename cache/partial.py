"""An unfinished cache: rows come in place, each flushed before its mark, until it is renamed complete.

HDF5 never opens this file for writing, so a process killed at any instant leaves it valid.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from msdn.cache import layout
from msdn.cache.checksums import checksum_row, crc_reason, crc_row
from msdn.cache.errors import CacheError
from msdn.cache.files import flush_folder, named, open_itself
from msdn.cache.header import Header, read_header

SUFFIX = ".partial"


def partial_path(final: Path) -> Path:
    """Where the unfinished file of a cache lies."""
    return final.with_name(final.name + SUFFIX)


class PartialCache:
    """The unfinished file, open for `write_rows`, `mask_rows` and `finish`."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = partial_path(final)
        self.header: Header = read_header(self.path)
        self.states = self.header.states.copy()
        self._fd = open_itself(self.path, os.O_RDWR)

    def __enter__(self) -> "PartialCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    @property
    def unfinished_rows(self) -> np.ndarray:
        """Rows without features: those never reached, and those masked by an earlier pass."""
        return np.flatnonzero(self.states != layout.DONE)

    def write_rows(self, rows: Sequence[int], features: Mapping[str, np.ndarray]) -> None:
        """Store the features of `rows`, [n, h, w, C] for every map: data first, flushed, then their marks."""
        maps = self.header.maps
        if features.keys() != maps.keys():
            raise ValueError(f"features of maps {', '.join(features)}; the cache has {', '.join(maps)}")
        for name, spec in maps.items():
            expected = len(rows), *spec.row_shape
            if features[name].shape != expected:
                raise ValueError(f"features of map '{name}' are {features[name].shape}, expected {expected}")
        with named(self.path):
            for position, row in enumerate(rows):
                self._write_row(row, {name: features[name][position] for name in maps})
            self._mark(rows, layout.DONE)

    def _write_row(self, row: int, features: Mapping[str, np.ndarray]) -> None:
        stored = [np.ascontiguousarray(features[name], spec.dtype) for name, spec in self.header.maps.items()]
        for spec, values in zip(self.header.maps.values(), stored, strict=True):
            self._write(spec.dataset, row, values)
        self._write(layout.CHECKSUMS, row, np.array([checksum_row(v) for v in stored], np.uint64))
        self._write(layout.CRC32, row, np.array([crc_row(v) for v in stored], np.uint32))
        if self.states[row] == layout.MASKED:
            self._write(layout.REASONS, row, np.bytes_(b""))

    def mask_rows(self, reasons: Mapping[int, str]) -> None:
        """Record rows whose image cannot be used, with the reason for each."""
        with named(self.path):
            for row, reason in reasons.items():
                text = layout.encode_text(reason)[: layout.REASON_BYTES].decode(errors="ignore")
                self._write(layout.REASONS, row, np.bytes_(text.encode()))
                maps = len(self.header.maps)
                self._write(layout.CHECKSUMS, row, np.zeros(maps, np.uint64))
                self._write(layout.CRC32, row, np.full(maps, crc_reason(text.encode()), np.uint32))
            self._mark(list(reasons), layout.MASKED)

    def forget_rows(self, rows: Sequence[int]) -> None:
        """Take back the marks of rows, so that they are computed again."""
        with named(self.path):
            self._mark(rows, layout.TODO)

    def finish(self) -> None:
        """Give the complete file its final name."""
        todo = int((self.states == layout.TODO).sum())
        if todo:
            raise CacheError(f"{self.path}: {todo} rows are not extracted yet")
        with named(self.path):
            os.fsync(self._fd)
        self.path.replace(self._final)
        flush_folder(self._final.parent)

    def _mark(self, rows: Sequence[int], state: int) -> None:
        os.fsync(self._fd)
        for row in rows:
            self._write(layout.STATES, row, np.uint8(state))
            self.states[row] = state
        os.fsync(self._fd)

    def _write(self, name: str, row: int, value: np.ndarray | np.generic) -> None:
        place = self.header.places[name]
        data = np.ascontiguousarray(value, place.dtype).data.cast("B")
        if len(data) != place.row_bytes:
            raise ValueError(f"a row of '{name}' has {place.row_bytes} bytes, got {len(data)}")
        offset = place.start_of(row)
        while data:
            done = os.pwrite(self._fd, data, offset)
            data, offset = data[done:], offset + done
