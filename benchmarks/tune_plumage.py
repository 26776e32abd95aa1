"""Compares settings on Plumage's validation classes: trains on the 26 train classes, never looks at a test image.

A fifth of each train class's images is held out for S; the 10 validation classes stand in for unseen ones.
Needs the cache that `msdn demo` leaves in the home. What it printed is told in docs/results.md.

    python benchmarks/tune_plumage.py [--seeds 10 11 12] [--home msdn-home] [--only msdn]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np

from msdn.cache import Annotations, FeatureCache, Home
from msdn.cache.find import choose_cache
from msdn.train.evaluate import evaluate_run
from msdn.train.runner import train_model
from msdn.train.settings import TrainSettings

MSDN = TrainSettings(model="msdn")
BASELINE = TrainSettings(model="baseline", momentum=0.0, learning_rate=3e-3, epochs=60)
CANDIDATES = {
    "msdn": [
        MSDN,
        replace(MSDN, lambda_cal=0.05),
        replace(MSDN, lambda_cal=0.03),
        replace(MSDN, lambda_cal=0.05, epochs=20),
    ],
    "baseline": [
        BASELINE,
        replace(BASELINE, weight_decay=3e-5),
        replace(BASELINE, weight_decay=3e-5, lambda_cal=0.2),
        replace(BASELINE, weight_decay=3e-5, learning_rate=1e-2),
        replace(BASELINE, weight_decay=3e-5, epochs=120),
        replace(BASELINE, weight_decay=3e-5, learning_rate=1e-3, momentum=0.9),
    ],
}
SHOWN = ("learning_rate", "momentum", "weight_decay", "lambda_cal", "epochs")
FIGURES = ("acc", "U", "S", "H")


def main() -> None:
    """Train every candidate with every seed; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    parser.add_argument("--only", choices=CANDIDATES)
    options = parser.parse_args()
    with FeatureCache(choose_cache(Home(options.home), "plumage", None)) as cache:
        cache.annotations = keep_to_validation(cache.annotations)
        for model in [options.only] if options.only else CANDIDATES:
            for settings in CANDIDATES[model]:
                report(settings, [train(cache, replace(settings, seed=seed)) for seed in options.seeds])


def keep_to_validation(annotations: Annotations) -> Annotations:
    """Make the validation classes the unseen ones, and take all test images out of reach."""
    train = annotations.splits["train"]
    held_out = np.concatenate(
        [
            rows[::5]
            for c in np.unique(annotations.labels[train])
            if len(rows := train[annotations.labels[train] == c])
        ]
    )
    kept = np.setdiff1d(train, held_out)
    splits = {"trainval": kept, "train": kept, "val": kept[:0], "test_seen": np.sort(held_out)}
    return restrict_classes(replace(annotations, splits=splits | {"test_unseen": annotations.splits["val"]}))


def restrict_classes(annotations: Annotations) -> Annotations:
    """Leave out the classes that are neither trained on nor asked for: they must not compete."""
    classes = np.union1d(annotations.seen_classes, annotations.unseen_classes)
    numbers = np.full(len(annotations.class_names), -1)
    numbers[classes] = np.arange(len(classes))
    return replace(
        annotations,
        labels=numbers[annotations.labels],
        attributes=annotations.attributes[classes],
        class_names=tuple(annotations.class_names[c] for c in classes),
    )


def train(cache: FeatureCache, settings: TrainSettings) -> dict[str, float]:
    """Train once in a folder that is thrown away; return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        return evaluate_run(train_model(cache, settings, Path(folder)), cache)


def report(settings: TrainSettings, results: list[dict[str, float]]) -> None:
    """Print a candidate's settings and its means over the seeds."""
    shown = "  ".join(f"{name} {getattr(settings, name):g}" for name in SHOWN)
    figures = "  ".join(f"{name} {mean(result[name] for result in results):.1f}" for name in FIGURES)
    print(
        f"{settings.model:<8}  {shown}  |  {figures}  (validation classes, {len(results)} seeds)", flush=True
    )


if __name__ == "__main__":
    main()
