"""Attention maps over images, as pixels."""

import numpy as np
import pytest

from msdn.app.explain.drawing import find_peak, overlay, upsample


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((70, 140, 3), 128, np.uint8)


def test_heat_lies_where_the_attention_is(grey: np.ndarray) -> None:
    attention = np.zeros((7, 7))
    attention[1, 5] = 1e-12  # attention over hundreds of attributes is tiny: its scale must not matter
    drawn = overlay(grey, attention).astype(int)
    assert drawn.shape == grey.shape
    redness = drawn[:, :, 0] - drawn[:, :, 2]
    row, column = np.unravel_index(redness.argmax(), redness.shape)
    assert (row // 10, column // 20) == (1, 5)
    assert redness[row, column] > 100  # red where it looks, blue where it does not
    assert redness[60, 20] < 0


def test_a_flat_map_is_one_colour(grey: np.ndarray) -> None:
    drawn = overlay(grey, np.full((3, 4), 1 / 12))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_what_is_below_stays_visible() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    drawn = overlay(pixels, np.ones((2, 2))).astype(int)
    assert (drawn[:, 20:].sum(axis=2) > drawn[:, :20].sum(axis=2).max()).all()


def test_upsampled_maps_keep_their_places() -> None:
    attention = np.array([[0.0, 1.0], [2.0, 5.0]])
    smooth = upsample(attention, (20, 40))
    assert smooth.shape == (20, 40)
    order = [smooth[5, 10], smooth[5, 30], smooth[15, 10], smooth[15, 30]]
    assert order == sorted(order)


@pytest.mark.parametrize("cell", [(0, 0), (3, 2), (6, 6)])
def test_the_peak_is_the_centre_of_the_highest_cell(cell: tuple[int, int]) -> None:
    attention = np.random.default_rng(1).uniform(0, 0.1, (7, 7))
    attention[cell] = 1.0
    row, column = find_peak(attention, (224, 224))
    assert (row, column) == (32 * cell[0] + 16, 32 * cell[1] + 16)
