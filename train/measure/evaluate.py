"""Test figures of a model: what `msdn evaluate` reports, and keeps in the run's folder."""

import dataclasses
import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import FeatureCache
from msdn.cache.records import write_sealed
from msdn.machine import choose_device
from msdn.train.errors import RunError
from msdn.train.loop.batches import Division, test_division
from msdn.train.loop.checkpoints import load_checkpoint
from msdn.train.loop.settings import TASKS
from msdn.train.measure.metrics import (
    Scored,
    accuracies,
    ausuc,
    chance_levels,
    gzsl_accuracies,
    mean_class_accuracy,
    per_class_figures,
    predict_classes,
)
from msdn.train.measure.published_weights import load_published
from msdn.train.measure.scoring import Scorer
from msdn.train.measure.selection import describe_selection, kept_tasks
from msdn.train.models.parts.base import ZslModel, build_model, preparation
from msdn.train.models.parts.problem import Problem, problem_of
from msdn.train.models.presets import preset_settings
from msdn.train.models.registry import DEFAULT, find_model
from msdn.train.runs.run import Run

log = logging.getLogger(__name__)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)  # a home that is not the user's to write to
PUBLISHED_MARGIN = 1.0
_MOST_TRAINING_IMAGES = 256  # evenly chosen: enough to tell learning from guessing
FIGURES = ("U", "S", "H", "H_no_margin", "H_published", "H_val_margin", "AUSUC", "acc")


@dataclass(frozen=True)
class ScoredTest:
    """The scores that test figures were made of.

    Attributes:
        gzsl: by the weights that tell U, S and H.
        czsl: by the weights that tell acc; the same but in paper style.
        margin: what the prediction adds to the scores of unseen classes and takes from those of seen ones.
        temperature: of the softmax whose probabilities are right on validation classes; None without those.
    """

    gzsl: Scored
    czsl: Scored
    margin: float
    temperature: float | None


def evaluate_run(
    run: Run,
    cache: FeatureCache,
    *,
    margin: float | None = None,
    device: str = "auto",
    predict_with: dict[str, Any] | None = None,
    on_scores: Callable[[ScoredTest], None] | None = None,
) -> dict[str, Any]:
    """Measure a finished run on the test images of the cache it was trained on.

    Args:
        run: the run.
        cache: its cache; another one is refused.
        margin: the prediction's margin instead of the run's own: the one chosen on validation classes, or
            else the one trained with (1 as published).
        device: where to compute.
        predict_with: settings that no weight depends on, such as alpha, instead of the run's.
        on_scores: called with the scores that the figures are made of.

    Returns:
        Figures in percent, per class too, and what they belong to; ready for JSON.
    """
    run.check_finished()
    run.check_features(cache)
    run.check_model()
    settings = dataclasses.replace(run.settings, **(predict_with or {}))
    chosen = run.chosen if settings.select == "val" else None
    own = chosen["margin"] if chosen else settings.margin
    content, target = load_run_checkpoint(run), choose_device(device)
    division = test_division(cache)
    problem = problem_of(cache, run.groups(cache.annotations.attributes.shape[1]))
    model = build_model(problem, settings).to(target)
    scorer = Scorer(cache, division, preparation(model, run.precision), target, "map")
    scored = []
    for task in kept_tasks(settings) or (settings.task,):
        _fill(model, run, content, task)
        scored.append(scorer.score(model))
    used = own if margin is None else margin
    if on_scores:
        on_scores(ScoredTest(scored[0], scored[-1], used, chosen["val_temperature"] if chosen else None))
    result = {
        **test_figures(scored[0], scored[-1], cache, used),
        "training": training_figures(model, scorer, division, used),
        **other_margins(scored[0], chosen["margin"] if chosen else None),
        **facts_of(cache),
        "map": cache.map.name,
        "model": settings.model,
        "run": str(run.path),
        "epochs": settings.passes,
        "seed": settings.seed,
        "select": settings.select,
        "selection": describe_selection(settings, run.chosen),
        "chosen": run.chosen,
        "watch_test": run.manifest.get("watch_test"),
        "settings": settings.as_json(),
        "reconstruction": find_model(settings.model).reconstruction or None,
        "preset": run.manifest.get("preset"),
        "rule": run.manifest.get("rule"),
        "precision": run.precision,
        "training_seconds": round(sum(record["seconds"] for record in content["metrics"]), 1),
        "parameters": content["parameters"],
        "checkpoint_digest": content["digest"],
    }
    return {name: result[name] for name in FIGURES} | result


def keep_results(run: Run, result: dict[str, Any]) -> None:
    """Write what a run's evaluation gave into its folder, where that may be written to; any other OSError is raised."""
    try:
        write_sealed(run.results, result, indent=None)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        log.warning("%s: not written (%s)", run.results, error.strerror)


def evaluate_published(
    path: Path,
    cache: FeatureCache,
    *,
    model: str = DEFAULT,
    task: str = TASKS[0],
    predict_with: dict[str, Any] | None = None,
    groups: Path | None = None,
    margin: float | None = None,
    device: str = "auto",
    on_scores: Callable[[ScoredTest], None] | None = None,
) -> dict[str, Any]:
    """Measure weights that a model's authors published on the test images of a cache.

    Args:
        path: the file of weights.
        cache: features of the dataset that they were trained on, which need not hold word vectors.
        model: whose weights they are.
        task: the task whose published settings predict: "czsl" matters for DEDN on CUB.
        predict_with: settings that no weight depends on, such as alpha, instead of those published for the dataset.
        groups: of DEDN, a file of the groups it was trained with, where those known do not fit.
        margin: the prediction's margin instead of the checkpoint's own (1 as published).
        device: where to compute.
        on_scores: called with the scores that the figures are made of.

    Returns:
        Figures in percent, and what they belong to; ready for JSON.
    """
    settings = preset_settings(model, cache.annotations.dataset, task=task)
    settings = dataclasses.replace(settings, **(predict_with or {}))
    published = load_published(path, cache, settings, groups)
    scored = score_model(published.model, cache, device)
    used = published.margin if margin is None else margin
    if on_scores:
        on_scores(ScoredTest(scored, scored, used, None))
    return {
        **test_figures(scored, scored, cache, used),
        **other_margins(scored, None),
        **facts_of(cache),
        "model": settings.model,
        "checkpoint": str(path),
        "sha256": published.sha256,
        "cache": str(cache.path),
        **find_model(model).predicting(settings.as_json()),
        **({"groups": published.groups.as_json()} if published.groups else {}),
        "ignored_backbone_tensors": published.backbone_tensors,
        "selection": "unknown (published checkpoints were chosen on the test set)",
    }


def test_figures(gzsl: Scored, czsl: Scored, cache: FeatureCache, margin: float) -> dict[str, Any]:
    """Figures of the scores that are to tell U, S and H, and of those that are to tell acc; per class too."""
    return {
        **per_class_figures(gzsl, czsl, margin, cache.annotations.with_images_only().class_names),
        **accuracies(gzsl, margin),
        "acc": accuracies(czsl, margin)["acc"],
        "AUSUC": ausuc(gzsl),
        "margin": margin,
    }


def training_figures(
    model: ZslModel, scorer: Scorer, division: Division, margin: float
) -> dict[str, float | None]:
    """How well training images are told apart, in percent: among seen classes, and among all with the margin."""
    rows = np.unique(np.linspace(0, len(division.rows) - 1, _MOST_TRAINING_IMAGES).round().astype(int))
    images, seen = scorer.score_images(model, division.rows[rows]), division.problem.seen
    among_seen = mean_class_accuracy(predict_classes(images.scores, seen), images.labels)
    among_all = gzsl_accuracies(images, images, seen, margin)["S"]
    return {
        "seen": None if among_seen is None else 100 * among_seen,
        "all": None if among_all is None else 100 * among_all,
        "chance_seen": 100 / len(seen),
        "chance_all": 100 / len(division.problem.attributes),
    }


def other_margins(scored: Scored, validated: float | None) -> dict[str, Any]:
    """H without margin, with the published one, and with the one chosen on validation classes; and the margins."""
    margins = {"H_no_margin": 0.0, "H_published": PUBLISHED_MARGIN, "H_val_margin": validated}
    h = {name: None if one is None else accuracies(scored, one)["H"] for name, one in margins.items()}
    return {**h, "margins": margins}


def score_model(model: ZslModel, cache: FeatureCache, device: str) -> Scored:
    """Scores of all test images of a cache."""
    target = choose_device(device)
    prepare = preparation(model, "float32")
    return Scorer(cache, test_division(cache), prepare, target, "map").score(model.to(target))


def facts_of(cache: FeatureCache) -> dict[str, Any]:
    """What the features are, and what guessing would reach."""
    annotations = cache.annotations.with_images_only()
    chance = chance_levels(len(annotations.class_names), len(annotations.unseen_classes))
    return {
        "dataset": annotations.dataset,
        "weights": cache.provenance["weights"]["kind"],
        "fingerprint": cache.fingerprint,
        "chance": {name: 100 * level for name, level in chance.items()},
        "masked_images": len(cache.masked_rows),
    }


def load_run_checkpoint(run: Run) -> dict[str, Any]:
    """The checkpoint that a finished run ended with."""
    content = load_checkpoint(run.checkpoint)
    if content["fingerprint"] != run.manifest["cache"]["fingerprint"] or (
        run.finished and content["digest"] != run.manifest.get("checkpoint")
    ):
        raise RunError(
            f"{run.checkpoint}: not the checkpoint that this run ended with; train the model again"
        )
    return content


def load_model(run: Run, problem: Problem, task: str | None = None) -> ZslModel:
    """The model of a finished run for these classes, on the CPU, as it ended, or as it is kept for the task."""
    run.check_model()
    model = build_model(problem, run.settings)
    _fill(model, run, load_run_checkpoint(run), task or run.settings.task)
    return model


def _fill(model: ZslModel, run: Run, content: dict[str, Any], task: str) -> None:
    """Give a model the weights of a run's checkpoint."""
    try:
        kept = content["kept"]
        model.load_state_dict(kept[task]["weights"] if kept else content["trainer"]["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise RunError(f"{run.checkpoint}: the weights do not fit the run's model; train it again") from error
