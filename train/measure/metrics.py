"""Accuracies of zero-shot learning: means over classes of the per-class top-1 accuracy. NumPy only."""

from collections import Counter
from dataclasses import dataclass

import numpy as np


def predict_classes(scores: np.ndarray, candidates: np.ndarray | None = None) -> np.ndarray:
    """Return the best class of each row of `scores` [N, C], among `candidates` where given."""
    if candidates is None:
        return scores.argmax(axis=1)
    return candidates[scores[:, candidates].argmax(axis=1)]


def per_class_accuracies(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Share predicted right of each of the `classes` classes [C]; NaN for a class without an image."""
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return np.divide(right, images, out=np.full(classes, np.nan), where=images > 0)


def mean_class_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean over the classes in `labels` of the share predicted right; None without a single image."""
    if not len(labels):
        return None
    return float(np.nanmean(per_class_accuracies(predicted, labels, int(labels.max()) + 1)))


def confusion_counts(predicted: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, int]]:
    """`(true class, predicted class, images)` of each pair that occurs, in ascending order."""
    counts = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    return sorted((true, guess, images) for (true, guess), images in counts.items())


def harmonic_mean(first: float | None, second: float | None) -> float | None:
    """`2 S U / (S + U)`; 0 where both are 0, None where one is unknown."""
    if first is None or second is None:
        return None
    return 2 * first * second / (first + second) if first + second else 0.0


@dataclass(frozen=True)
class ScoredImages:
    """Class scores [N, C] without margin, and the label of each of the N images."""

    scores: np.ndarray
    labels: np.ndarray


def gzsl_accuracies(
    unseen_images: ScoredImages, seen_images: ScoredImages, seen_classes: np.ndarray, margin: float
) -> dict[str, float | None]:
    """U, S and H: all classes compete, with the margin on those that are not seen and against those that are."""
    margins = np.full(unseen_images.scores.shape[1], margin)
    margins[seen_classes] = -margin
    u, s = (
        mean_class_accuracy(predict_classes(images.scores + margins), images.labels)
        for images in (unseen_images, seen_images)
    )
    return {"U": u, "S": s, "H": harmonic_mean(u, s)}


def czsl_accuracy(unseen_images: ScoredImages, unseen_classes: np.ndarray) -> dict[str, float | None]:
    """The accuracy `acc` on unseen images when only unseen classes compete."""
    predicted = predict_classes(unseen_images.scores, unseen_classes)
    return {"acc": mean_class_accuracy(predicted, unseen_images.labels)}


def chance_levels(classes: int, unseen_classes: int) -> dict[str, float]:
    """What guessing reaches: one of all classes for U, S and H, one of the unseen for acc."""
    return {"U": 1 / classes, "S": 1 / classes, "H": 1 / classes, "acc": 1 / unseen_classes}
