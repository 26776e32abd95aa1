"""Test figures of a model: what `msdn evaluate` reports, and `--watch-test` while training."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdn.cache import FeatureCache
from msdn.train.checkpoints import load_checkpoint
from msdn.train.device import choose_device
from msdn.train.errors import RunError
from msdn.train.features import FeatureSource
from msdn.train.metrics import ScoredImages, chance_levels, czsl_accuracy, gzsl_accuracies
from msdn.train.models.base import ZslModel, build_model
from msdn.train.presets import preset_settings
from msdn.train.problem import problem_of
from msdn.train.released import load_released
from msdn.train.runs import Run

_BATCH = 64


class Evaluator:
    """Measures models on the test images of one cache."""

    def __init__(self, cache: FeatureCache, device: torch.device, place: str = "auto") -> None:
        """Serve the test features from `place`: "auto", "memory" or "map"."""
        self._annotations = cache.annotations
        self._seen_rows = cache.rows("test_seen")
        self._unseen_rows = cache.rows("test_unseen")
        rows = np.concatenate([self._seen_rows, self._unseen_rows])
        self._features = FeatureSource(cache, rows, device, place)

    def measure(self, model: ZslModel, margin: float, *, gzsl: bool, czsl: bool) -> dict[str, float | None]:
        """U, S, H (`gzsl`) and acc (`czsl`) in percent; None where there is no image to tell."""
        figures: dict[str, float | None] = {}
        unseen = self._score(model, self._unseen_rows)
        if gzsl:
            seen = self._score(model, self._seen_rows)
            figures |= gzsl_accuracies(unseen, seen, self._annotations.seen_classes, margin)
        if czsl:
            figures |= czsl_accuracy(unseen, self._annotations.unseen_classes)
        return {name: None if value is None else 100 * value for name, value in figures.items()}

    @torch.inference_mode()
    def _score(self, model: ZslModel, rows: np.ndarray) -> ScoredImages:
        model.eval()
        scores = np.empty((len(rows), len(self._annotations.class_names)), np.float32)
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            scores[part] = model.class_scores(model(self._features.read(rows[part]))).cpu().numpy()
        if not np.isfinite(scores).all():
            raise RunError("the model's scores are not finite; train it again with a lower --lr")
        return ScoredImages(scores, self._annotations.labels[rows])


def evaluate_run(
    run: Run,
    cache: FeatureCache,
    *,
    gzsl: bool = False,
    czsl: bool = False,
    margin: float | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure a finished run on the test images of the cache it was trained on.

    Args:
        run: the run.
        cache: its cache; another one is refused.
        gzsl: report U, S and H; neither `gzsl` nor `czsl` means both.
        czsl: report acc.
        margin: the prediction's margin instead of the one trained with (1 as published).
        device: where to compute.

    Returns:
        Figures in percent, and what they belong to; ready for JSON.
    """
    if not run.finished:
        raise RunError(f"{run.path}: not finished; finish it with 'msdn train --resume {run.path}'")
    check_cache(run, cache)
    used = run.settings.margin if margin is None else margin
    return {
        **measure_model(load_model(run, cache), cache, used, gzsl=gzsl, czsl=czsl, device=device),
        "model": run.settings.model,
        "run": str(run.path),
        "epochs": run.settings.epochs,
        "seed": run.settings.seed,
        "selection": run.manifest.get("selection"),
        "watch_test": run.manifest.get("watch_test"),
    }


def evaluate_released(
    path: Path,
    cache: FeatureCache,
    *,
    alpha: tuple[float, float] | None = None,
    gzsl: bool = False,
    czsl: bool = False,
    margin: float | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure a checkpoint of the published MSDN on the test images of a cache.

    Args:
        path: the file of weights.
        cache: features of the dataset that it was trained on, which need not hold word vectors.
        alpha: weights of both branches in the prediction instead of those published for the dataset.
        gzsl: see `evaluate_run`.
        czsl: see `evaluate_run`.
        margin: the prediction's margin instead of the checkpoint's own (1 as published).
        device: where to compute.

    Returns:
        Figures in percent, and what they belong to; ready for JSON.
    """
    settings = preset_settings("msdn", cache.annotations.dataset)
    if alpha is not None:
        settings = dataclasses.replace(settings, alpha=alpha)
    released = load_released(path, cache, settings)
    used = released.margin if margin is None else margin
    return {
        **measure_model(released.model, cache, used, gzsl=gzsl, czsl=czsl, device=device),
        "model": settings.model,
        "checkpoint": str(path),
        "sha256": released.sha256,
        "cache": str(cache.path),
        "alpha": list(settings.alpha),
        "ignored_backbone_tensors": released.backbone_tensors,
        "selection": "unknown (published checkpoints were chosen on the test set)",
    }


def measure_model(
    model: ZslModel, cache: FeatureCache, margin: float, *, gzsl: bool, czsl: bool, device: str
) -> dict[str, Any]:
    """Figures of a model on the cache's test images, chance levels, and what the features are."""
    target = choose_device(device)
    both = gzsl == czsl
    evaluator = Evaluator(cache, target, "map")
    figures = evaluator.measure(model.to(target), margin, gzsl=gzsl or both, czsl=czsl or both)
    annotations = cache.annotations
    chance = chance_levels(len(annotations.class_names), len(annotations.unseen_classes))
    return {
        **figures,
        "dataset": annotations.dataset,
        "weights": cache.provenance["weights"]["kind"],
        "margin": margin,
        "chance": {name: 100 * chance[name] for name in figures},
        "masked_images": len(cache.masked_rows),
    }


def load_model(run: Run, cache: FeatureCache) -> ZslModel:
    """The model of a run with the weights of its checkpoint, on the CPU."""
    model = build_model(problem_of(cache), run.settings)
    content = load_checkpoint(run.checkpoint)
    if content.get("fingerprint") != run.manifest["cache"]["fingerprint"] or (
        run.finished and content.get("epoch") != run.settings.epochs
    ):
        raise RunError(
            f"{run.checkpoint}: not the checkpoint that this run ended with; train the model again"
        )
    try:
        model.load_state_dict(content["trainer"]["model"])
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
