"""Metrics of the protocol as loops over images and classes, in exact fractions."""

from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """Exact scores (dyadic numbers) and labels of the test images of both sides."""

    seen: list[int]
    unseen: list[int]
    seen_scores: np.ndarray
    seen_labels: list[int]
    unseen_scores: np.ndarray
    unseen_labels: list[int]


def naive_per_class(predicted: list[int], labels: list[int]) -> dict[int, Fraction]:
    shares = {}
    for label in sorted(set(labels)):
        hits = [p == y for p, y in zip(predicted, labels, strict=True) if y == label]
        shares[label] = Fraction(sum(hits), len(hits))
    return shares


def naive_mean(predicted: list[int], labels: list[int]) -> Fraction:
    shares = naive_per_class(predicted, labels)
    return sum(shares.values(), Fraction(0)) / len(shares)


def naive_predict(row: np.ndarray, among: list[int], seen: list[int], margin: Fraction) -> int:
    best, best_score = -1, Fraction(0)
    for c in sorted(among):
        score = Fraction(float(row[c])) + (-margin if c in seen else margin)
        if best == -1 or score > best_score:
            best, best_score = c, score
    return best


def naive_harmonic(u: Fraction, s: Fraction) -> Fraction:
    return 2 * u * s / (u + s) if u + s else Fraction(0)


def naive_gzsl(case: Case, margin: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    everything = case.seen + case.unseen
    u, s = (
        naive_mean([naive_predict(row, everything, case.seen, margin) for row in scores], labels)
        for scores, labels in (
            (case.unseen_scores, case.unseen_labels),
            (case.seen_scores, case.seen_labels),
        )
    )
    return u, s, naive_harmonic(u, s)


def naive_acc(case: Case) -> Fraction:
    no_margin = Fraction(0)
    predicted = [naive_predict(row, case.unseen, case.seen, no_margin) for row in case.unseen_scores]
    return naive_mean(predicted, case.unseen_labels)


def naive_flips(case: Case) -> list[Fraction]:
    flips = set()
    for row in [*case.unseen_scores, *case.seen_scores]:
        best_seen = max(Fraction(float(row[c])) for c in case.seen)
        best_unseen = max(Fraction(float(row[c])) for c in case.unseen)
        flips.add((best_seen - best_unseen) / 2)
    return sorted(flips)


def naive_margins(case: Case) -> list[Fraction]:
    flips = naive_flips(case)
    middles = [(low + high) / 2 for low, high in pairwise(flips)]
    return [flips[0] - 1, *middles, flips[-1] + 1]


def naive_area(case: Case) -> Fraction:
    points = [naive_gzsl(case, margin) for margin in naive_margins(case)]
    area = Fraction(0)
    for (u, s, _), (next_u, next_s, _) in pairwise(points):
        area += (next_u - u) * (s + next_s) / 2
    return area


def naive_best(case: Case) -> tuple[Fraction, Fraction]:
    best = None
    for margin in naive_margins(case):
        h = naive_gzsl(case, margin)[2]
        key = (-h, abs(margin), margin)
        if best is None or key < best:
            best = key
    assert best is not None
    return best[2], -best[0]
