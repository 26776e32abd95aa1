"""Writes finished blocks from a thread of its own, so that computing never waits for the disk."""

from queue import Empty, Queue
from threading import Event, Thread
from time import perf_counter
from types import TracebackType

import numpy as np

from msdn.cache.layout import MAIN
from msdn.cache.partial import PartialCache

BEHIND = 2  # blocks that may wait for the disk
POLL_SECONDS = 0.05  # how soon the thread notices that no more will come


class RowWriter:
    """`put` hands rows over; an error of the thread is raised at the next `put` or at the end."""

    def __init__(self, cache: PartialCache) -> None:
        self.busy = 0.0
        self._cache = cache
        self._queue: Queue[tuple[list[int], np.ndarray]] = Queue(BEHIND)
        self._closing = Event()
        self._error: Exception | None = None
        self._thread = Thread(target=self._write_all, name="write", daemon=True)

    def __enter__(self) -> "RowWriter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all that was computed is written, however often Ctrl-C is pressed meanwhile."""
        interrupted = False
        while self._thread.is_alive():
            try:
                self._closing.set()
                self._thread.join()
            except KeyboardInterrupt:
                interrupted = True
        if error is None and self._error is not None:
            raise self._error
        if error is None and interrupted:
            raise KeyboardInterrupt

    def put(self, rows: list[int], features: np.ndarray) -> None:
        """Queue the features [n, h, w, F] of `rows`."""
        if self._error is not None:
            raise self._error
        self._queue.put((rows, features))

    def _write_all(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            try:
                rows, features = self._queue.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            if self._error is None:
                self._write(rows, features)

    def _write(self, rows: list[int], features: np.ndarray) -> None:
        start = perf_counter()
        try:
            self._cache.write_rows(rows, {MAIN: features})
        except Exception as error:  # handed to the main thread
            self._error = error
        self.busy += perf_counter() - start
