"""Fills a cache's missing rows, whatever was done before: reader, network and writer at the same time."""

from collections.abc import Mapping
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import perf_counter
from types import TracebackType

import numpy as np

from msdn.cache.layout import MAIN
from msdn.cache.partial import PartialCache
from msdn.extract.backbones.entry import Plan
from msdn.extract.backbones.network import FrozenNetwork
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.progress import Progress, Watcher
from msdn.extract.pipeline.reading import Block, BlockReader

FLOAT16_MAX = 65504.0
HARDLY = 1e-3  # random maps that vary less between images, as a share of all variation, carry no signal
BEHIND = 2  # blocks that may wait for the disk
POLL_SECONDS = 0.05  # how soon the thread notices that no more will come

Maps = Mapping[str, np.ndarray]  # [n, h, w, C] of every map, by name


class RowWriter:
    """`put` hands rows over; an error of the thread is raised at the next `put` or at the end."""

    def __init__(self, cache: PartialCache) -> None:
        self.busy = 0.0
        self._cache = cache
        self._queue: Queue[tuple[list[int], Maps]] = Queue(BEHIND)
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

    def put(self, rows: list[int], maps: Maps) -> None:
        """Queue the maps of `rows`."""
        if self._error is not None:
            raise self._error
        self._queue.put((rows, maps))

    def _write_all(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            try:
                rows, maps = self._queue.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            if self._error is None:
                self._write(rows, maps)

    def _write(self, rows: list[int], maps: Maps) -> None:
        start = perf_counter()
        try:
            self._cache.write_rows(rows, maps)
        except Exception as error:  # handed to the main thread
            self._error = error
        self.busy += perf_counter() - start


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
        for block in reader:
            bad |= block.bad
            if block.rows:
                before = perf_counter()
                maps = {
                    name: values[block.positions] for name, values in network.compute(block.images).items()
                }
                named = [paths[row] for row in block.rows]
                stored = {
                    name: store_as(values, cache.header.maps[name].dtype, named, name)
                    for name, values in maps.items()
                }
                progress.computing += perf_counter() - before
                writer.put(block.rows, stored)
                if not is_judged and len(block.rows) > 1:
                    is_judged = True
                    _judge(maps[MAIN], plan, watcher)
            _advance(progress, block, reader, writer, perf_counter() - start)
            watcher.on_progress(progress)
    progress.writing, progress.elapsed = writer.busy, perf_counter() - start
    return progress, bad


def _judge(maps: np.ndarray, plan: Plan, watcher: Watcher) -> None:
    """Say so where random weights make the same of every image."""
    if not carries_signal(maps):
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


def store_as(features: np.ndarray, dtype: np.dtype, paths: list[Path], name: str = MAIN) -> np.ndarray:
    """Convert to the stored type, or raise an error that names the image whose features do not fit."""
    limit = FLOAT16_MAX if dtype == np.float16 else np.finfo(np.float32).max
    fits = (np.abs(features) <= limit).reshape(len(features), -1).all(axis=1)  # False for NaN, too
    if not fits.all():
        path, of = paths[int(np.argmin(fits))], "" if name == MAIN else f" in map '{name}'"
        remedy = "repeat with '--dtype float32 --restart'" if dtype == np.float16 else "check the weights"
        raise ExtractError(
            f"{path}: its features{of} hold a value beyond {limit:.0f} or one that is not a number; {remedy}"
        )
    return features.astype(dtype)
