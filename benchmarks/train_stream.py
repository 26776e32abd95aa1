"""Training from a cache that is larger than the memory: how much of it, and how fast beside disk and model alone.

Writes a cache of AWA2's size at 14x14 (37,322 images x 196 x 2048 float16, 30 GB of random bytes, none of them zero),
drops it from the page cache, and measures in turns: reading random batches alone, steps on batches that lie in RAM, and
training steps whose features are read from the file. The batches in RAM are once prepared, as features that fit into
memory are, and once as the file has them, so that each step scales its own. The cache is deleted at the end.

    python benchmarks/train_stream.py --folder SCRATCH [--images 37322] [--steps 60] [--rounds 3]
"""

import argparse
import mmap
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdn.cache import Annotations, FeatureCache
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.structure import create_structure
from msdn.machine import choose_device, keep_freed_memory, keep_threads
from msdn.train.loop.batches import FeatureSource
from msdn.train.loop.trainer import Trainer
from msdn.train.loop.training import choose_precision
from msdn.train.models.parts.base import build_model, preparation
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.registry import settings_of

CLASSES, UNSEEN, ATTRIBUTES, WORDS = 50, 10, 85, 300  # AWA2's
GRID, CHANNELS, BATCH = 14, 2048, 50
AT_ONCE = 64  # rows written at a time
ROOM = 35e9  # bytes that have to be free for the whole size
WARM_UP = 5


def main() -> None:
    """Write, measure, delete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, required=True, help="an existing folder on the disk to measure"
    )
    parser.add_argument("--images", type=int, default=37_322)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="msdn")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    keep_freed_memory()
    size = options.images * GRID * GRID * CHANNELS * 2
    free = shutil.disk_usage(options.folder).free
    if free < size * ROOM / 30e9:
        sys.exit(
            f"{options.folder}: {free / 1e9:.0f} GB are free, {size * ROOM / 30e9 / 1e9:.0f} GB are needed"
        )
    path = options.folder / f"train-stream-{os.getpid()}.h5"
    try:
        write(path, options.images)
        with FeatureCache(path) as cache, keep_threads():
            measure(cache, options)
    finally:
        for file in (path, partial_path(path)):
            file.unlink(missing_ok=True)


def write(path: Path, images: int) -> None:
    """Fill a cache with random features between 0.5 and 2; say how fast."""
    labels = np.arange(images) % CLASSES
    unseen = labels >= CLASSES - UNSEEN
    splits = {
        "trainval": np.flatnonzero(~unseen),
        "train": np.flatnonzero(~unseen),
        "val": np.arange(0),
        "test_seen": np.arange(0),
        "test_unseen": np.flatnonzero(unseen),
    }
    rng = np.random.default_rng(0)
    annotations = Annotations(
        "benchmark",
        tuple(f"{row}.jpg" for row in range(images)),
        labels,
        tuple(f"class {label}" for label in range(CLASSES)),
        rng.random((CLASSES, ATTRIBUTES)),
        (),
        rng.standard_normal((ATTRIBUTES, WORDS)).astype(np.float32),
        splits,
    )
    spec = MapSpec(MAIN, GRID, GRID, CHANNELS, np.dtype(np.float16), signed=False)
    create_structure(partial_path(path), annotations, [spec], {"weights": {"kind": "random"}}, {})
    pattern = rng.integers(0x3800, 0x4000, (AT_ONCE, GRID, GRID, CHANNELS), np.uint16)
    start = perf_counter()
    with PartialCache(path) as partial:
        for first in range(0, images, AT_ONCE):
            rows = list(range(first, min(first + AT_ONCE, images)))
            features = (pattern[: len(rows)] ^ np.uint16(first // AT_ONCE & 0x7FF)).view(np.float16)
            partial.write_rows(rows, {MAIN: features})
        partial.finish()
    seconds = perf_counter() - start
    print(
        f"written: {path.stat().st_size / 1e9:.1f} GB in {seconds:.0f} s, with checksums and flushes",
        flush=True,
    )


def measure(cache: FeatureCache, options: argparse.Namespace) -> None:
    """Take turns; print medians, the ratio, and the largest anonymous memory."""
    device = choose_device("auto")
    settings: Any = settings_of(options.model, batch_size=BATCH)
    precision = choose_precision(options.precision, options.model, device)
    rows, rng = cache.rows("trainval"), np.random.default_rng(1)
    problem = problem_of(cache)
    torch.manual_seed(0)
    prepare = preparation(build_model(problem, settings), precision)
    streamed = trainer_of(
        problem, settings, FeatureSource(cache, rows, prepare, device, "map"), rows, cache, device
    )
    few = np.sort(rng.choice(rows, 4 * BATCH, replace=False))
    resident = trainer_of(
        problem, settings, FeatureSource(cache, few, prepare, device, "memory"), few, cache, device
    )
    print(
        f"{options.model}, products in {precision}, {device}, {torch.get_num_threads()} threads, batches of {BATCH}"
    )
    computing = trainer_of(problem, settings, StoredBatches(cache, few, prepare), few, cache, device)
    names = ("disk alone", "model alone", "scaling and model", "streaming")
    rates: dict[str, list[float]] = {name: [] for name in names}
    with AnonymousMemory() as memory:
        for _ in range(options.rounds):
            forget(cache)
            plan = [rng.choice(rows, BATCH, replace=False) for _ in range(options.steps)]
            rates["disk alone"].append(options.steps / seconds(lambda plan=plan: read_all(cache, plan)))
            rates["model alone"].append(rate_of(resident, options.steps, device))
            rates["scaling and model"].append(rate_of(computing, options.steps, device))
            forget(cache)
            rates["streaming"].append(rate_of(streamed, options.steps, device))
    medians = {name: median(values) for name, values in rates.items()}
    for name, value in medians.items():
        print(f"{name:<17} {value:7.2f} batches/s  {value * BATCH * cache.map.row_bytes / 1e9:6.2f} GB/s")
    for computed in ("scaling and model", "model alone"):
        slower = min(medians["disk alone"], medians[computed])
        print(f"streaming / the slower of disk alone and {computed}: {medians['streaming'] / slower:.2f}")
    print(f"anonymous memory of the process, at most: {memory.most / 1e9:.2f} GB")


def trainer_of(
    problem: Any,
    settings: Any,
    source: Any,
    rows: np.ndarray,
    cache: FeatureCache,
    device: torch.device,
) -> Trainer:
    """The product's trainer on a source of features."""
    torch.manual_seed(0)
    return Trainer(build_model(problem, settings), settings, source, rows, cache.annotations.labels, device)


class StoredBatches:
    """Batches as the file has them, in RAM; each is prepared when its step comes."""

    def __init__(self, cache: FeatureCache, rows: np.ndarray, prepare: Callable[[Tensor], Tensor]) -> None:
        self._parts = [torch.from_numpy(cache.read_rows(part)) for part in rows.reshape(-1, BATCH)]
        self._prepare = prepare

    def batches(self, plan: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Any batch for each part of the plan: a step's time does not depend on the values."""
        for number in range(len(plan)):
            yield self._prepare(self._parts[number % len(self._parts)])


def rate_of(trainer: Trainer, steps: int, device: torch.device) -> float:
    """Steps a second of one epoch of so many steps, after some to warm up."""
    for count in (WARM_UP, steps):
        trainer._sampler.steps_in = lambda epoch, count=count: count  # type: ignore[method-assign]
        taken = seconds(lambda: trainer.train_epoch(1))
    return steps / taken


def read_all(cache: FeatureCache, plan: list[np.ndarray]) -> None:
    """Read batches, told of in advance as training tells them, and do nothing with them."""
    out = np.empty((BATCH, GRID * GRID, CHANNELS), np.float16)
    for number, rows in enumerate(plan):
        for later in plan[number : number + 3] if number == 0 else plan[number + 2 : number + 3]:
            cache.expect_rows(later)
        cache.read_rows(rows, out)


def forget(cache: FeatureCache) -> None:
    """Drop the file from the page cache, so that it is read from the disk again."""
    assert cache._mapped is not None
    cache._mapped.madvise(mmap.MADV_DONTNEED)  # what is mapped cannot be dropped
    with cache.path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


class AnonymousMemory:
    """The most anonymous memory that this process had, looked at ten times a second."""

    def __init__(self) -> None:
        self.most = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "AnonymousMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.most = max(self.most, 1024.0 * int(line.split()[1]))
            sleep(0.1)


if __name__ == "__main__":
    main()
