"""t-SNE against its definition: similarities, gradient, and clusters that stay apart."""

import numpy as np
import pytest

from msdn.app.report.tsne import divergence, embed, principal_components, similarities, squared_distances


@pytest.fixture
def points() -> np.ndarray:
    return np.random.RandomState(0).standard_normal((25, 6))


def naive_divergence(similar: np.ndarray, places: np.ndarray) -> float:
    """`Σ_i≠j p_ij log(p_ij / q_ij)`, one pair at a time."""
    count = len(places)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    closeness = {pair: 1 / (1 + ((places[pair[0]] - places[pair[1]]) ** 2).sum()) for pair in pairs}
    total = sum(closeness.values())
    return sum(similar[p] * np.log(similar[p] / (closeness[p] / total)) for p in pairs)


def test_similarities_have_the_perplexity(points: np.ndarray) -> None:
    perplexity = 7.0
    found = similarities(points, perplexity)
    assert found == pytest.approx(found.T) and found.sum() == pytest.approx(1)
    distances = squared_distances(points)
    naive = [[((a - b) ** 2).sum() for b in points] for a in points]
    assert distances == pytest.approx(np.array(naive), abs=1e-9)
    rebuilt = np.zeros_like(found)
    for n, row in enumerate(distances):
        others = np.delete(row, n)
        best = min(
            np.geomspace(1e-3, 10, 20_001),
            key=lambda beta: abs(entropy(np.exp(-others * beta)) - np.log(perplexity)),
        )
        weights = np.exp(-others * best)
        rebuilt[n] = np.insert(weights / weights.sum(), n, 0)
    assert found == pytest.approx((rebuilt + rebuilt.T) / (2 * len(points)), rel=1e-2, abs=1e-6)


def entropy(weights: np.ndarray) -> float:
    shares = weights / weights.sum()
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum())


def test_the_divergence_and_its_gradient_follow_the_definition(points: np.ndarray) -> None:
    similar = similarities(points, 5.0)
    places = np.random.RandomState(1).standard_normal((25, 2))
    value, gradient = divergence(similar, places)
    assert value == pytest.approx(naive_divergence(similar, places))
    for n, axis in ((0, 0), (7, 1), (24, 0)):
        step = np.zeros_like(places)
        step[n, axis] = 1e-5
        slope = (naive_divergence(similar, places + step) - naive_divergence(similar, places - step)) / 2e-5
        assert gradient[n, axis] == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_the_divergence_falls(points: np.ndarray) -> None:
    similar = similarities(principal_components(points, 30), 8.0)
    values = [divergence(similar, embed(points, steps))[0] for steps in (1, 300, 600)]
    assert values[0] > values[1] > values[2] - 1e-6


def test_clusters_stay_apart() -> None:
    rng = np.random.RandomState(2)
    centres = 12 * rng.standard_normal((5, 40))
    labels = np.repeat(np.arange(5), 20)
    places = embed(centres[labels] + rng.standard_normal((100, 40)))
    distances = squared_distances(places)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    middles = np.stack([places[labels == c].mean(axis=0) for c in range(5)])
    own = np.sqrt(((places - middles[labels]) ** 2).sum(axis=1))
    others = np.sqrt(squared_distances(middles)[~np.eye(5, dtype=bool)])
    assert others.min() > 2 * own.max()


def test_it_is_the_same_at_every_call_and_takes_what_is_small_or_alike() -> None:
    points = np.random.RandomState(3).standard_normal((12, 4))
    assert np.array_equal(embed(points, 50), embed(points, 50))
    for few in (np.zeros((1, 3)), np.ones((3, 5)), np.ones((10, 1)), np.repeat(points[:2], 6, axis=0)):
        assert np.isfinite(embed(few, 60)).all() and embed(few, 60).shape == (len(few), 2)
