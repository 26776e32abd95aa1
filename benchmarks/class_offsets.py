"""Shows why MSDN's seeds differ on Plumage: how far a constant offset of each unseen class decides its accuracy.

On validation classes, at the last epoch of the validation stage, with CUB's published settings and with Plumage's
preset: the accuracy; the accuracy after subtracting from every class its mean score over the training images; and
the spread of those means over the unseen classes, at the start and after training. No test image is read. Needs the
features that `msdn demo` leaves in the home.

    python benchmarks/class_offsets.py [--home msdn-home] [--seeds 10-12]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from msdn.cache import FeatureCache, Home
from msdn.cache.home import choose_cache
from msdn.train.loop.batches import Division, validation_division
from msdn.train.loop.checkpoints import load_checkpoint
from msdn.train.loop.settings import RunSettings
from msdn.train.measure.metrics import ScoredImages, czsl_accuracy
from msdn.train.measure.scoring import Scorer
from msdn.train.measure.summary import parse_seeds
from msdn.train.models.parts.base import ZslModel, build_model, preparation
from msdn.train.models.presets import preset_settings
from msdn.train.studies.series import Job, do_job


def main() -> None:
    """Train what is missing, print a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("10-12"))
    options = parser.parse_args()
    home, ours = Home(options.home), preset_settings("msdn", "plumage")
    published = preset_settings("msdn", "cub")
    with FeatureCache(choose_cache(home, "plumage", None)) as cache:
        for label, settings in (("CUB's published settings", published), ("Plumage's preset", ours)):
            for seed in options.seeds:
                report(label, replace(settings, seed=seed, select="val"), cache, home)


def report(label: str, settings: RunSettings, cache: FeatureCache, home: Home) -> None:
    """One seed's accuracies and offsets."""
    stage = validation_division(cache)
    torch.manual_seed(settings.seed)
    model = build_model(stage.problem, settings)
    unseen = stage.problem.unseen
    before = class_means(model, cache, stage)[unseen].std()
    run = do_job(cache, Job(settings, validate_only=True), home.studies / "runs", device="cpu")
    model.load_state_dict(load_checkpoint(run.checkpoint)["trainer"]["model"])
    means = class_means(model, cache, stage)
    images = (
        Scorer(cache, stage, preparation(model, "float32"), torch.device("cpu")).score(model).unseen_images
    )
    centred = ScoredImages(images.scores - means, images.labels)
    as_is, without = (100 * (czsl_accuracy(one, unseen)["acc"] or 0.0) for one in (images, centred))
    print(
        f"{label}, seed {settings.seed}: acc {as_is:.1f}, {without:.1f} without offsets; std of the offsets over "
        f"unseen classes {before:.2f} at the start, {means[unseen].std():.2f} trained",
        flush=True,
    )


def class_means(model: ZslModel, cache: FeatureCache, stage: Division) -> np.ndarray:
    """The mean score of each class over the training images, [C]."""
    training = replace(stage, unseen_rows=stage.rows, seen_rows=stage.rows[:0])
    scored = Scorer(cache, training, preparation(model, "float32"), torch.device("cpu")).score(model)
    return np.asarray(scored.unseen_images.scores.mean(axis=0))


if __name__ == "__main__":
    main()
