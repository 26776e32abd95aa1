"""What one training trains on and is measured on: all training classes, or the validation protocol's part of them."""

from dataclasses import dataclass, replace

import numpy as np

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError
from msdn.train.models.parts.problem import AttributeGroup, Problem, problem_of

_HOLD_OUT_EVERY = (
    5  # of a train class's images, for S on validation: as large a share as test-seen images have
)


@dataclass(frozen=True)
class Stage:
    """Rows and classes of one training.

    Attributes:
        problem: the classes, which the labels number.
        labels: the class of every image of the cache; −1 where it is none of the problem's.
        rows: what is trained on.
        unseen_rows: images of unseen classes, to measure.
        seen_rows: other images of seen classes, to measure.
    """

    problem: Problem
    labels: np.ndarray
    rows: np.ndarray
    unseen_rows: np.ndarray
    seen_rows: np.ndarray


def test_stage(cache: FeatureCache, groups: tuple[AttributeGroup, ...] = ()) -> Stage:
    """Train on all training classes, measure on the test images."""
    if not len(cache.rows("trainval")):
        raise TrainError(f"{cache.path}: all training images are masked, there is nothing to train on")
    return Stage(
        problem_of(cache, groups),
        cache.annotations.labels,
        cache.rows("trainval"),
        cache.rows("test_unseen"),
        cache.rows("test_seen"),
    )


def validation_stage(cache: FeatureCache, groups: tuple[AttributeGroup, ...] = ()) -> Stage:
    """Train on the train classes; the validation classes stand in for unseen ones, held-out images for seen ones.

    Classes that are neither do not compete, and no test image belongs to any row.
    """
    labels = cache.annotations.labels
    train, val = cache.rows("train"), cache.rows("val")
    seen = np.unique(labels[train])
    val = val[~np.isin(labels[val], seen)]
    held_out = _hold_out(train, labels)
    if not len(val) or not len(held_out):
        missing = (
            "classes: its 'val' split holds no class that 'train' lacks"
            if not len(val)
            else "images: no train class has two"
        )
        raise TrainError(
            f"{cache.path}: no validation {missing}; use --select last, or annotate the cache with other splits"
        )
    classes = np.union1d(seen, labels[val])
    numbers = np.full(len(cache.annotations.class_names), -1)
    numbers[classes] = np.arange(len(classes))
    whole = problem_of(cache, groups)
    problem = replace(
        whole,
        attributes=whole.attributes[classes],
        seen=numbers[seen],
        unseen=np.setdiff1d(np.arange(len(classes)), numbers[seen]),
    )
    return Stage(problem, numbers[labels], np.setdiff1d(train, held_out), val, held_out)


def _hold_out(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One image in five of each class, and at least one of two."""
    of_classes = [rows[labels[rows] == label][1::_HOLD_OUT_EVERY] for label in np.unique(labels[rows])]
    return np.sort(np.concatenate(of_classes)) if of_classes else rows[:0]
