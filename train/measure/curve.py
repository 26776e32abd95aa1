"""The seen-unseen curve: U and S under every margin, the area below it and its best margin. NumPy only."""

from dataclasses import dataclass

import numpy as np

from msdn.train.measure.metrics import ScoredImages, predict_classes

_SAME_H = 1e-10  # values of H nearer than this differ by rounding only


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
