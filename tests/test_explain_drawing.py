"""Attention maps over images, as pixels, and where the regions of a map lie."""

import numpy as np
import pytest
from torch import Tensor, nn

from msdn.app.explain.drawing import find_peak, overlay, place_cross, upsample
from msdn.extract.backbones.entry import Backbone, MapChoice, Plan, Preparation
from msdn.extract.backbones.places import Places, even_places, locate_regions
from msdn.extract.backbones.registry import find_backbone

RESNET = Places(0, 32)


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((140, 140, 3), 128, np.uint8)


def test_heat_lies_where_the_attention_is(grey: np.ndarray) -> None:
    attention = np.zeros((7, 7))
    attention[1, 5] = 1e-12  # attention over hundreds of attributes is tiny: its scale must not matter
    drawn = overlay(grey, attention).astype(int)
    assert drawn.shape == grey.shape
    redness = drawn[:, :, 0] - drawn[:, :, 2]
    row, column = np.unravel_index(redness.argmax(), redness.shape)
    assert (row // 20, column // 20) == (1, 5)
    assert redness[row, column] > 100  # red where it looks, blue where it does not
    assert redness[120, 20] < 0


def test_a_flat_map_is_one_colour(grey: np.ndarray) -> None:
    drawn = overlay(grey, np.full((3, 3), 1 / 9))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_what_is_below_stays_visible() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    drawn = overlay(pixels, np.ones((2, 2))).astype(int)
    assert (drawn[:, 20:].sum(axis=2) > drawn[:, :20].sum(axis=2).max()).all()


@pytest.mark.parametrize("places", [None, RESNET])
@pytest.mark.parametrize("cell", [(1, 1), (3, 2), (5, 4)])
def test_the_smooth_map_is_highest_at_the_region_that_is(
    cell: tuple[int, int], places: Places | None
) -> None:
    attention = np.random.default_rng(1).uniform(0, 0.1, (7, 7))
    attention[cell] = 1.0
    smooth = upsample(attention, 224, places)
    assert smooth.shape == (224, 224)
    middle = 0 if places else 16
    assert find_peak(attention, 224, places) in [
        (32 * cell[0] + m, 32 * cell[1] + m) for m in (middle, middle - 1)
    ]
    highest = np.unravel_index(smooth.argmax(), smooth.shape)
    assert np.abs(np.subtract(highest, find_peak(attention, 224, places))).max() <= 3


def test_regions_lie_where_strides_put_them() -> None:
    for name, places in (("resnet18", RESNET), ("vgg11", Places(15.5, 32)), ("vit_b_16", Places(7.5, 16))):
        backbone = find_backbone(name)
        assert locate_regions(Plan(backbone, backbone.preparation), 224 // int(places.step)) == places


def test_what_is_no_convolution_is_an_even_grid() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            return self.last(images.unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)))

    plan = Plan(Backbone(Patches, "last", Preparation(size=32), name="patches"), Preparation(size=32))
    assert locate_regions(plan, 4) == even_places(32, 4) == Places(3.5, 8)
    pooled = Plan(plan.backbone, plan.preparation, (MapChoice(pool="2x2"),))
    assert locate_regions(pooled, 2) == even_places(32, 2)


def test_a_map_need_not_be_square(grey: np.ndarray) -> None:
    attention = np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    smooth = upsample(attention, 140)
    row, column = np.unravel_index(smooth.argmax(), smooth.shape)
    assert row < 70 <= column < 105
    assert find_peak(attention, 140) == (34, 87)


def test_a_cross_at_the_edge_is_drawn_whole() -> None:
    assert place_cross((0, 100), 200) == (6, 100) and place_cross((199, 40), 200) == (194, 40)
