"""Test figures of a model: what `msdn evaluate` reports, and keeps in the run's folder."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache
from msdn.cache.files import replace_file
from msdn.machine import choose_device
from msdn.train.errors import RunError
from msdn.train.loop.checkpoints import load_checkpoint
from msdn.train.loop.divisions import test_stage
from msdn.train.measure.metrics import chance_levels
from msdn.train.measure.published_weights import load_released
from msdn.train.measure.scored import Scored, accuracies, ausuc, per_class_figures
from msdn.train.measure.scoring import Scorer
from msdn.train.measure.selection import describe_selection, expected_epochs, kept_tasks
from msdn.train.models.parts.base import ZslModel, build_model
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.presets import preset_settings
from msdn.train.models.registry import find_model
from msdn.train.runs.run import Run

log = logging.getLogger(__name__)
PUBLISHED_MARGIN = 1.0
FIGURES = ("U", "S", "H", "H_no_margin", "H_published", "H_val_margin", "AUSUC", "acc")


def evaluate_run(
    run: Run,
    cache: FeatureCache,
    *,
    margin: float | None = None,
    device: str = "auto",
    predict_with: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure a finished run on the test images of the cache it was trained on.

    Args:
        run: the run.
        cache: its cache; another one is refused.
        margin: the prediction's margin instead of the run's own: the one chosen on validation classes, or
            else the one trained with (1 as published).
        device: where to compute.
        predict_with: settings that no weight depends on, such as alpha, instead of the run's.

    Returns:
        Figures in percent, per class too, and what they belong to; ready for JSON.
    """
    if not run.finished:
        raise RunError(f"{run.path}: not finished; finish it with 'msdn train --resume {run.path}'")
    check_cache(run, cache)
    settings = dataclasses.replace(run.settings, **(predict_with or {}))
    chosen = run.chosen if settings.select == "val" else None
    own = chosen["margin"] if chosen else settings.margin
    content = load_run_checkpoint(run)
    tasks = kept_tasks(settings) or (settings.task,)
    scored = [score_model(load_model(run, cache, task, predict_with), cache, device) for task in tasks]
    result = {
        **test_figures(scored[0], scored[-1], cache, own if margin is None else margin),
        **other_margins(scored[0], chosen["margin"] if chosen else None),
        **facts_of(cache),
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
        "training_seconds": round(sum(record["seconds"] for record in content["metrics"]), 1),
        "parameters": content["parameters"],
    }
    return {name: result[name] for name in FIGURES} | result


def keep_results(run: Run, result: dict[str, Any]) -> None:
    """Write what a run's evaluation gave into its folder, where that may be written to."""
    try:
        replace_file(run.results, (json.dumps(result) + "\n").encode())
    except OSError as error:
        log.warning("%s: not written (%s)", run.results, error.strerror)


def evaluate_released(
    path: Path,
    cache: FeatureCache,
    *,
    alpha: tuple[float, float] | None = None,
    margin: float | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure a checkpoint of the published MSDN on the test images of a cache.

    Args:
        path: the file of weights.
        cache: features of the dataset that it was trained on, which need not hold word vectors.
        alpha: weights of both branches in the prediction instead of those published for the dataset.
        margin: the prediction's margin instead of the checkpoint's own (1 as published).
        device: where to compute.

    Returns:
        Figures in percent, and what they belong to; ready for JSON.
    """
    settings = preset_settings("msdn", cache.annotations.dataset)
    if alpha is not None:
        settings = dataclasses.replace(settings, alpha=alpha)
    released = load_released(path, cache, settings)
    scored = score_model(released.model, cache, device)
    return {
        **test_figures(scored, scored, cache, released.margin if margin is None else margin),
        **other_margins(scored, None),
        **facts_of(cache),
        "model": settings.model,
        "checkpoint": str(path),
        "sha256": released.sha256,
        "cache": str(cache.path),
        "alpha": list(settings.alpha),
        "ignored_backbone_tensors": released.backbone_tensors,
        "selection": "unknown (published checkpoints were chosen on the test set)",
    }


def test_figures(gzsl: Scored, czsl: Scored, cache: FeatureCache, margin: float) -> dict[str, Any]:
    """Figures of the scores that are to tell U, S and H, and of those that are to tell acc; per class too."""
    return {
        **per_class_figures(gzsl, czsl, margin, cache.annotations.class_names),
        **accuracies(gzsl, margin),
        "acc": accuracies(czsl, margin)["acc"],
        "AUSUC": ausuc(gzsl),
        "margin": margin,
    }


def other_margins(scored: Scored, validated: float | None) -> dict[str, Any]:
    """H without margin, with the published one, and with the one chosen on validation classes; and the margins."""
    margins = {"H_no_margin": 0.0, "H_published": PUBLISHED_MARGIN, "H_val_margin": validated}
    h = {name: None if one is None else accuracies(scored, one)["H"] for name, one in margins.items()}
    return {**h, "margins": margins}


def score_model(model: ZslModel, cache: FeatureCache, device: str) -> Scored:
    """Scores of all test images of a cache."""
    target = choose_device(device)
    return Scorer(cache, test_stage(cache), target, "map").score(model.to(target))


def facts_of(cache: FeatureCache) -> dict[str, Any]:
    """What the features are, and what guessing would reach."""
    annotations = cache.annotations
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
    if content.get("fingerprint") != run.manifest["cache"]["fingerprint"] or (
        run.finished and content.get("epoch") != expected_epochs(run.settings, run.chosen)
    ):
        raise RunError(
            f"{run.checkpoint}: not the checkpoint that this run ended with; train the model again"
        )
    return content


def load_model(
    run: Run, cache: FeatureCache, task: str | None = None, predict_with: dict[str, Any] | None = None
) -> ZslModel:
    """The model of a finished run, on the CPU, with the weights that it ended with, or keeps for the task."""
    settings = dataclasses.replace(run.settings, **(predict_with or {}))
    model = build_model(problem_of(cache, run.groups(cache)), settings)
    content = load_run_checkpoint(run)
    try:
        kept = content["kept"]
        model.load_state_dict(kept[task or settings.task]["weights"] if kept else content["trainer"]["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise RunError(f"{run.checkpoint}: the weights do not fit the run's model; train it again") from error
    return model


def check_cache(run: Run, cache: FeatureCache) -> None:
    """Refuse a cache that is not the one the run was trained on."""
    trained_on = run.manifest["cache"]["fingerprint"]
    if cache.fingerprint != trained_on:
        raise RunError(
            f"{cache.path}: not the features that {run.path.name} was trained on (fingerprint "
            f"{cache.fingerprint[:12]}, expected {trained_on[:12]}); give those with --cache, or train again"
        )
