"""The answer to every test image, one by one, and how far its confidence can be trusted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msdn.cache import FeatureCache
from msdn.terminal import escape
from msdn.train.measure.evaluate import ScoredTest
from msdn.train.measure.metrics import confidences, predict_classes
from msdn.train.measure.show import Line

BINS = 10  # of equal width, for the reliability curve


@dataclass(frozen=True)
class Answers:
    """The answers to N test images, those of unseen classes first.

    Attributes:
        rows: the images' rows in the cache.
        labels: their classes.
        is_unseen: whether these are unseen ones.
        predicted: the best of all classes, with the margin.
        scores: its score, with the margin.
        among_unseen: the best of the unseen classes; −1 for images of seen ones.
        confidence: how probable the best class is; None where the run has no temperature.
    """

    rows: np.ndarray
    labels: np.ndarray
    is_unseen: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    among_unseen: np.ndarray
    confidence: np.ndarray | None

    @property
    def right(self) -> np.ndarray:
        """Whether the best of all classes is the image's own."""
        return self.predicted == self.labels


def answers_of(scores: ScoredTest, cache: FeatureCache) -> Answers:
    """What was predicted of every test image."""
    both = (scores.gzsl.unseen_images, scores.gzsl.seen_images)
    margins = np.full(scores.gzsl.classes, scores.margin)
    margins[scores.gzsl.seen_classes] = -scores.margin
    shifted = np.concatenate([images.scores for images in both]) + margins
    labels = np.concatenate([images.labels for images in both])
    predicted = predict_classes(shifted)
    unseen_count = len(both[0].labels)
    among_unseen = np.full(len(labels), -1)
    among_unseen[:unseen_count] = predict_classes(
        scores.czsl.unseen_images.scores, scores.czsl.unseen_classes
    )
    return Answers(
        rows=np.concatenate([cache.rows("test_unseen"), cache.rows("test_seen")]),
        labels=labels,
        is_unseen=np.arange(len(labels)) < unseen_count,
        predicted=predicted,
        scores=shifted[np.arange(len(labels)), predicted],
        among_unseen=among_unseen,
        confidence=confidences(shifted, scores.temperature) if scores.temperature else None,
    )


def answer_lines(scores: ScoredTest, cache: FeatureCache) -> Iterator[Line]:
    """A line for each test image, in the order of the cache."""
    found, annotations = answers_of(scores, cache), cache.annotations
    names = [escape(name) for name in annotations.class_names]
    unseen = set(scores.gzsl.unseen_classes.tolist())
    for n in np.argsort(found.rows, kind="stable").tolist():
        guess = int(found.predicted[n])
        yield {
            "image": escape(annotations.image_paths[found.rows[n]]),
            "class": names[found.labels[n]],
            "kind": "unseen" if found.is_unseen[n] else "seen",
            "predicted": names[guess],
            "predicted_kind": "unseen" if guess in unseen else "seen",
            "score": float(found.scores[n]),
            "confidence": None if found.confidence is None else float(found.confidence[n]),
            "predicted_among_unseen": names[found.among_unseen[n]] if found.is_unseen[n] else None,
        }


@dataclass(frozen=True)
class Reliability:
    """How often answers of some confidence are right.

    Attributes:
        bins: bounds, images, mean confidence and share of right answers of every bin that holds an image.
        error: the expected calibration error: the mean distance of the two, each image counting the same.
    """

    bins: tuple[dict[str, float], ...]
    error: float


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    """Compare confidences [N] with the share of answers [N] that are right, in bins of equal width."""
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    found, error = [], 0.0
    for number in np.unique(numbers).tolist():
        chosen = numbers == number
        images, mean, share = int(chosen.sum()), confidence[chosen].mean(), right[chosen].mean()
        error += images / len(right) * abs(mean - share)
        found.append(
            {
                "from": number / BINS,
                "to": (number + 1) / BINS,
                "images": images,
                "confidence": float(mean),
                "right": float(share),
            }
        )
    return Reliability(tuple(found), float(error))


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of images answered, and share of these answers that are right, as the level to answer at falls.

    Images of the same confidence are answered together, so that their order does not matter.
    """
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(right[order])
    last = np.flatnonzero(np.diff(confidence[order], append=-np.inf))  # of each group of equals
    return (last + 1) / len(right), hits[last] / (last + 1)
