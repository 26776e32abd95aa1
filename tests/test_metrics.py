"""Accuracies and the seen-unseen curve on cases small enough to follow by hand."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdn.train.measure.metrics import (
    Curve,
    ScoredImages,
    chance_levels,
    confusion_counts,
    czsl_accuracy,
    gzsl_accuracies,
    harmonic_mean,
    mean_class_accuracy,
    per_class_accuracies,
    predict_classes,
    seen_unseen_curve,
)

shares = st.floats(1e-9, 1) | st.just(0.0)


@given(first=shares, second=shares)
def test_harmonic_mean_lies_between(first: float, second: float) -> None:
    mean = harmonic_mean(first, second)
    assert mean is not None
    assert min(first, second) * 0.999 <= mean <= max(first, second) * 1.001
    if min(first, second) > 1e-6:
        assert mean == pytest.approx(1 / ((1 / first + 1 / second) / 2))


def test_a_margin_moves_predictions_to_unseen_classes() -> None:
    images = ScoredImages(np.array([[1.0, 0.0]]), np.array([1]))
    assert gzsl_accuracies(images, images, np.array([0]), 0.4)["U"] == 0
    assert gzsl_accuracies(images, images, np.array([0]), 0.6)["U"] == 1


def test_without_images_there_is_no_figure() -> None:
    none = ScoredImages(np.zeros((0, 2)), np.zeros(0, int))
    some = ScoredImages(np.eye(2), np.array([0, 1]))
    assert gzsl_accuracies(some, none, np.array([0]), 1.0) == {"U": 0.5, "S": None, "H": None}
    assert czsl_accuracy(none, np.array([1])) == {"acc": None}
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_a_class_without_images_is_left_out_of_the_mean() -> None:
    assert mean_class_accuracy(np.array([0, 4]), np.array([0, 3])) == 0.5


def test_predictions_stay_among_the_candidates() -> None:
    assert predict_classes(np.array([[9.0, 1.0, 2.0]]), np.array([1, 2])).tolist() == [2]


def test_chance_is_one_of_the_competing_classes() -> None:
    assert chance_levels(10, 4) == {"U": 0.1, "S": 0.1, "H": 0.1, "acc": 0.25}


def test_per_class_accuracies_leave_nan_where_there_is_no_image() -> None:
    ours = per_class_accuracies(np.array([0, 2, 2]), np.array([0, 0, 2]), 4)
    np.testing.assert_array_equal(ours, [0.5, np.nan, 1, np.nan])
    assert np.isnan(per_class_accuracies(np.zeros(0, int), np.zeros(0, int), 2)).all()


def test_confusion_counts_are_sparse_sorted_and_plain() -> None:
    counts = confusion_counts(np.array([5, 0, 5, 2]), np.array([1, 1, 1, 0], np.uint8))
    assert counts == [(0, 2, 1), (1, 0, 1), (1, 5, 2)]
    assert {type(number) for row in counts for number in row} == {int}
    assert confusion_counts(np.zeros(0, int), np.zeros(0, int)) == []


def test_a_curve_by_hand() -> None:
    """Gaps of the unseen images 0.5 and 3, of the seen ones 2 and 1: flips at 0.25, 0.5, 1 and 1.5."""
    unseen = ScoredImages(np.array([[0.5, 0.0], [3.0, 0.0]]), np.array([1, 1]))
    seen = ScoredImages(np.array([[2.0, 0.0], [1.0, 0.0]]), np.array([0, 0]))
    curve = seen_unseen_curve(unseen, seen, np.array([0]))
    assert curve is not None
    assert curve.margins.tolist() == [-0.75, 0.375, 0.75, 1.25, 2.5]
    assert curve.u.tolist() == [0, 0.5, 0.5, 0.5, 1]
    assert curve.s.tolist() == [1, 1, 0.5, 0, 0]
    assert curve.area() == 0.5
    assert curve.best() == (0.375, pytest.approx(2 / 3))


def test_a_curve_needs_images_on_both_sides() -> None:
    none = ScoredImages(np.zeros((0, 2)), np.zeros(0, int))
    some = ScoredImages(np.eye(2), np.array([0, 1]))
    assert seen_unseen_curve(none, some, np.array([0])) is None
    assert seen_unseen_curve(some, none, np.array([0])) is None


def test_of_equal_margins_the_best_is_the_nearest_to_zero_then_the_smaller() -> None:
    """H is 2/3 around -3 and around 3, and 0 between: there a mistaken seen image has not flipped yet."""
    unseen = ScoredImages(np.array([[-8.0, 0.0, -9.0], [4.0, 0.0, -9.0]]), np.array([1, 1]))
    seen = ScoredImages(np.array([[-4.0, -9.0, 0.0], [8.0, -9.0, 0.0]]), np.array([0, 0]))
    curve = seen_unseen_curve(unseen, seen, np.array([0]))
    assert curve is not None
    assert curve.margins.tolist() == [-5, -3, 0, 3, 5]
    assert curve.best() == (-3, pytest.approx(2 / 3))


def test_rounding_does_not_choose_the_best_margin() -> None:
    """H is 2/3 at both points; in doubles the second comes out larger by the last digit."""
    u, s = np.array([1 / 2, 5 / 9]), np.array([1, 5 / 6])
    h = 2 * u * s / (u + s)
    assert h[0] < h[1]
    assert Curve(np.array([1.0, 2.0]), u, s).best() == (1, h[0])


def test_a_curve_of_a_large_test_set_is_fast() -> None:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 717, 10_000))
    scores = rng.standard_normal((10_000, 717), np.float32)
    cut = np.searchsorted(labels, 645)
    unseen, seen = ScoredImages(scores[cut:], labels[cut:]), ScoredImages(scores[:cut], labels[:cut])
    start = time.process_time()
    curve = seen_unseen_curve(unseen, seen, np.arange(645))
    seconds = time.process_time() - start
    assert curve is not None
    assert len(curve.margins) > 9_000
    assert seconds < 1
