"""Combines reader, backbone and writer: fills a cache's missing rows, whatever was done before."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from msdn.cache import layout
from msdn.cache.partial import PartialCache
from msdn.extract.backbones.resnet import Backbone
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.blocks import Block, BlockReader
from msdn.extract.pipeline.row_writer import RowWriter

FLOAT16_MAX = 65504.0


@dataclass
class Progress:
    """How far an extraction is, and how long each of its three stages has worked."""

    total: int
    done: int
    computed: int = 0
    reading: float = 0.0
    computing: float = 0.0
    writing: float = 0.0
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        """Images a second in this run."""
        return self.computed / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def remaining(self) -> float:
        """Seconds still to go."""
        return (self.total - self.done) / self.rate if self.rate else math.inf

    @property
    def bottleneck(self) -> str:
        """The stage that was busy longest."""
        return max(("reading", "computing", "writing"), key=lambda stage: getattr(self, stage))


def fill_cache(
    cache: PartialCache,
    dataset: Dataset,
    backbone: Backbone,
    image_size: int,
    block_rows: int,
    workers: int,
    on_progress: Callable[[Progress], None],
) -> tuple[Progress, dict[int, str]]:
    """Compute every row that has no features yet; return the unusable ones with their reasons."""
    rows = cache.unfinished_rows.tolist()
    progress = Progress(len(cache.states), len(cache.states) - len(rows))
    bad: dict[int, str] = {}
    paths = [dataset.image_path(row) for row in range(len(cache.states))]
    dtype = cache.header.maps[layout.MAIN].dtype
    start = perf_counter()
    with (
        BlockReader(paths, rows, block_rows, image_size, workers) as reader,
        RowWriter(cache) as writer,
    ):
        for block in reader:
            bad |= block.bad
            if block.rows:
                before = perf_counter()
                features = backbone.compute(block.images)[block.positions]
                stored = store_as(features, dtype, [paths[row] for row in block.rows])
                progress.computing += perf_counter() - before
                writer.put(block.rows, stored)
            _advance(progress, block, reader, writer, perf_counter() - start)
            on_progress(progress)
    progress.writing, progress.elapsed = writer.busy, perf_counter() - start
    return progress, bad


def _advance(
    progress: Progress, block: Block, reader: BlockReader, writer: RowWriter, elapsed: float
) -> None:
    progress.done += len(block.rows) + len(block.bad)
    progress.computed += len(block.rows)
    progress.reading, progress.writing, progress.elapsed = reader.busy, writer.busy, elapsed


def store_as(features: np.ndarray, dtype: np.dtype, paths: list[Path]) -> np.ndarray:
    """Convert to the stored type, or raise an error that names the image whose features do not fit."""
    limit = FLOAT16_MAX if dtype == np.float16 else np.finfo(np.float32).max
    fits = (np.abs(features) <= limit).reshape(len(features), -1).all(axis=1)  # False for NaN, too
    if not fits.all():
        path = paths[int(np.argmin(fits))]
        remedy = "repeat with '--dtype float32 --restart'" if dtype == np.float16 else "check the weights"
        raise ExtractError(f"{path}: its features hold a value beyond {limit:.0f} or none at all; {remedy}")
    return features.astype(dtype)
