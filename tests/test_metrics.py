"""Accuracies against loops over images and classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from msdn.train.metrics import (
    ScoredImages,
    chance_levels,
    czsl_accuracy,
    gzsl_accuracies,
    harmonic_mean,
    mean_class_accuracy,
    predict_classes,
)

CLASSES = 5
labels_lists = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=30)


def naive_accuracy(predicted: list[int], labels: list[int]) -> float:
    accuracies = []
    for label in sorted(set(labels)):
        hits = [p == y for p, y in zip(predicted, labels, strict=True) if y == label]
        accuracies.append(sum(hits) / len(hits))
    return sum(accuracies) / len(accuracies)


@given(labels=labels_lists, data=st.data())
def test_mean_class_accuracy_is_a_mean_over_classes(labels: list[int], data: st.DataObject) -> None:
    predicted = data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=len(labels), max_size=len(labels)))
    ours = mean_class_accuracy(np.array(predicted), np.array(labels))
    assert ours == pytest.approx(naive_accuracy(predicted, labels))


@given(labels=labels_lists, margin=st.sampled_from([0.0, 0.5, 1.0]), data=st.data())
def test_gzsl_and_czsl_follow_a_loop(labels: list[int], margin: float, data: st.DataObject) -> None:
    seen, unseen = [0, 3], [1, 2, 4]
    numbers = st.integers(-20, 20).map(lambda value: value / 8)
    scores = data.draw(arrays(np.float32, (len(labels), CLASSES), elements=numbers))
    images = ScoredImages(scores, np.array(labels))
    figures = gzsl_accuracies(images, images, np.array(seen), margin)

    def best(row: np.ndarray, among: list[int]) -> int:
        return max(among, key=lambda c: (row[c] + (-margin if c in seen else margin), -c))

    expected = naive_accuracy([best(row, list(range(CLASSES))) for row in scores], labels)
    assert figures["U"] == figures["S"] == pytest.approx(expected)
    expected = naive_accuracy([best(row, unseen) for row in scores], labels)
    assert czsl_accuracy(images, np.array(unseen))["acc"] == pytest.approx(expected)


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
