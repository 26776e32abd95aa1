"""An attention map over its image, as pixels. Needs NumPy and Pillow alone."""

import numpy as np
from PIL import Image

from msdn.extract.backbones.places import Places, even_places

_STOPS = np.array(  # from no heat to full heat: RGB, and how much of the image is covered, all of 255
    [(0, 0, 96, 90), (40, 80, 200, 70), (250, 210, 40, 130), (255, 110, 0, 170), (220, 0, 0, 190)], np.float64
)
_CROSS = 0.03  # half of a cross, as a share of the picture
_BRANCHES = {"av": "A→V", "va": "V→A"}


def overlay(pixels: np.ndarray, attention: np.ndarray, places: Places | None = None) -> np.ndarray:
    """The image [S, S, 3] uint8 with its attention [h, w] as heat over it, [S, S, 3] uint8.

    The highest attention of the image is red and the lowest dark blue; a map that is the same everywhere stays blue.

    Args:
        pixels: the image as prepared for the network.
        attention: how much each region is looked at.
        places: where the regions are, as `locate_regions` finds them; None means the middles of equal cells.
    """
    heat = scale_to_one(upsample(attention, len(pixels), places))
    at = np.linspace(0, 1, len(_STOPS))
    layers = np.stack([np.interp(heat, at, stop) for stop in _STOPS.T], axis=2)  # [S, S, 4]
    cover = layers[:, :, 3:] / 255
    return np.rint(pixels * (1 - cover) + layers[:, :, :3] * cover).astype(np.uint8)


def upsample(attention: np.ndarray, size: int, places: Places | None = None) -> np.ndarray:
    """The map [h, w], from 0 to 1, at an image's size: bicubic between the regions' centres, even beyond them."""
    margin = max(attention.shape)  # regions repeated at the edges: the image goes on beyond the outer centres
    small = np.pad(scale_to_one(attention), margin, mode="edge").astype(np.float32)
    starts, lengths = [], []  # of the image, counted in regions; columns first, as Pillow has it
    for side in _sides(attention, size, places)[::-1]:
        starts.append(margin + 0.5 - (side.first + 0.5) / side.step)
        lengths.append(size / side.step)
    box = (*starts, starts[0] + lengths[0], starts[1] + lengths[1])
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC, box))


def find_peak(attention: np.ndarray, size: int, places: Places | None = None) -> tuple[int, int]:
    """Row and column of the pixel where the region with the highest attention is centred."""
    cell = np.unravel_index(int(attention.argmax()), attention.shape)
    row, column = (
        int(side.centre(int(at))) for side, at in zip(_sides(attention, size, places), cell, strict=True)
    )
    return row, column


def place_cross(peak: tuple[int, int], size: int) -> tuple[int, ...]:
    """Where a peak's cross is drawn, row and column: one at the edge moves in, so that all of it is seen."""
    return tuple(int(np.clip(at, _CROSS * size, (1 - _CROSS) * size)) for at in peak)


def _sides(attention: np.ndarray, size: int, places: Places | None) -> list[Places]:
    """Where the regions are from the top, and from the left."""
    return [places or even_places(size, cells) for cells in attention.shape]


def scale_to_one(values: np.ndarray) -> np.ndarray:
    """Values from 0, the lowest, to 1, the highest; all 0 where they are equal."""
    values = np.asarray(values, np.float64)
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def branch_title(branch: str) -> str:
    """A branch as papers write it."""
    return _BRANCHES.get(branch, branch)
