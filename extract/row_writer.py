"""Writes finished blocks from a thread of its own, so that computing never waits for the disk."""

from queue import Queue
from threading import Thread
from time import perf_counter
from types import TracebackType

import numpy as np

from msdn.cache.partial import PartialCache

BEHIND = 2  # blocks that may wait for the disk


class RowWriter:
    """`put` hands rows over; an error of the thread is raised at the next `put` or at the end."""

    def __init__(self, cache: PartialCache) -> None:
        self.busy = 0.0
        self._cache = cache
        self._queue: Queue[tuple[list[int], np.ndarray] | None] = Queue(BEHIND)
        self._error: Exception | None = None
        self._thread = Thread(target=self._write_all, name="write")

    def __enter__(self) -> "RowWriter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()  # also after Ctrl-C: what was computed is kept
        if error is None and self._error is not None:
            raise self._error

    def put(self, rows: list[int], features: np.ndarray) -> None:
        """Queue the features [n, h, w, F] of `rows`."""
        if self._error is not None:
            raise self._error
        self._queue.put((rows, features))

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                self._write(*item)

    def _write(self, rows: list[int], features: np.ndarray) -> None:
        start = perf_counter()
        try:
            self._cache.write_rows(rows, features)
        except Exception as error:  # handed to the main thread
            self._error = error
        self.busy += perf_counter() - start
