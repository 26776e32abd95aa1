"""Every metric against loops that follow its definition, on random cases full of ties and missing classes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from naive_metrics import (
    Case,
    naive_acc,
    naive_area,
    naive_best,
    naive_flips,
    naive_gzsl,
    naive_margins,
    naive_mean,
    naive_per_class,
)

from msdn.train.measure.metrics import (
    Curve,
    ScoredImages,
    confusion_counts,
    czsl_accuracy,
    gzsl_accuracies,
    harmonic_mean,
    mean_class_accuracy,
    per_class_accuracies,
    seen_unseen_curve,
)

CLASSES = 6
few = settings(deadline=None, max_examples=80)
close = {"rel": 0, "abs": 1e-12}

ties = st.integers(0, 3).map(float)
spread = st.integers(-40, 40).map(lambda value: value / 16)
margins = st.integers(-30, 30).map(lambda value: Fraction(value, 8))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One to four classes a side in any order, some without images; one to ten images a side."""
    classes = draw(st.permutations(range(draw(st.integers(2, CLASSES)))))
    cut = draw(st.integers(max(1, len(classes) - 4), min(4, len(classes) - 1)))
    numbers = draw(st.sampled_from([ties, spread]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    sides = []
    for own in (classes[:cut], classes[cut:]):
        labels = draw(st.lists(st.sampled_from(own), min_size=1, max_size=10))
        sides += [draw(arrays(dtype, (len(labels), len(classes)), elements=numbers)), labels]
    return Case(classes[:cut], classes[cut:], *sides)


def images_of(case: Case) -> tuple[ScoredImages, ScoredImages, np.ndarray]:
    unseen = ScoredImages(case.unseen_scores, np.array(case.unseen_labels))
    seen = ScoredImages(case.seen_scores, np.array(case.seen_labels))
    return unseen, seen, np.array(case.seen)


def curve_of(case: Case) -> Curve:
    curve = seen_unseen_curve(*images_of(case))
    assert curve is not None
    return curve


pairs = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30)


@few
@given(pairs=pairs, dtype=st.sampled_from([np.int64, np.int32, np.uint8]))
def test_per_class_means_follow_a_loop(pairs: list[tuple[int, int]], dtype: type) -> None:
    labels, predicted = (list(column) for column in zip(*pairs, strict=True))
    ours = per_class_accuracies(np.array(predicted, dtype), np.array(labels, dtype), CLASSES)
    shares = naive_per_class(predicted, labels)
    assert ours == pytest.approx([float(shares.get(c, np.nan)) for c in range(CLASSES)], nan_ok=True)
    mean = mean_class_accuracy(np.array(predicted, dtype), np.array(labels, dtype))
    assert mean == pytest.approx(float(naive_mean(predicted, labels)), **close)


@few
@given(pairs=pairs)
def test_confusion_counts_every_pair(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = zip(*pairs, strict=True)
    ours = confusion_counts(np.array(predicted), np.array(labels))
    assert ours == [(true, guess, pairs.count((true, guess))) for true, guess in sorted(set(pairs))]


@few
@given(case=cases(), margin=margins)
def test_accuracies_follow_a_loop(case: Case, margin: Fraction) -> None:
    unseen, seen, seen_classes = images_of(case)
    u, s, h = naive_gzsl(case, margin)
    figures = gzsl_accuracies(unseen, seen, seen_classes, float(margin))
    assert figures == pytest.approx({"U": float(u), "S": float(s), "H": float(h)}, **close)
    acc = czsl_accuracy(unseen, np.array(sorted(case.unseen)))["acc"]
    assert acc == pytest.approx(float(naive_acc(case)), **close)


@few
@given(case=cases())
def test_curve_points_follow_a_loop(case: Case) -> None:
    curve = curve_of(case)
    expected = naive_margins(case)
    assert curve.margins.tolist() == [float(margin) for margin in expected]
    points = [naive_gzsl(case, margin) for margin in expected]
    assert curve.u == pytest.approx([float(u) for u, _, _ in points], **close)
    assert curve.s == pytest.approx([float(s) for _, s, _ in points], **close)


@few
@given(case=cases())
def test_area_and_best_margin_follow_a_loop(case: Case) -> None:
    curve = curve_of(case)
    assert curve.area() == pytest.approx(float(naive_area(case)), **close)
    margin, h = curve.best()
    expected_margin, expected_h = naive_best(case)
    assert margin == float(expected_margin)
    assert h == pytest.approx(float(expected_h), **close)


@few
@given(case=cases(), margin=margins)
def test_any_margin_that_is_no_flip_is_a_point_of_the_curve(case: Case, margin: Fraction) -> None:
    flips = naive_flips(case)
    assume(margin not in flips)
    curve = curve_of(case)
    place = sum(flip < margin for flip in flips)
    figures = gzsl_accuracies(*images_of(case), float(margin))
    assert [figures["U"], figures["S"]] == pytest.approx([curve.u[place], curve.s[place]], **close)


@few
@given(case=cases())
def test_accuracies_at_the_margins_of_the_curve_are_its_points(case: Case) -> None:
    curve = curve_of(case)
    for margin, u, s in zip(curve.margins, curve.u, curve.s, strict=True):
        expected = {"U": u, "S": s, "H": harmonic_mean(u, s)}
        assert gzsl_accuracies(*images_of(case), float(margin)) == pytest.approx(expected, **close)


@few
@given(case=cases())
def test_curve_is_monotone_between_its_ends(case: Case) -> None:
    curve = curve_of(case)
    assert (np.diff(curve.margins) > 0).all()
    assert (np.diff(curve.u) >= 0).all()
    assert (np.diff(curve.s) <= 0).all()
    assert curve.u[0] == 0 == curve.s[-1]
    assert curve.u[-1] == pytest.approx(float(naive_acc(case)), **close)
    assert -1e-12 <= curve.area() <= curve.u[-1] * curve.s[0] + 1e-12


@few
@given(case=cases(), constant=spread)
def test_a_constant_on_all_unseen_classes_shifts_the_curve(case: Case, constant: float) -> None:
    moved = case._replace(seen_scores=case.seen_scores.copy(), unseen_scores=case.unseen_scores.copy())
    moved.seen_scores[:, case.unseen] += constant
    moved.unseen_scores[:, case.unseen] += constant
    before, after = curve_of(case), curve_of(moved)
    assert after.area() == before.area()
    flips = [flip - Fraction(constant) / 2 for flip in naive_flips(case)]
    assert naive_flips(moved) == flips
    assert after.margins.tolist() == (before.margins - constant / 2).tolist()


@few
@given(case=cases(), height=st.integers(41, 60))
def test_perfect_scores_fill_the_square(case: Case, height: int) -> None:
    for scores, labels in (
        (case.seen_scores, case.seen_labels),
        (case.unseen_scores, case.unseen_labels),
    ):
        scores[np.arange(len(labels)), labels] = height
    curve = curve_of(case)
    assert curve.area() == pytest.approx(1, **close)
    assert curve.best()[1] == pytest.approx(1, **close)


@few
@given(case=cases(), all_seen=st.booleans())
def test_with_all_classes_on_one_side_nothing_flips(case: Case, all_seen: bool) -> None:
    unseen, seen, _ = images_of(case)
    seen_classes = np.arange(unseen.scores.shape[1] if all_seen else 0)
    curve = seen_unseen_curve(unseen, seen, seen_classes)
    assert curve is not None
    assert curve.margins.tolist() == [0]
    figures = gzsl_accuracies(unseen, seen, seen_classes, 0.0)
    assert [figures["U"], figures["S"]] == pytest.approx([curve.u[0], curve.s[0]], **close)
    assert curve.area() == 0
    assert curve.best() == pytest.approx((0, figures["H"]), **close)


@few
@given(case=cases(), seen_out=st.booleans())
def test_minus_infinity_keeps_a_side_out(case: Case, seen_out: bool) -> None:
    columns = case.seen if seen_out else case.unseen
    case.seen_scores[:, columns] = -np.inf
    case.unseen_scores[:, columns] = -np.inf
    curve = curve_of(case)
    figures = gzsl_accuracies(*images_of(case), 0.5)
    assert [figures["U"], figures["S"]] == pytest.approx([curve.u[0], curve.s[0]], **close)
    assert (len(curve.margins), curve.area()) == (1, 0)


@few
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.float32, np.float64]))
def test_rounded_scores_agree_at_every_margin_of_the_curve(seed: int, dtype: type) -> None:
    """Tenths are no exact binary numbers: equal gaps come out a last digit apart, and are still one flip."""
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, 9, (12, 4)) / 10).astype(dtype)
    unseen = ScoredImages(scores[:6], rng.integers(2, 4, 6))
    seen = ScoredImages(scores[6:], rng.integers(0, 2, 6))
    curve = seen_unseen_curve(unseen, seen, np.array([0, 1]))
    assert curve is not None
    for margin, u, s in zip(curve.margins, curve.u, curve.s, strict=True):
        figures = gzsl_accuracies(unseen, seen, np.array([0, 1]), float(margin))
        assert [figures["U"], figures["S"]] == pytest.approx([u, s], **close)
