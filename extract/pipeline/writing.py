"""Fills a cache's missing rows, whatever was done before: reader, network and writer at the same time."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import perf_counter
from types import TracebackType

import numpy as np

from msdn.cache.layout import MAIN
from msdn.cache.partial import PartialCache
from msdn.extract.backbones.entry import Plan
from msdn.extract.backbones.frozen import Computed, Computing, FrozenNetwork
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.progress import Progress, Watcher
from msdn.extract.pipeline.reading import Block, BlockReader

FLOAT16_MAX, FLOAT32_MAX = (float(np.finfo(kind).max) for kind in (np.float16, np.float32))
HARDLY = 1e-3  # random maps that vary less between images, as a share of all variation, carry no signal
BEHIND = 2  # blocks that may wait for the disk
WRITERS = 2  # threads: one alone hashes fewer rows a second than a data-centre GPU computes
POLL_SECONDS = 0.05  # how soon the thread notices that no more will come

Maps = Mapping[str, np.ndarray]  # [n, h, w, C] of every map, by name


class RowWriter:
    """`put` hands rows over to threads; an error there is raised at the next `put` or at the end."""

    def __init__(self, cache: PartialCache) -> None:
        self._seconds = [0.0] * WRITERS
        self._cache = cache
        self._queue: Queue[tuple[list[int], Maps]] = Queue(BEHIND)
        self._closing = Event()
        self._error: Exception | None = None
        self._threads = [
            Thread(target=self._write_all, args=(n,), name="write", daemon=True) for n in range(WRITERS)
        ]

    def __enter__(self) -> "RowWriter":
        for thread in self._threads:
            thread.start()
        return self

    @property
    def busy(self) -> float:
        """Seconds of hashing and writing, shared among the threads."""
        return sum(self._seconds) / WRITERS

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all that was computed is written, however often Ctrl-C is pressed meanwhile."""
        is_waiting, interrupted = True, False
        while is_waiting:
            try:
                self._closing.set()
                for thread in self._threads:
                    thread.join()
                is_waiting = False
            except KeyboardInterrupt:
                interrupted = True
        if error is None and self._error is not None:
            raise self._error
        if error is None and interrupted:
            raise KeyboardInterrupt

    def put(self, rows: list[int], maps: Maps) -> None:
        """Queue the maps of `rows`."""
        if self._error is not None:
            raise self._error
        self._queue.put((rows, maps))

    def _write_all(self, thread: int) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            try:
                rows, maps = self._queue.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            if self._error is None:
                self._write(thread, rows, maps)

    def _write(self, thread: int, rows: list[int], maps: Maps) -> None:
        start = perf_counter()
        try:
            self._cache.write_rows(rows, maps)
        except Exception as error:  # handed to the main thread
            self._error = error
        self._seconds[thread] += perf_counter() - start


def fill_cache(
    cache: PartialCache,
    dataset: Dataset,
    network: FrozenNetwork,
    plan: Plan,
    workers: int,
    watcher: Watcher,
) -> tuple[Progress, dict[int, str]]:
    """Compute every row that has no features yet; return the unusable ones with their reasons."""
    rows = cache.unfinished_rows.tolist()
    progress = Progress(len(cache.states), len(cache.states) - len(rows))
    bad: dict[int, str] = {}
    paths = [dataset.image_path(row) for row in range(len(cache.states))]
    provenance = cache.header.provenance
    is_judged = provenance["weights"]["kind"] != "random"
    start = perf_counter()
    with (
        BlockReader(paths, rows, provenance["block_rows"], plan.preparation, workers) as reader,
        RowWriter(cache) as writer,
    ):
        for block, computed in compute_ahead(reader, network, progress):
            bad |= block.bad
            if computed is not None:
                require_fitting(computed, dict(zip(block.positions, block.rows, strict=True)), paths)
                maps = {name: _select(values, block.positions) for name, values in computed.maps.items()}
                writer.put(block.rows, maps)
                if not is_judged and len(block.rows) > 1:
                    is_judged = True
                    _judge(maps[MAIN], plan, watcher)
            _advance(progress, block, reader, writer, perf_counter() - start)
            watcher.on_progress(progress)
    progress.writing, progress.elapsed = writer.busy, perf_counter() - start
    return progress, bad


def compute_ahead(
    reader: BlockReader, network: FrozenNetwork, progress: Progress
) -> Iterator[tuple[Block, Computed | None]]:
    """Yield each block with its maps, None where it has no usable image; a GPU always has the next block at hand."""
    waiting: deque[tuple[Block, Computing | None]] = deque()

    def finish() -> tuple[Block, Computed | None]:
        before = perf_counter()
        block, computing = waiting.popleft()
        computed = None if computing is None else computing.wait()
        progress.computing += perf_counter() - before
        return block, computed

    for block in reader:
        before = perf_counter()
        waiting.append((block, network.start(block.images) if block.rows else None))
        progress.computing += perf_counter() - before
        if len(waiting) > network.in_flight:
            yield finish()
    while waiting:
        yield finish()


def _select(values: np.ndarray, positions: list[int]) -> np.ndarray:
    return values if len(positions) == len(values) else values[positions]


def _judge(maps: np.ndarray, plan: Plan, watcher: Watcher) -> None:
    """Say so where random weights make the same of every image."""
    if not carries_signal(maps.astype(np.float32)):
        watcher.on_stage(
            f"random weights do not work with {plan.backbone.name}: its maps are almost the same for all images"
        )


def carries_signal(maps: np.ndarray) -> bool:
    """Whether maps [n, h, w, C] of several images differ from image to image by more than a trifle."""
    spread = maps.std()
    return bool(np.isfinite(spread) and maps.std(axis=0).mean() > HARDLY * spread > 0)


def _advance(
    progress: Progress, block: Block, reader: BlockReader, writer: RowWriter, elapsed: float
) -> None:
    progress.done += len(block.rows) + len(block.bad)
    progress.computed += len(block.rows)
    progress.reading, progress.writing, progress.elapsed = reader.busy, writer.busy, elapsed


def require_fitting(computed: Computed, rows: Mapping[int, int], paths: Sequence[Path]) -> None:
    """Raise an error that names the first image whose features do not fit the stored type.

    Args:
        computed: a block's maps.
        rows: the row of each usable position.
        paths: the image of each row.
    """
    for position, row in rows.items():
        reason = misfit(computed, position)
        if reason:
            raise ExtractError(f"{paths[row]}: {reason}")


def misfit(computed: Computed, position: int) -> str:
    """Why an image's features cannot be stored; empty where they can."""
    for name, peaks in computed.peaks.items():
        is_half = computed.maps[name].dtype == np.float16
        limit = FLOAT16_MAX if is_half else FLOAT32_MAX
        if not peaks[position] <= limit:  # true of NaN, too
            of = "" if name == MAIN else f" in map '{name}'"
            remedy = "repeat with '--dtype float32 --restart'" if is_half else "check the weights"
            return f"its features{of} hold a value beyond {limit:.0f} or one that is not a number; {remedy}"
    return ""
