"""Every loss term against a plain loop over its equation, and its gradient against differences."""

from collections.abc import Callable
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from msdn.train.models.parts.classes import ClassSpace, class_margins, normalize_attributes
from msdn.train.models.parts.losses import (
    calibration_paper,
    calibration_released,
    cross_entropy_paper,
    cross_entropy_released,
    distillation_paper,
    distillation_released,
    jensen_shannon,
    shifted_cross_entropy,
    symmetric_kl,
    weighted_distance,
)

B, C = 5, 7
SEEN, UNSEEN = [0, 2, 3, 6], [1, 4, 5]
LABELS = [0, 6, 3, 2, 2]


@pytest.fixture
def classes() -> ClassSpace:
    return ClassSpace(torch.eye(C, dtype=torch.float64), np.array(SEEN), np.array(UNSEEN), margin=1.0)


def random_scores(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(B, C, generator=generator, dtype=torch.float64)).requires_grad_()


def number(loss: Tensor) -> float:
    return float(loss.detach())


def softmax(scores: list[float], among: list[int]) -> dict[int, float]:
    total = sum(exp(scores[c]) for c in among)
    return {c: exp(scores[c]) / total for c in among}


def with_margin(scores: list[float]) -> list[float]:
    return [score + (-1 if c in SEEN else 1) for c, score in enumerate(scores)]


def kl(p: dict[int, float], q: dict[int, float]) -> float:
    return sum(p[c] * log(p[c] / q[c]) for c in p)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def naive_distance(d: list[float], epsilon: float = 0.0) -> float:
    return sum(abs(x) ** 3 for x in d) / sqrt(sum(x * x for x in d) + epsilon)


def naive_jensen_shannon(s: list[float], t: list[float]) -> float:
    p, q = softmax(s, list(range(C))), softmax(t, list(range(C)))
    middle = {c: (p[c] + q[c]) / 2 for c in p}
    return 0.5 * (kl(p, middle) + kl(q, middle))


def naive_symmetric_kl(s: list[float], t: list[float]) -> float:
    p, q = softmax(s, SEEN), softmax(t, SEEN)
    return 0.5 * (kl(p, q) + kl(q, p))


def of_pairs(naive: Callable, first: Tensor, second: Tensor) -> float:
    """The batch mean of what a naive loop gives for each pair of score lists."""
    return mean([naive(s, t) for s, t in zip(first.tolist(), second.tolist(), strict=True)])


@pytest.mark.parametrize(
    ("loss", "among"), [(cross_entropy_released, list(range(C))), (cross_entropy_paper, SEEN)]
)
def test_cross_entropy_follows_its_equation(loss: Callable, among: list[int], classes: ClassSpace) -> None:
    scores = random_scores(0)
    expected = mean([-log(softmax(s, among)[y]) for s, y in zip(scores.tolist(), LABELS, strict=True)])
    assert number(loss(scores, torch.tensor(LABELS), classes)) == pytest.approx(expected, abs=1e-12)


def test_released_calibration_takes_the_log_of_the_batch_mean(classes: ClassSpace) -> None:
    scores = random_scores(1)
    shares = [sum(softmax(with_margin(s), list(range(C)))[c] for c in UNSEEN) for s in scores.tolist()]
    expected = -log(mean(shares))
    assert number(calibration_released(scores, classes)) == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(mean([-log(share) for share in shares]))


def test_paper_calibration_pushes_towards_unseen_classes(classes: ClassSpace) -> None:
    scores = random_scores(2)
    expected = mean(
        [-sum(log(softmax(with_margin(s), list(range(C)))[c]) for c in UNSEEN) for s in scores.tolist()]
    )
    loss = calibration_paper(scores, classes)
    assert number(loss) == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert (gradient[:, SEEN] > 0).all()  # descending lowers seen classes' scores


def minus(s: list[float], t: list[float]) -> list[float]:
    return [a - b for a, b in zip(s, t, strict=True)]


# Each distillation's two parts, for one pair of score lists.
NAIVE_PARTS: dict[Callable, dict[str, Callable]] = {
    distillation_released: {
        "divergence": lambda s, t: naive_jensen_shannon(with_margin(s), with_margin(t)),
        "distance": lambda s, t: naive_distance(minus(s, t)),
    },
    distillation_paper: {
        "divergence": naive_symmetric_kl,
        "distance": lambda s, t: sum(x * x for x in minus(s, t)),
    },
}


@pytest.mark.parametrize("loss", NAIVE_PARTS)
def test_distillations_are_the_sum_of_their_parts(loss: Callable, classes: ClassSpace) -> None:
    first, second = random_scores(3), random_scores(4)
    expected = {part: of_pairs(naive, first, second) for part, naive in NAIVE_PARTS[loss].items()}
    for part, value in expected.items():
        assert number(loss(first, second, classes, part)) == pytest.approx(value, abs=1e-12)
    assert number(loss(first, second, classes)) == pytest.approx(sum(expected.values()), abs=1e-12)


def test_divergences_follow_their_equations(classes: ClassSpace) -> None:
    first, second = random_scores(5), random_scores(6)
    expected = of_pairs(naive_jensen_shannon, first, second)
    assert number(jensen_shannon(first, second)) == pytest.approx(expected, abs=1e-12)
    assert number(jensen_shannon(second, first)) == pytest.approx(expected, abs=1e-12)
    expected = of_pairs(naive_symmetric_kl, first, second)
    assert number(symmetric_kl(first, second, classes)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 0.5])
def test_weighted_distance_follows_its_equation(epsilon: float) -> None:
    first, second = random_scores(7), random_scores(8)
    expected = of_pairs(lambda s, t: naive_distance(minus(s, t), epsilon), first, second)
    assert number(weighted_distance(first, second, epsilon)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("shift", [0.0, 2.0, 3.0])
def test_shifted_cross_entropy_follows_its_equation(shift: float, classes: ClassSpace) -> None:
    scores, terms = random_scores(9), []
    for s, y in zip(scores.tolist(), LABELS, strict=True):
        shifted = [x + (c in SEEN) - shift * (c == y) for c, x in enumerate(s)]
        terms.append(-log(softmax(shifted, list(range(C)))[y]))
    loss = shifted_cross_entropy(scores, torch.tensor(LABELS), classes, shift)
    assert number(loss) == pytest.approx(mean(terms), abs=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy_released, cross_entropy_paper])
def test_gradients_of_cross_entropies(loss: Callable, classes: ClassSpace) -> None:
    assert torch.autograd.gradcheck(lambda s: loss(s, torch.tensor(LABELS), classes), random_scores(0))


@pytest.mark.parametrize("loss", [calibration_released, calibration_paper])
def test_gradients_of_calibrations(loss: Callable, classes: ClassSpace) -> None:
    assert torch.autograd.gradcheck(lambda s: loss(s, classes), random_scores(1))


@pytest.mark.parametrize("loss", [distillation_released, distillation_paper])
@pytest.mark.parametrize("parts", ["both", "divergence", "distance"])
def test_gradients_of_distillations(loss: Callable, parts: str, classes: ClassSpace) -> None:
    first, second = random_scores(2), random_scores(3)
    assert torch.autograd.gradcheck(lambda s, t: loss(s, t, classes, parts), (first, second))


def test_gradients_of_divergences_and_distances(classes: ClassSpace) -> None:
    scores = random_scores(2), random_scores(3)
    assert torch.autograd.gradcheck(jensen_shannon, scores)
    assert torch.autograd.gradcheck(lambda s, t: symmetric_kl(s, t, classes), scores)
    for epsilon in (0.0, 1e-9, 0.5):
        assert torch.autograd.gradcheck(lambda s, t, e=epsilon: weighted_distance(s, t, e), scores)


def test_gradients_of_the_shifted_cross_entropy(classes: ClassSpace) -> None:
    labels = torch.tensor(LABELS)
    assert torch.autograd.gradcheck(
        lambda s: shifted_cross_entropy(s, labels, classes, 2.0), random_scores(1)
    )


def test_weighted_distance_of_equal_scores_with_epsilon_is_zero_with_zero_gradient() -> None:
    first = torch.ones(2, 3, requires_grad=True)
    loss = weighted_distance(first, torch.ones(2, 3), 1e-9)
    loss.backward()
    assert number(loss) == 0 and first.grad is not None and not first.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20, 1e-19, 1e-10])
def test_weighted_distance_of_equal_scores_has_no_nan(size: float, dtype: torch.dtype) -> None:
    first = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    second = first.detach() + torch.tensor([[0.0, 0.0], [size, 0.0]], dtype=dtype)
    loss = weighted_distance(first, second)
    loss.backward()
    assert number(loss) == pytest.approx(size**2 / 2, rel=1e-4, abs=1e-37)
    assert torch.isfinite(first.grad).all()  # type: ignore[arg-type]
    assert float(first.grad[1, 0]) == pytest.approx(-size, rel=1e-3, abs=1e-18)  # type: ignore[index]


def test_distillation_of_equal_scores_is_zero_with_zero_gradient(classes: ClassSpace) -> None:
    first = random_scores(0)
    loss = distillation_released(first, first.detach().clone(), classes)
    (gradient,) = torch.autograd.grad(loss, first)
    assert number(loss) == pytest.approx(0, abs=1e-15)
    assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-15)


def test_class_attributes_have_unit_length_and_may_be_missing() -> None:
    raw = np.array([[3.0, -4.0], [3.0, 4.0], [0.0, 0.0]])
    assert normalize_attributes(raw) == pytest.approx(np.array([[0.6, -0.8], [0.6, 0.8], [0.0, 0.0]]))
    missing = normalize_attributes(raw, negative="missing")
    assert missing == pytest.approx(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]]))


def test_margin_is_negative_on_seen_classes_only() -> None:
    assert class_margins(torch.tensor([True, False]), 0.7).tolist() == [-0.7, 0.7]
