"""Accuracies of zero-shot learning, per-class means of top-1: U, S, H and acc, and the curve under every margin."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Figures = dict[str, float | None]
_LOG_TEMPERATURES = (-7.0, 7.0)  # from 0.001 to 1,000
_SAME_H = 1e-10  # values of H nearer than this differ by rounding only


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


@dataclass(frozen=True)
class Curve:
    """U and S as the margin grows from minus to plus infinity.

    A prediction flips from the best seen to the best unseen class once the margin exceeds half of the gap
    between their scores. Between two neighbouring flips nothing changes, so each such interval is one point,
    as are both unbounded ends. No point lies on a flip, where two classes would tie.

    Attributes:
        margins: a margin inside each interval: its middle, or 1 beyond the first or last flip [P].
        u: accuracy on unseen images in each interval, non-decreasing [P].
        s: accuracy on seen images in each interval, non-increasing [P].
    """

    margins: np.ndarray
    u: np.ndarray
    s: np.ndarray

    def area(self) -> float:
        """AUSUC: the area under S as a function of U, as a fraction of the unit square.

        Neighbouring points are joined by straight lines. Only the order in which images flip matters, so
        the area belongs to no margin: the same constant on all unseen scores leaves it as it is.
        """
        return float(np.diff(self.u) @ (self.s[1:] + self.s[:-1]) / 2)

    def best(self) -> tuple[float, float]:
        """The margin with the largest H, and that H; of equals the nearest to 0, then the smaller."""
        total = self.u + self.s
        h = np.divide(2 * self.u * self.s, total, out=np.zeros_like(total), where=total > 0)
        equals = np.flatnonzero(h >= h.max() - _SAME_H)
        chosen = equals[np.abs(self.margins[equals]).argmin()]  # ascending, so the smaller comes first
        return float(self.margins[chosen]), float(h[chosen])


def seen_unseen_curve(
    unseen_images: ScoredImages, seen_images: ScoredImages, seen_classes: np.ndarray
) -> Curve | None:
    """The curve of a model's scores, all classes competing; None where either side has no image."""
    if not len(unseen_images.labels) or not len(seen_images.labels):
        return None
    columns = np.unique(seen_classes)
    unseen, seen = _find_flips(unseen_images, columns), _find_flips(seen_images, columns)
    flips = np.concatenate([unseen.margins, seen.margins])
    starts, ends = _group(flips, max(unseen.rounding, seen.rounding))
    margins = np.zeros(1)  # nothing ever flips
    if len(starts):
        margins = np.concatenate([starts[:1] - 1, (ends[:-1] + starts[1:]) / 2, ends[-1:] + 1])
    return Curve(margins, _accuracies(unseen, starts), _accuracies(seen, starts))


@dataclass(frozen=True)
class _Flips:
    """Where each of N images flips, and what it adds to the accuracy below and above that margin."""

    margins: np.ndarray  # [N], plus or minus infinity for an image that never flips
    below: np.ndarray  # [N], predicted as its best seen class
    above: np.ndarray  # [N], predicted as its best unseen class
    rounding: float  # margins nearer than this cannot be told apart in double precision


def _find_flips(images: ScoredImages, seen: np.ndarray) -> _Flips:
    unseen = np.setdiff1d(np.arange(images.scores.shape[1]), seen)
    seen_class, seen_score = _best_among(images.scores, seen)  # [N], [N]
    unseen_class, unseen_score = _best_among(images.scores, unseen)
    sizes = np.bincount(images.labels)
    weights = 1 / (sizes[images.labels] * np.count_nonzero(sizes))  # they make a mean over classes
    bests = np.abs(np.concatenate([seen_score, unseen_score]))
    return _Flips(
        (seen_score - unseen_score) / 2,
        weights * (seen_class == images.labels),
        weights * (unseen_class == images.labels),
        4 * np.finfo(np.float64).eps * bests[np.isfinite(bests)].max(initial=0),
    )


def _best_among(scores: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best of `classes` for each image, and its score; class -1 with minus infinity where there is none."""
    if not len(classes):
        return np.full(len(scores), -1), np.full(len(scores), -np.inf)
    best = predict_classes(scores, classes)
    return best, scores[np.arange(len(scores)), best].astype(np.float64)


def _group(flips: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """First and last margin [G] of each group of finite flips that coincide up to rounding, ascending."""
    distinct = np.unique(flips[np.isfinite(flips)])
    apart = np.diff(distinct, prepend=-np.inf, append=np.inf) > rounding
    return distinct[apart[:-1]], distinct[apart[1:]]


def _accuracies(flips: _Flips, starts: np.ndarray) -> np.ndarray:
    """Accuracy in each of the G + 1 intervals around the groups of flips that begin at `starts` [G]."""
    changed = np.searchsorted(np.append(starts, np.inf), flips.margins, side="right")  # first interval after
    above = np.bincount(changed, flips.above, minlength=len(starts) + 2)
    below = np.bincount(changed, flips.below, minlength=len(starts) + 2)
    return np.cumsum(above)[:-1] + np.cumsum(below[::-1])[::-1][1:]


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
    figures["temperature"] = fit_temperature(scored, margin)
    return {f"val_{name}": value for name, value in figures.items()}


def confidences(scores: np.ndarray, temperature: float) -> np.ndarray:
    """How probable each image's best class is [N]: the softmax over scores [N, C] with margins, at a temperature."""
    scaled = (scores - scores.max(axis=1, keepdims=True)).astype(np.float64) / temperature
    return 1 / np.exp(scaled).sum(axis=1)


def fit_temperature(scored: Scored, margin: float) -> float:
    """The softmax's temperature under which the images' own classes are most probable, all classes competing."""
    margins = np.full(scored.classes, margin)
    margins[scored.seen_classes] = -margin
    both = (scored.unseen_images, scored.seen_images)
    scores = np.concatenate([images.scores for images in both]).astype(np.float64) + margins
    labels = np.concatenate([images.labels for images in both])
    gaps = scores - scores[np.arange(len(labels)), labels][:, None]  # to the score of the image's own class

    def surprise(log_temperature: float) -> float:
        return float(logsumexp(gaps * np.exp(-log_temperature), axis=1).mean())

    return float(np.exp(minimize_scalar(surprise, bounds=_LOG_TEMPERATURES, method="bounded").x))


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
