"""An attention map over its image, as pixels. Needs NumPy and Pillow alone."""

import numpy as np
from PIL import Image

_STOPS = np.array(  # from no heat to full heat: RGB, and how much of the image is covered, all of 255
    [(0, 0, 96, 90), (40, 80, 200, 70), (250, 210, 40, 130), (255, 110, 0, 170), (220, 0, 0, 190)], np.float64
)
_BRANCHES = {"av": "A→V", "va": "V→A"}


def overlay(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """The image [H, W, 3] uint8 with its attention [h, w] as heat over it, [H, W, 3] uint8.

    The highest attention of the image is red and the lowest dark blue; a map that is the same everywhere stays blue.
    """
    heat = scale_to_one(upsample(attention, (pixels.shape[0], pixels.shape[1])))
    places = np.linspace(0, 1, len(_STOPS))
    layers = np.stack([np.interp(heat, places, stop) for stop in _STOPS.T], axis=2)  # [H, W, 4]
    cover = layers[:, :, 3:] / 255
    return np.rint(pixels * (1 - cover) + layers[:, :, :3] * cover).astype(np.uint8)


def upsample(attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The map [h, w] at an image's height and width, bicubic; a cell's value is its centre's."""
    height, width = size
    small = Image.fromarray(
        np.ascontiguousarray(scale_to_one(attention), np.float32)
    )  # safe from tiny floats
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def find_peak(attention: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the pixel in the centre of the cell with the highest attention."""
    cell = np.unravel_index(int(attention.argmax()), attention.shape)
    row, column = (
        (2 * int(place) + 1) * side // (2 * cells)
        for place, side, cells in zip(cell, size, attention.shape, strict=True)
    )
    return row, column


def scale_to_one(values: np.ndarray) -> np.ndarray:
    """Values from 0, the lowest, to 1, the highest; all 0 where they are equal."""
    values = np.asarray(values, np.float64)
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def branch_title(branch: str) -> str:
    """A branch as papers write it."""
    return _BRANCHES.get(branch, branch)
