"""Random batches of 50 rows: from a cache, from the published file layout, and from RAM, in one run.

The published layout is `feature_map` [N, 2048, 7, 7] float32, gzip, h5py's automatic chunks, read with one
fancy-index call per batch, as the published training scripts do. Features are random, half of them zero as
after a ReLU. All files are in the page cache: this measures the formats, not the disk.

    python benchmarks/read_rows.py [--images 600]
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import h5py
import numpy as np

from msdn.cache import Annotations, FeatureCache
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.structure import create_structure

BATCH = 50
SHAPE = (7, 7, 2048)


def main() -> None:
    """Write both files, read from them by turns, print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--batches", type=int, default=200, help="timed batches of the fast readers")
    parser.add_argument("--slow-batches", type=int, default=3, help="timed batches of the published layout")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    features = np.maximum(rng.standard_normal((options.images, *SHAPE), np.float32), 0).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        cache = write_cache(Path(folder) / "cache.h5", features)
        published = write_published(Path(folder) / "published.h5", features)
        report(measure(cache, published, features, options.batches, options.slow_batches, rng))


def write_cache(path: Path, features: np.ndarray) -> FeatureCache:
    """Write the features through the real writer."""
    n = len(features)
    rows = np.arange(n)
    splits = {
        "trainval": rows[2:],
        "train": rows[2:],
        "val": rows[:0],
        "test_seen": rows[:0],
        "test_unseen": rows[:2],
    }
    annotations = Annotations(
        "benchmark",
        tuple(f"{row}.jpg" for row in rows),
        (rows < 2).astype(np.int64),
        ("seen", "unseen"),
        np.eye(2),
        (),
        None,
        splits,
    )
    spec = MapSpec(MAIN, *SHAPE, features.dtype, signed=False)
    create_structure(partial_path(path), annotations, [spec], {"weights": {"kind": "random"}}, {})
    with PartialCache(path) as partial:
        partial.write_rows(rows.tolist(), {MAIN: features})
        partial.finish()
    return FeatureCache(path)


def write_published(path: Path, features: np.ndarray) -> h5py.Dataset:
    """Write the features as the published files have them."""
    with h5py.File(path, "w") as file:
        maps = np.ascontiguousarray(features.transpose(0, 3, 1, 2), np.float32)
        file.create_dataset("feature_map", data=maps, compression="gzip")
    return h5py.File(path, "r")["feature_map"]


def measure(
    cache: FeatureCache,
    published: h5py.Dataset,
    features: np.ndarray,
    batches: int,
    slow_batches: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Median seconds a batch of each reader; the fast two take turns."""
    in_ram = features.reshape(len(features), -1)
    out = np.empty((BATCH, 49, 2048), np.float16)
    flat = out.reshape(BATCH, -1)
    times: dict[str, list[float]] = {"cache": [], "RAM": [], "published": []}
    for number in range(batches):
        rows = np.sort(rng.choice(len(features), BATCH, replace=False))
        times["cache"].append(seconds(lambda rows=rows: cache.read_rows(rows, out)))
        assert number or np.array_equal(flat, in_ram[rows])
        times["RAM"].append(seconds(lambda rows=rows: np.take(in_ram, rows, axis=0, out=flat, mode="clip")))
        if number < slow_batches:
            times["published"].append(seconds(lambda rows=rows: published[rows]))
    return {name: median(values) for name, values in times.items()}


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def report(medians: dict[str, float]) -> None:
    """Print milliseconds a batch, and the two ratios."""
    for name, value in medians.items():
        print(f"{name:<10} {1000 * value:10.2f} ms a batch of {BATCH}")
    print(f"published layout / cache: {medians['published'] / medians['cache']:.0f}x")
    print(f"cache / copy from RAM:    {medians['cache'] / medians['RAM']:.2f}x")


if __name__ == "__main__":
    main()
