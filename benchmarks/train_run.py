"""A whole training at CUB's size, with an evaluation after every epoch, beside the reference's steps, in one run.

7,057 training and 4,731 test images with random features, 30 epochs of 141 steps. The features lie in the page cache;
what is timed begins when the program has started, and so includes reading and preparing them. The reference takes as
many steps as `--reference-steps`, and its time is scaled to all of them, without any evaluation.

    python benchmarks/train_run.py [--model msdn] [--epochs 30] [--device cuda]
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from made_problems import Size, make, timed
from train_step import reference_step

from msdn.cache import Annotations, FeatureCache
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.structure import create_structure
from msdn.machine import choose_device
from msdn.train.loop.training import train_model
from msdn.train.models.registry import settings_of

TRAINING, TEST, WARM_UP, AT_ONCE = 7057, 4731, 5, 64
TEST_SEEN = 1764


def main() -> None:
    """Write the features, train, measure the reference, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="msdn")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--reference-steps", type=int, default=20)
    options = parser.parse_args()
    device = choose_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cub-size.h5"
        write(path)
        settings: Any = settings_of(options.model, epochs=options.epochs, batch_size=50)
        with FeatureCache(path) as cache:
            cache.read_rows(np.arange(100))
            start = perf_counter()
            run = train_model(
                cache,
                settings,
                Path(folder) / "runs",
                device=str(device),
                precision=options.precision,
                watch_test=True,
            )
            seconds = perf_counter() - start
            name = (
                torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else f"{torch.get_num_threads()} threads"
            )
            places = run.manifest["features_in"]
            print(f"{options.model}, {device} ({name}), products in {run.precision}, features in {places}")
            print(f"{options.epochs} epochs with evaluation after each: {seconds:.1f} s")
            if device.type == "cuda":
                print(f"GPU memory, at most: {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")
    step = reference_step(options.model, make(Size()), device)
    taken = [timed(step, device) for _ in range(WARM_UP + options.reference_steps)][WARM_UP:]
    steps = TRAINING * options.epochs // 50
    reference = steps * float(np.median(taken))
    print(f"the reference's {steps} steps alone: {reference:.1f} s, {reference / seconds:.1f} times as long")


def write(path: Path) -> None:
    """Random features of CUB's size."""
    made = make(Size(images=TRAINING + TEST))
    size, problem = made.size, made.problem
    rows = np.arange(size.images)
    seen, unseen = size.seen, size.unseen
    labels = np.where(rows < TRAINING + TEST_SEEN, rows % seen, seen + rows % unseen)
    splits = {
        "trainval": rows[:TRAINING],
        "train": rows[:TRAINING],
        "val": rows[:0],
        "test_seen": rows[TRAINING : TRAINING + TEST_SEEN],
        "test_unseen": rows[TRAINING + TEST_SEEN :],
    }
    names = tuple(f"class {number}" for number in range(seen + unseen))
    vectors = problem.attribute_vectors
    annotations = Annotations(
        "benchmark",
        tuple(f"{row}.jpg" for row in rows),
        labels,
        names,
        problem.attributes,
        (),
        vectors,
        splits,
    )
    spec = MapSpec(MAIN, 7, 7, size.channels, np.dtype(np.float16), signed=False)
    create_structure(partial_path(path), annotations, [spec], {"weights": {"kind": "random"}}, {})
    with PartialCache(path) as partial:
        for first in range(0, size.images, AT_ONCE):
            part = rows[first : first + AT_ONCE]
            partial.write_rows(part.tolist(), {MAIN: made.features[part].reshape(-1, 7, 7, size.channels)})
        partial.finish()


if __name__ == "__main__":
    main()
