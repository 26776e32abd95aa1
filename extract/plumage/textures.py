"""Feather structure: the fine grain that tells parts apart, and coarser patterns, as shade offsets per pixel.

All functions take integer arrays of body-frame coordinates, in canvas pixels (half a saved pixel), and
return how much lighter or darker each pixel is than its part's colour.
"""

from collections.abc import Callable

import numpy as np

Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]


def grain_bill(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth horn with faint growth rings."""
    return np.where(u % 12 < 3, -40, 10)


def grain_head(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Short scaly feathers: a chequer."""
    return np.where(((u >> 2) + (v >> 2)) & 1, 30, -30)


def grain_back(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Herringbone: slanted lines that turn at every band."""
    slant = np.where((v >> 4) & 1, u + v, u - v)
    return np.where(slant % 14 < 7, 26, -26)


def grain_breast(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Dark speckles in staggered rows."""
    row = v // 10
    dx, dy = (u + 5 * (row & 1)) % 10 - 5, v % 10 - 5
    return np.where(dx * dx + dy * dy < 9, -62, 12)


def grain_belly(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Down: pale dashes across."""
    column = u // 8
    return np.where((u % 8 < 3) & ((v + 7 * (column & 1)) % 14 < 10), 46, -12)


def grain_wing(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Overlapping coverts: rows of scallops."""
    row = v // 12
    dx, dy = (u + 9 * (row & 1)) % 18 - 9, v % 12
    reach = dx * dx + dy * dy
    return np.where((reach > 70) & (reach < 130), -54, np.where(reach <= 70, 22, 6))


def grain_tail(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Long vanes: fine lines along the tail, which points down and back."""
    return np.where((u + v) % 9 < 4, -34, 26)


GRAINS: dict[str, Texture] = {
    "bill": grain_bill,
    "head": grain_head,
    "back": grain_back,
    "breast": grain_breast,
    "belly": grain_belly,
    "wing": grain_wing,
    "tail": grain_tail,
}


def pattern_spots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Mark round spots."""
    row = v // 30
    dx, dy = (u + 15 * (row & 1)) % 30 - 15, v % 30 - 15
    return (dx * dx + dy * dy < 72).astype(u.dtype)


def pattern_stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Mark bars across the body's axis."""
    return ((u - v) % 32 < 12).astype(u.dtype)


MARKS: dict[str, Texture] = {"spotted": pattern_spots, "striped": pattern_stripes}
