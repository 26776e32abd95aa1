"""The figures of one model on one stage's images: the same for validation and test. No torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from msdn.train.measure.curve import Curve, seen_unseen_curve
from msdn.train.measure.metrics import (
    ScoredImages,
    confusion_counts,
    czsl_accuracy,
    gzsl_accuracies,
    per_class_accuracies,
    predict_classes,
)

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Scored:
    """A model's scores of the images of unseen and of seen classes, and which classes are which."""

    unseen_images: ScoredImages
    seen_images: ScoredImages
    seen_classes: np.ndarray
    unseen_classes: np.ndarray

    @property
    def classes(self) -> int:
        """C."""
        return self.unseen_images.scores.shape[1]


def accuracies(scored: Scored, margin: float) -> Figures:
    """U, S, H and acc, in percent; None where there is no image to tell."""
    return _percent(
        gzsl_accuracies(scored.unseen_images, scored.seen_images, scored.seen_classes, margin)
        | czsl_accuracy(scored.unseen_images, scored.unseen_classes)
    )


def ausuc(scored: Scored) -> float | None:
    """The area under the seen-unseen curve, in percent: GZSL without any margin."""
    curve = _curve(scored)
    return None if curve is None else 100 * curve.area()


def validation_figures(scored: Scored) -> dict[str, Any]:
    """Figures at the margin that is best on these images; never to be called with test images."""
    curve = _curve(scored)
    margin = curve.best()[0] if curve else 0.0
    figures = {**accuracies(scored, margin), "AUSUC": ausuc(scored), "margin": margin}
    return {f"val_{name}": value for name, value in figures.items()}


def per_class_figures(gzsl: Scored, czsl: Scored, margin: float, names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy of every class in percent and the confusion counts: all classes compete, or the unseen alone."""
    margins = np.full(gzsl.classes, margin)
    margins[gzsl.seen_classes] = -margin
    both = (gzsl.unseen_images, gzsl.seen_images)
    labels = np.concatenate([images.labels for images in both])
    among_all = np.concatenate([predict_classes(images.scores + margins) for images in both])
    among_unseen = predict_classes(czsl.unseen_images.scores, czsl.unseen_classes)
    parts = {"gzsl": (among_all, labels), "czsl": (among_unseen, czsl.unseen_images.labels)}
    return {
        "class_names": list(names),
        "per_class": {task: _named(*part, names) for task, part in parts.items()},
        "confusion": {task: confusion_counts(*part) for task, part in parts.items()},
    }


def _curve(scored: Scored) -> Curve | None:
    return seen_unseen_curve(scored.unseen_images, scored.seen_images, scored.seen_classes)


def _named(predicted: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    shares = per_class_accuracies(predicted, labels, len(names))
    return {names[c]: round(100 * float(shares[c]), 4) for c in np.flatnonzero(~np.isnan(shares))}


def _percent(figures: Figures) -> Figures:
    return {name: None if value is None else 100 * value for name, value in figures.items()}
