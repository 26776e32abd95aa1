"""t-SNE (van der Maaten and Hinton, 2008), exact: N points on a plane so that neighbours stay neighbours.

For some hundreds of points: every step looks at all pairs. Seeded by the points themselves: it starts from their PCA.
"""

import numpy as np

PERPLEXITY = 30.0  # how many neighbours a point has, roughly
STEPS = 600
_EXAGGERATED = 150  # first steps, in which neighbours pull this many times as strongly
_EXAGGERATION = 12.0
_KEPT = 30  # principal components
_SEARCHES = 60
_SMALLEST = 1e-12


def embed(points: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Places [N, 2] of points [N, D], the same at every call."""
    reduced = principal_components(points, _KEPT)
    count = len(reduced)
    if count < 4:
        return _start(reduced)
    similar = similarities(reduced, min(PERPLEXITY, (count - 1) / 3))
    places, speed, gains = _start(reduced), np.zeros((count, 2)), np.ones((count, 2))
    rate = max(count / _EXAGGERATION / 4, 50.0)
    for step in range(steps):
        early = step < _EXAGGERATED
        _, gradient = divergence(similar * (_EXAGGERATION if early else 1.0), places)
        gains = np.where(np.sign(gradient) == np.sign(speed), gains * 0.8, gains + 0.2).clip(0.01)
        speed = (0.5 if early else 0.8) * speed - rate * gains * gradient
        places = places + speed
        places -= places.mean(axis=0)
    return places


def principal_components(points: np.ndarray, most: int) -> np.ndarray:
    """The points [N, D] on their first axes of variation [N, at most `most`], each axis with a fixed sign."""
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return (left * sizes * signs)[:, :most]


def similarities(points: np.ndarray, perplexity: float) -> np.ndarray:
    """`p_ij` [N, N], symmetric and summing to one: each point's neighbours have the perplexity asked for."""
    distances = squared_distances(points)
    rows = np.stack([_neighbours(distances, n, np.log(perplexity)) for n in range(len(points))])
    return np.maximum((rows + rows.T) / (2 * len(points)), _SMALLEST)


def divergence(similar: np.ndarray, places: np.ndarray) -> tuple[float, np.ndarray]:
    """`KL(P || Q)` of the places [N, 2], Q by Student's t with one degree of freedom, and its gradient [N, 2]."""
    closeness = 1 / (1 + squared_distances(places))  # [N, N]
    np.fill_diagonal(closeness, 0.0)
    q = np.maximum(closeness / closeness.sum(), _SMALLEST)
    pulls = (similar - q) * closeness
    gradient = 4 * (pulls.sum(axis=1)[:, None] * places - pulls @ places)
    off = ~np.eye(len(places), dtype=bool)
    return float((similar[off] * np.log(similar[off] / q[off])).sum()), gradient


def squared_distances(points: np.ndarray) -> np.ndarray:
    """`||x_i − x_j||²` [N, N]."""
    norms = (points**2).sum(axis=1)
    return np.maximum(norms[:, None] + norms[None, :] - 2 * points @ points.T, 0.0)


def _start(reduced: np.ndarray) -> np.ndarray:
    places = np.zeros((len(reduced), 2))
    width = min(2, reduced.shape[1])
    places[:, :width] = reduced[:, :width]
    return places * 1e-4 / max(places[:, 0].std(), _SMALLEST)


def _neighbours(distances: np.ndarray, own: int, entropy: float) -> np.ndarray:
    """`p_j|i` [N] of one point: the width of its Gaussian is searched by halving."""
    others = np.delete(distances[own], own)
    others = others - others.min()
    low, high, precision = 0.0, np.inf, 1 / max(others.mean(), _SMALLEST)
    for _ in range(_SEARCHES):
        weights = np.exp(-others * precision)
        shares = weights / weights.sum()
        found = float(-(shares * np.log(np.maximum(shares, _SMALLEST))).sum())
        if found > entropy:
            low, precision = precision, precision * 2 if high == np.inf else (precision + high) / 2
        else:
            high, precision = precision, (low + precision) / 2
    return np.insert(shares, own, 0.0)
