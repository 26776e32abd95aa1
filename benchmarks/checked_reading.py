"""What it costs to compare every row with its checksum once: the first reading of a cache, the second, a plain copy.

Random batches of 50 rows of 49x2048 float16, so that every row is read once a round; the rows are in the page cache.
Times are the processor's, so that other work on the machine matters little. The check's share is of one epoch over
CUB's 7,057 training images, whose steps `train_step.py` measures.

    python benchmarks/checked_reading.py [--images 600] [--step-ms 47]
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time

import numpy as np
from read_rows import BATCH, SHAPE, write_cache

from msdn.cache import FeatureCache
from msdn.cache.checksums import crc_row

CUB_IMAGES, CUB_STEPS = 7057, 141
REGIONS, CHANNELS = SHAPE[0] * SHAPE[1], SHAPE[2]


def main() -> None:
    """Write a cache, read all of it again and again, print what a row costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--step-ms", type=float, default=47.0, help="a training step of MSDN at CUB's size")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    values = np.maximum(rng.standard_normal((options.images, *SHAPE), np.float32), 0).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        cache = write_cache(Path(folder) / "cache.h5", values)
        rounds = [measure(cache.path, values, rng) for _ in range(options.rounds)]
    report({name: median(one[name] for one in rounds) for name in rounds[0]}, options.step_ms / 1000)


def measure(path: Path, values: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Seconds a row: each way reads every row once, in batches, by turns."""
    in_ram = values.reshape(len(values), REGIONS, CHANNELS)
    out = np.empty((BATCH, REGIONS, CHANNELS), np.float16)
    whole = len(values) - len(values) % BATCH
    spent: dict[str, float] = {}
    with FeatureCache(path) as cache:
        for rows in rng.permutation(len(values))[:whole].reshape(-1, BATCH):
            ways: dict[str, Callable[[], object]] = {
                "copy from RAM": lambda rows=rows: np.take(in_ram, rows, axis=0, out=out, mode="clip"),
                "first reading": lambda rows=rows: cache.read_rows(rows, out),
                "second reading": lambda rows=rows: cache.read_rows(rows, out),
                "check": lambda: [crc_row(row) for row in out],
            }
            for name, work in ways.items():
                start = thread_time()
                work()
                spent[name] = spent.get(name, 0.0) + thread_time() - start
    return {name: value / whole for name, value in spent.items()}


def report(a_row: dict[str, float], step: float) -> None:
    """Print microseconds a row, rates, and what the check is of an epoch."""
    size = REGIONS * CHANNELS * 2
    for name, value in a_row.items():
        print(f"{name:<15} {1e6 * value:8.1f} us a row  {size / value / 1e9:6.2f} GB/s")
    print(f"second reading / copy from RAM: {a_row['second reading'] / a_row['copy from RAM']:.2f}x")
    epoch = CUB_STEPS * step
    cost = CUB_IMAGES * a_row["check"]
    print(
        f"check of {CUB_IMAGES} rows: {cost:.2f} s, {100 * cost / epoch:.1f} % of an epoch of {epoch:.1f} s"
    )


if __name__ == "__main__":
    main()
