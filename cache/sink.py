"""HDF5 files in the making: the library is told of no failed write, for it passes over some and crashes at others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


class Sink:
    """The file that HDF5 writes to; `check` raises what went wrong first.

    What is written after that stays in memory, so that the library can close its file in peace.
    """

    def __init__(self, fd: int) -> None:
        """Write to an open, empty file."""
        self._fd, self._position = fd, 0
        self._error: BaseException | None = None
        self._lost: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the first error of a write."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, as every file does."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size()}[whence]
        self._position = begin + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def write(self, data: Any) -> int:
        """Write all of it, and never fail."""
        try:
            self.check()
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], self._position + done)
        except BaseException as error:  # Ctrl-C too
            self._error = self._error or error
            self._lost.append((self._position, bytes(data)))
        self._position += len(data)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Read what was written, lost or not."""
        start, end = self._position, self._position + len(buffer)
        buffer[:] = os.pread(self._fd, len(buffer), start).ljust(len(buffer), b"\0")
        for offset, data in self._lost:
            first, last = max(start, offset), min(end, offset + len(data))
            if first < last:
                buffer[first - start : last - start] = data[first - offset : last - offset]
        self._position = end
        return len(buffer)

    def read(self, size: int) -> bytes:
        """Read so many bytes."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def truncate(self, size: int) -> int:
        """Set the file's size, and never fail."""
        try:
            self.check()
            os.ftruncate(self._fd, size)
        except BaseException as error:
            self._error = self._error or error
        return size

    def flush(self) -> None:
        """Nothing waits here."""

    def _size(self) -> int:
        ends = [offset + len(data) for offset, data in self._lost]
        return max([os.fstat(self._fd).st_size, *ends])


@contextmanager
def write_hdf5(path: Path, **properties: Any) -> Iterator[tuple[h5py.File, Sink]]:
    """Fill the empty file at `path` by the HDF5 library; the first write that fails is raised when it is closed.

    Args:
        path: the file.
        properties: of the HDF5 file, as h5py.File takes them.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        sink = Sink(fd)
        try:
            with h5py.File(sink, "w", **properties) as file:
                yield file, sink
        except Exception:
            sink.check()
            raise
        sink.check()
    finally:
        os.close(fd)
