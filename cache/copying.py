"""Copies the rows of one cache into another: by the kernel, which shares their blocks where the file system can."""

import os
from pathlib import Path

from msdn.cache import layout
from msdn.cache.errors import CacheError
from msdn.cache.files import open_itself
from msdn.cache.header import Header, read_header

COPY_BYTES = 2**26


def copy_rows(header: Header, target: Path, first: int = 0) -> None:
    """Copy everything that belongs to the rows of a cache to `target`, which has the same maps, from row `first` on."""
    places = read_header(target).places
    with header.path.open("rb") as source, os.fdopen(open_itself(target, os.O_RDWR), "rb+") as sink:
        for name in (*layout.ROW_TABLES, *(spec.dataset for spec in header.maps.values())):
            before, after = header.places[name], places[name]
            _copy_bytes(
                source.fileno(),
                before.offset,
                sink.fileno(),
                after.start_of(first),
                before.end - before.offset,
            )
        os.fsync(sink.fileno())


def _copy_bytes(source: int, start: int, sink: int, target: int, count: int) -> None:
    while count:
        done = _copy_some(source, start, sink, target, min(count, COPY_BYTES))
        start, target, count = start + done, target + done, count - done


def _copy_some(source: int, start: int, sink: int, target: int, count: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            done = os.copy_file_range(source, sink, count, start, target)
        except OSError:  # not between these files: old kernels, some network file systems
            done = 0
        if done:
            return done
    data = os.pread(source, count, start)
    if not data:
        raise CacheError("the cache was cut short while it was copied; nothing was changed")
    return os.pwrite(sink, data, target)
