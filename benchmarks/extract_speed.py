"""Compares extraction with the published way: one image after another, float32, decoded by the same thread.

Every round measures each of these once, in turn, so that what else the machine does hits all alike; medians are shown.
"backbone" is the network alone on images in memory, "end to end" is files to rows of a cache, start-up left out.

    python benchmarks/extract_speed.py [--dataset plumage|FOLDER] [--backbone resnet50 --weights FILE] [--images 512]

With --cpu-time, seconds are those of the cores that this program used, which other work on the machine hardly changes:
take one thread then (--threads 1 --workers 1), for threads that wait may count.

Without --weights the network's are random, with batch norm measured on the images, and every branch is computed.
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import nn

from msdn.cache.home import Home
from msdn.cache.layout import MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.structure import create_structure
from msdn.extract.backbones.entry import Plan, make_plan
from msdn.extract.backbones.frozen import CompileError, FrozenNetwork, fixed_arithmetic
from msdn.extract.backbones.network import calibrate, mean_and_std, normalise, read_maps
from msdn.extract.backbones.registry import build_network, find_backbone
from msdn.extract.backbones.weights import load_network
from msdn.extract.datasets.registry import open_dataset
from msdn.extract.datasets.spec import Dataset
from msdn.extract.pipeline.progress import Watcher
from msdn.extract.pipeline.reading import BlockReader, default_workers, read_image
from msdn.extract.pipeline.writing import fill_cache
from msdn.machine import choose_device

BLOCK_ROWS = 32
PUBLISHED = "published way"
DECODING = "decoding alone"
CALIBRATION_BATCHES = 2
Clock = Callable[[], float]


@dataclass
class Way:
    """One way to compute, and the images a second of every round."""

    name: str
    network: FrozenNetwork
    start_up: float
    alone: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, and print the table."""
    options = read_options()
    now = process_time if options.cpu_time else perf_counter
    device, home = choose_device(options.device), Home(options.home)
    dataset = open_dataset(options.dataset, home)
    plan = make_plan(find_backbone(options.backbone), options.image_size, "", ())
    paths = choose_images(dataset, options.images)
    with fixed_arithmetic(options.threads):
        network, weights = make_network(plan, options.weights, paths, home)
        ways = list(make_ways(network, plan, device, options))
        own = network.to(device)
        print(f"{plan.backbone.name}, {weights}; {len(paths)} images of {options.dataset}; {torch.get_num_threads()} "
              f"threads, {options.workers} decoding; {device}", flush=True)  # fmt: skip
        rates: dict[str, list[float]] = {PUBLISHED: [], DECODING: []}
        for number in range(options.rounds):
            few = paths[: options.published_images]
            rates[PUBLISHED].append(
                rate(now, len(few), lambda few=few: run_published_way(own, plan, few, device))
            )
            rates[DECODING].append(rate(now, len(paths), lambda: decode(paths, plan, options.workers)))
            for way in ways:
                measure(now, way, dataset, plan, paths, options.workers)
            ended = "  ".join(f"{way.name} {way.whole[-1]:.1f}" for way in ways)
            print(f"round {number + 1}: {PUBLISHED} {rates[PUBLISHED][-1]:.1f}  {ended}", flush=True)
    print_table(rates, ways)


def read_options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="plumage", help="a known dataset, or a folder of your own")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--weights", default="random", help="a state dict, imagenet, or random")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--published-images", type=int, default=64, help="of these, for the slow way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--not-compiled", action="store_true", help="leave the compiled networks out")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    return parser.parse_args()


def choose_images(dataset: Dataset, count: int) -> list[Path]:
    """So many images, spread over the dataset; a smaller dataset is gone through repeatedly."""
    total = len(dataset.annotations.image_paths)
    rows = np.arange(count) % total if count > total else np.linspace(0, total - 1, count).astype(int)
    return [dataset.image_path(int(row)) for row in rows]


def make_network(plan: Plan, weights: str, paths: list[Path], home: Home) -> tuple[nn.Module, str]:
    """The network in float32, and what its weights are."""
    size = plan.preparation.size
    if weights != "random":
        network, loaded = load_network(plan.backbone, weights, size, home)
        return network, f"weights {loaded.tag}"
    torch.manual_seed(0)
    network = build_network(plan.backbone, size).requires_grad_(False).eval()
    few = paths[: CALIBRATION_BATCHES * BLOCK_ROWS]
    with BlockReader(few, range(len(few)), BLOCK_ROWS, plan.preparation, default_workers()) as reader:
        calibrate(network, plan, (block.images[block.positions] for block in reader), torch.device("cpu"))
    return network, "random weights, every branch computed"


def make_ways(
    network: nn.Module, plan: Plan, device: torch.device, options: argparse.Namespace
) -> Iterator[Way]:
    """Each precision, as it is and compiled."""
    for precision in options.precisions:
        for compiled in (False, True)[: 1 if options.not_compiled else 2]:
            start = perf_counter()
            frozen = FrozenNetwork(copy.deepcopy(network), plan, device, precision, "float16")
            if compiled:
                try:
                    frozen.compile(BLOCK_ROWS)
                except CompileError as error:
                    print(f"{precision}, compiled: left out, {error}", flush=True)
                    continue
            yield Way(f"{precision}{', compiled' * compiled}", frozen, perf_counter() - start)


def rate(now: Clock, count: int, work: Callable[[], object]) -> float:
    """Images a second, by that clock."""
    start = now()
    work()
    return count / (now() - start)


@torch.inference_mode()
def run_published_way(network: nn.Module, plan: Plan, paths: list[Path], device: torch.device) -> None:
    """As the published scripts do it, short of their HDF5 file: open, prepare, compute, bring back; one by one."""
    kept, scale = [], mean_and_std(plan.preparation, torch.device("cpu"))
    for path in paths:
        image = torch.tensor(read_image(path, plan.preparation))
        pixels = normalise(image[None], *scale)
        kept.append(read_maps(network, plan, pixels.contiguous().to(device))["regions"].cpu().numpy())


def decode(paths: list[Path], plan: Plan, workers: int) -> None:
    """Read all images with the pipeline's threads, and do nothing with them."""
    with BlockReader(paths, range(len(paths)), BLOCK_ROWS, plan.preparation, workers) as reader:
        for _ in reader:
            pass


def measure(now: Clock, way: Way, dataset: Dataset, plan: Plan, paths: list[Path], workers: int) -> None:
    """The network alone on one block again and again, then all from files to a cache's rows."""
    size, blocks = plan.preparation.size, max(1, len(paths) // BLOCK_ROWS)
    with BlockReader(paths[:BLOCK_ROWS], range(BLOCK_ROWS), BLOCK_ROWS, plan.preparation, workers) as reader:
        images = next(iter(reader)).images
    assert images.shape == (BLOCK_ROWS, size, size, 3)

    def compute() -> None:
        waiting = [way.network.start(images) for _ in range(blocks)]
        for computing in waiting:
            computing.wait()

    way.alone.append(rate(now, blocks * BLOCK_ROWS, compute))
    way.whole.append(extract_some(now, way, dataset, plan, paths, workers))


def extract_some(
    now: Clock, way: Way, dataset: Dataset, plan: Plan, paths: list[Path], workers: int
) -> float:
    """Fill the first rows of a cache with these images, and return images a second."""

    class FewRows(PartialCache):
        @property
        def unfinished_rows(self) -> np.ndarray:
            return super().unfinished_rows[: len(paths)]

    class Chosen:
        def image_path(self, row: int) -> Path:
            return paths[row % len(paths)]

    with tempfile.TemporaryDirectory() as folder:
        final = Path(folder) / "some.h5"
        block = way.network.compute(np.zeros((BLOCK_ROWS, *[plan.preparation.size] * 2, 3), np.uint8))
        maps = [MapSpec(name, *values.shape[1:], values.dtype, None) for name, values in block.maps.items()]
        provenance = {"weights": {"kind": "file"}, "block_rows": BLOCK_ROWS}
        create_structure(partial_path(final), dataset.annotations, maps, provenance, {})
        with FewRows(final) as cache:
            source: Any = Chosen()
            return rate(
                now,
                len(paths),
                lambda: fill_cache(cache, source, way.network, plan, workers, Watcher()),
            )


def print_table(rates: dict[str, list[float]], ways: list[Way]) -> None:
    """Medians and ratios."""
    published, decoding = (median(rates[name]) for name in (PUBLISHED, DECODING))
    print(f"images a second, medians of {len(rates[PUBLISHED])} rounds")
    print(f"{PUBLISHED:<22}{published:8.1f}   rounds {show(rates[PUBLISHED])}")
    print(f"{DECODING:<22}{decoding:8.1f}   rounds {show(rates[DECODING])}")
    columns = f"{'':<22}{'start-up':>9}{'backbone':>10}{'end to end':>12}{'x published':>13}"
    print(columns + f"{'of the slower of decoding, backbone':>37}")
    for way in ways:
        alone, whole = median(way.alone), median(way.whole)
        print(
            f"{way.name:<22}{way.start_up:>7.1f} s{alone:>10.1f}{whole:>12.1f}{whole / published:>13.2f}"
            f"{whole / min(decoding, alone):>37.2f}   rounds {show(way.whole)}"
        )


def show(values: list[float]) -> str:
    """One after another."""
    return " ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    main()
