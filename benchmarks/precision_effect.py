"""What computing in a lower precision does: to features, and to a model's acc and H, paired by seed.

With `--stage extract` the same images go through the backbone in float32 and in each other precision, and a model is
trained from each cache with the same seeds, in float32. With `--stage train` the features stay, and the training is
computed in each precision. Seeds are added until the interval of every mean difference is narrow enough, or there are
no more.

    python benchmarks/precision_effect.py --stage extract --dataset FOLDER --backbone resnet50 --weights FILE
    python benchmarks/precision_effect.py --stage train --cache FILE.h5 [--model dedn] [--seeds 0-4]
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t as student

import msdn
from msdn.cache import FeatureCache
from msdn.train.measure.summary import parse_seeds

EXACT = "float32"
COMPARED = ("acc", "H")
ROWS_AT_ONCE = 64
CERTAINTY = 0.95


def main() -> None:
    """Extract and compare features where they differ, then train seed after seed."""
    options = read_options()
    names = (EXACT, *options.precisions)
    if options.stage == "extract":
        trainings = {name: (extract(name, options), EXACT) for name in names}
        for name in options.precisions:
            print(f"{name}: {compare_features(trainings[EXACT][0], trainings[name][0])}", flush=True)
    else:
        cache = options.cache or extract(EXACT, options)
        trainings = {name: (cache, name) for name in names}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in [*options.seeds, *range(max(options.seeds) + 1, options.most_seeds)]:
        if seed not in options.seeds and all(
            half_width(differences(figures, name, figure)) <= options.half_width
            for name in options.precisions
            for figure in COMPARED
        ):
            break
        for name, (path, precision) in trainings.items():
            figures[name].append(measure(path, precision, seed, options))
            shown = "  ".join(f"{figure} {figures[name][-1][figure]:.2f}" for figure in COMPARED)
            print(f"seed {seed}  {name:<9} {shown}", flush=True)
    print_summary(figures, options.precisions)


def read_options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("extract", "train"), required=True)
    parser.add_argument("--cache", type=Path, help="with --stage train: features that are there")
    parser.add_argument("--dataset", default="plumage", help="a known dataset, or a folder of your own")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--weights", default="random", help="a state dict, imagenet, or random")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--precisions", nargs="+", default=["bfloat16"])
    parser.add_argument("--model", default="msdn")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--lr", type=float, help="instead of the preset's; nothing is searched then")
    parser.add_argument("--vectors", help="as of msdn train: 'learned' where the dataset has none")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("0-4"))
    parser.add_argument("--most-seeds", type=int, default=15)
    parser.add_argument("--half-width", type=float, default=1.0, help="points")
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    return parser.parse_args()


def extract(precision: str, options: argparse.Namespace) -> Path:
    """The cache of a precision, beside those of the others; one that is there already is used again."""
    folder = options.home / "features"
    folder.mkdir(parents=True, exist_ok=True)
    done = msdn.extract(
        options.dataset,
        backbone=options.backbone,
        weights=options.weights,
        image_size=options.image_size,
        precision=precision,
        out=folder / f"precision-{precision}.h5",
        home=options.home,
    )
    print(
        f"{precision}: {done.progress.rate:.1f} images/s" if done.progress.computed else f"{precision}: kept"
    )
    return done.path


def compare_features(exact: Path, other: Path) -> str:
    """Cosine similarities of the same region, and of the same image's mean over regions."""
    regions, images = [], []
    with FeatureCache(exact) as first, FeatureCache(other) as second:
        usable = np.setdiff1d(np.arange(len(first.annotations.labels)), first.masked_rows)
        for start in range(0, len(usable), ROWS_AT_ONCE):
            rows = usable[start : start + ROWS_AT_ONCE]
            ours, theirs = (cache.read_rows(rows).astype(np.float64) for cache in (first, second))
            regions.append(cosine(ours, theirs).ravel())
            images.append(cosine(ours.mean(1), theirs.mean(1)))
    by_region, by_image = np.concatenate(regions), np.concatenate(images)
    return (
        f"cosine similarity to {EXACT} of {len(by_image)} images: regions mean {by_region.mean():.6f}, lowest "
        f"{by_region.min():.6f}; means over regions {by_image.mean():.6f}, lowest {by_image.min():.6f}"
    )


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Along the last axis; two vectors of nothing are alike."""
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return np.where(lengths > 0, (first * second).sum(-1) / np.maximum(lengths, 1e-30), 1.0)


def measure(cache: Path, precision: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate, weights chosen on validation classes."""
    more = {"vectors": options.vectors, "epochs": options.epochs, "learning_rate": options.lr}
    more = {name: value for name, value in more.items() if value is not None}
    what = {"model": options.model, "seed": seed, "precision": precision, "select": "val"}
    run = msdn.train(cache, home=options.home, **what, **more)
    return msdn.evaluate(run, home=options.home)


def differences(figures: dict[str, list[dict[str, float]]], name: str, figure: str) -> list[float]:
    """By how much a precision is above float32, seed by seed."""
    pairs = zip(figures[name], figures[EXACT], strict=True)
    return [ours[figure] - theirs[figure] for ours, theirs in pairs]


def half_width(values: list[float]) -> float:
    """Of the interval of their mean."""
    if len(values) < 2:
        return float("inf")
    return float(student.ppf((1 + CERTAINTY) / 2, len(values) - 1)) * stdev(values) / len(values) ** 0.5


def print_summary(figures: dict[str, list[dict[str, float]]], precisions: list[str]) -> None:
    """Means, and mean differences with their intervals."""
    for figure in COMPARED:
        print(f"{figure}: {EXACT} {mean(one[figure] for one in figures[EXACT]):.2f}")
        for name in precisions:
            values = differences(figures, name, figure)
            print(
                f"  {name:<9} {mean(one[figure] for one in figures[name]):.2f}, difference {mean(values):+.2f} ± "
                f"{half_width(values):.2f} points ({CERTAINTY:.0%}, {len(values)} seeds)"
            )


if __name__ == "__main__":
    main()
