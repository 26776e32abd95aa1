"""Copies the rows of one cache into another: by the kernel, which shares their blocks where the file system can."""

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from msdn.cache import layout
from msdn.cache.errors import CacheError
from msdn.cache.files import named, open_itself
from msdn.cache.header import Header, read_header
from msdn.cache.reader import find_damaged_rows, refuse_damaged_rows

COPY_BYTES = 2**26
# where the kernel cannot copy between two files: old ones, some network file systems
NOT_BETWEEN_THESE = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM)


def copy_rows(header: Header, target: Path, first: int = 0, damaged: Sequence[int] = ()) -> None:
    """Copy everything that belongs to the rows of a cache to `target`, which has the same maps, from row `first` on.

    What has arrived is compared with its checksums, but for rows that are known to be `damaged`.
    """
    places = read_header(target).places
    with header.path.open("rb") as source, os.fdopen(open_itself(target, os.O_RDWR), "rb+") as sink:
        for name in (*layout.ROW_TABLES, *(spec.dataset for spec in header.maps.values())):
            before, after = header.places[name], places[name]
            ends = source.fileno(), before.offset, sink.fileno(), after.start_of(first)
            _copy_bytes(header.path, *ends, before.end - before.offset)
        os.fsync(sink.fileno())
    _compare(header, target, first, damaged)


def _copy_bytes(path: Path, source: int, start: int, sink: int, target: int, count: int) -> None:
    while count:
        done = _copy_in_kernel(source, start, sink, target, min(count, COPY_BYTES))
        if not done:
            with named(path):
                data = os.pread(source, min(count, COPY_BYTES), start)
            if not data:
                raise CacheError(f"{path}: was cut short while it was copied; nothing was changed")
            done = os.pwrite(sink, data, target)
        start, target, count = start + done, target + done, count - done


def _copy_in_kernel(source: int, start: int, sink: int, target: int, count: int) -> int:
    """Copy some bytes; none where that is not possible between these files."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, sink, count, start, target)
    except OSError as error:
        if error.errno not in NOT_BETWEEN_THESE:
            raise
        return 0


def _compare(header: Header, target: Path, first: int, damaged: Sequence[int]) -> None:
    """Raise where a row of the copy, or of what was copied, is not what its checksums say."""
    copied, rows = read_header(target), slice(first, first + len(header.states))
    states = np.full_like(copied.states, layout.TODO)
    states[rows] = header.states
    states[first + np.asarray(damaged, np.int64)] = layout.TODO
    tables = ("states", "checksums", "crc32")
    is_same = all(np.array_equal(getattr(copied, name)[rows], getattr(header, name)) for name in tables)
    is_same &= all(copied.mask_reasons[first + row] == why for row, why in header.mask_reasons.items())
    if not is_same or any(find_damaged_rows(replace(copied, states=states))):
        refuse_damaged_rows(header)
        raise CacheError(f"{target.parent}: a copy there differs from {header.path}; check the disk")
