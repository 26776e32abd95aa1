"""What the samplers draw, and that their state repeats it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdn.train.loop.batches import SAMPLERS, BalancedSampler, RandomSampler


def make_rows(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows 100, 101, … with `counts[c]` images of class `3 c`."""
    labels = np.repeat(3 * np.arange(len(counts)), counts)
    return 100 + np.arange(len(labels)), labels


@given(
    counts=st.lists(st.integers(1, 8), min_size=1, max_size=8),
    batch=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_random_draws_distinct_images(counts: list[int], batch: int, seed: int) -> None:
    rows, labels = make_rows(counts)
    drawn = RandomSampler(rows, labels, batch, seed).draw()
    assert len(drawn) == min(batch, len(rows)) == len(set(drawn))
    assert set(drawn) <= set(rows)


@given(
    counts=st.lists(st.integers(1, 8), min_size=1, max_size=8),
    batch=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_balanced_draws_equally_many_of_each_class(counts: list[int], batch: int, seed: int) -> None:
    rows, labels = make_rows(counts)
    drawn = BalancedSampler(rows, labels, batch, seed).draw()
    found, images = np.unique(labels[drawn - 100], return_counts=True)
    assert len(found) == min(len(counts), batch)
    assert set(images) == {max(batch // len(counts), 1)}


def test_random_is_fresh_at_every_step_not_a_permutation() -> None:
    rows, labels = make_rows([10])
    sampler = RandomSampler(rows, labels, 5, 0)
    halves = [set(sampler.draw()) for _ in range(20)]
    assert any(first & second for first, second in zip(halves[::2], halves[1::2], strict=True))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_image_comes_up(kind: str) -> None:
    rows, labels = make_rows([3, 20, 1])
    sampler = SAMPLERS[kind](rows, labels, 6, 0)
    assert set(np.concatenate([sampler.draw() for _ in range(300)])) == set(rows)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_state_repeats_what_followed(kind: str) -> None:
    rows, labels = make_rows([4, 5, 6])
    sampler = SAMPLERS[kind](rows, labels, 4, seed=3)
    sampler.draw()
    state = sampler.state
    expected = [sampler.draw() for _ in range(5)]
    other = SAMPLERS[kind](rows, labels, 4, seed=9)
    other.state = state
    np.testing.assert_array_equal([other.draw() for _ in range(5)], expected)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_seeds_differ(kind: str) -> None:
    rows, labels = make_rows([40, 50])
    first, second = (SAMPLERS[kind](rows, labels, 20, seed).draw() for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("images", "epochs", "steps"), [(7057, 30, 4234), (10320, 70, 14448), (50, 3, 3), (149, 2, 5), (7, 3, 3)]
)
def test_all_epochs_together_have_the_published_number_of_steps(images: int, epochs: int, steps: int) -> None:
    rows, labels = make_rows([images])
    sampler = RandomSampler(rows, labels, 50, 0)
    of_epochs = [sampler.steps_in(epoch) for epoch in range(1, epochs + 1)]
    assert sum(of_epochs) == steps  # images * epochs // 50, and one a epoch where there is no whole batch
    assert max(of_epochs) - min(of_epochs) <= 1
