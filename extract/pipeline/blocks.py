"""Decodes images ahead of the computation, in aligned blocks of rows, by a few threads.

A block always has the same shape and every row its fixed place in it, so that a row's features do not
depend on where an extraction was interrupted. Pillow decodes without Python's lock, so threads suffice.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import TracebackType

import numpy as np

from msdn.extract.errors import BadImageError
from msdn.extract.pipeline.images import read_image

AHEAD = 3  # blocks decoded before they are needed: hides uneven images, costs 5 MB each at 224 px


@dataclass
class Block:
    """Images [block_rows, size, size, 3] of which `positions` hold `rows`; the others are black."""

    images: np.ndarray
    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


def plan_blocks(rows: Sequence[int], block_rows: int) -> list[list[int]]:
    """Group rows by the aligned block they fall into: row r belongs to block r // block_rows."""
    blocks: dict[int, list[int]] = {}
    for row in sorted(rows):
        blocks.setdefault(row // block_rows, []).append(row)
    return [blocks[number] for number in sorted(blocks)]


def default_workers() -> int:
    """Decoding threads: one a core this process may use, eight at most."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class BlockReader:
    """Iterates over the blocks of `rows`; use as a context manager. `busy` is seconds spent per thread."""

    def __init__(
        self, paths: Sequence[Path], rows: Sequence[int], block_rows: int, size: int, workers: int
    ) -> None:
        self._paths = paths
        self._plan = plan_blocks(rows, block_rows)
        self._block_rows = block_rows
        self._size = size
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "decode")
        self._seconds = 0.0

    def __enter__(self) -> "BlockReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def busy(self) -> float:
        """Seconds of reading and decoding, shared among the threads."""
        return self._seconds / self._workers

    def __iter__(self) -> Iterator[Block]:
        waiting: deque[tuple[int, Block, list[Future[float]]]] = deque()
        for number in range(len(self._plan)):
            waiting.append(self._start(number))
            if len(waiting) > AHEAD:
                yield self._finish(*waiting.popleft())
        while waiting:
            yield self._finish(*waiting.popleft())

    def _start(self, number: int) -> tuple[int, Block, list[Future[float]]]:
        block = Block(np.zeros((self._block_rows, self._size, self._size, 3), np.uint8))
        return number, block, [self._pool.submit(self._decode, block, row) for row in self._plan[number]]

    def _decode(self, block: Block, row: int) -> float:
        start = perf_counter()
        try:
            block.images[row % self._block_rows] = read_image(self._paths[row], self._size)
        except BadImageError as error:
            block.bad[row] = str(error)
        return perf_counter() - start

    def _finish(self, number: int, block: Block, futures: list[Future[float]]) -> Block:
        self._seconds += sum(future.result() for future in futures)
        block.rows = [row for row in self._plan[number] if row not in block.bad]
        block.positions = [row % self._block_rows for row in block.rows]
        return block
