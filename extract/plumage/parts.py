"""A bird's parts: outlines as integer polygons in a body frame, placed by a pose, and the structure of feathers.

Textures take integer arrays of body-frame coordinates, in canvas pixels (half a saved pixel), and return how much
lighter or darker each pixel is than its part's colour: a fine grain tells parts apart, marks are coarser patterns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[int, int]
Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]

UNIT = 4096  # fixed point of sines and scales
SUBUNIT = 16  # outlines are cut in sixteenths of a canvas pixel
SIZE_SCALES = {"small": 3300, "medium": 3720, "large": 4140}  # of UNIT

# fmt: off
BODY = ((-122, 50), (-104, -34), (-44, -98), (40, -122), (116, -84), (136, 0), (108, 84), (24, 122), (-70, 110))
HEAD = ((16, -116), (34, -170), (88, -190), (138, -170), (158, -116), (138, -62), (88, -40), (34, -58))
BREAST = ((40, -150), (170, -150), (170, 96), (100, 62), (40, 24), (20, -60))
BACK = ((-160, 80), (-160, -160), (70, -160), (62, -66), (-20, -56), (-90, 20), (-128, 90))
WING = ((40, -16), (22, -60), (-26, -62), (-86, -2), (-132, 70), (-146, 128), (-84, 108), (-6, 66), (36, 22))
LEGS = (((16, 106), (10, 168)), ((56, 100), (54, 168)))
EYE: Point = (104, -128)
BILLS: dict[str, tuple[Point, ...]] = {
    "hooked": ((130, -160), (180, -158), (214, -122), (210, -58), (192, -70), (184, -96), (132, -76)),
    "cone": ((128, -164), (172, -150), (210, -106), (172, -80), (130, -64)),
    "dagger": ((132, -144), (180, -138), (226, -116), (226, -108), (180, -90), (134, -84)),
    "spatulate": ((132, -136), (172, -130), (206, -154), (222, -110), (206, -68), (172, -94), (134, -90)),
}
TAILS: dict[str, tuple[Point, ...]] = {
    "rounded": ((-70, 0), (-128, 60), (-180, 130), (-190, 190), (-140, 208), (-96, 176), (-40, 100)),
    "forked": ((-70, 0), (-136, 60), (-196, 140), (-192, 172), (-146, 152), (-124, 216), (-94, 204), (-40, 100)),
    "pointed": ((-70, 0), (-130, 60), (-172, 130), (-184, 222), (-164, 222), (-100, 176), (-40, 100)),
}
# fmt: on


@dataclass(frozen=True)
class Pose:
    """Where the bird stands on the canvas: centre, scale (of UNIT) and its turn as sine and cosine (of UNIT)."""

    x: int
    y: int
    scale: int
    sine: int
    cosine: int

    def place(self, points: Sequence[Point], fineness: int = 1) -> list[Point]:
        """Turn, scale and shift points given in 1/fineness of a canvas pixel."""
        divisor = UNIT * UNIT * fineness
        turned = [(x * self.cosine - y * self.sine, x * self.sine + y * self.cosine) for x, y in points]
        return [(self.x + u * self.scale // divisor, self.y + v * self.scale // divisor) for u, v in turned]


def make_pose(degrees: int, scale: int) -> Pose:
    """Make a pose around the origin."""
    turn = math.radians(degrees)
    return Pose(0, 0, scale, round(math.sin(turn) * UNIT), round(math.cos(turn) * UNIT))


def round_corners(points: Sequence[Point], rounds: int = 3) -> list[Point]:
    """Cut the corners of a closed polygon again and again (Chaikin), in whole SUBUNITs."""
    curve = [(x * SUBUNIT, y * SUBUNIT) for x, y in points]
    for _ in range(rounds):
        cut: list[Point] = []
        for (ax, ay), (bx, by) in zip(curve, curve[1:] + curve[:1], strict=True):
            cut += [((3 * ax + bx) // 4, (3 * ay + by) // 4), ((ax + 3 * bx) // 4, (ay + 3 * by) // 4)]
        curve = cut
    return curve


def shape_parts(bill: str, tail: str) -> dict[str, list[Point]]:
    """Give the outline of every part in SUBUNITs, in the order of painting (the last lies on top)."""
    outlines = {"tail": TAILS[tail], "body": BODY, "back": BACK, "breast": BREAST, "wing": WING}
    outlines |= {"bill": BILLS[bill], "head": HEAD}
    return {part: round_corners(points) for part, points in outlines.items()}


def measure_reach(u: np.ndarray, v: np.ndarray, width: int, height: int, middle: int) -> np.ndarray:
    """Square the distance to the mark of each cell; every second row of cells is shifted by half a cell."""
    shift = (width // 2) * ((v // height) & 1)
    dx, dy = (u + shift) % width - width // 2, v % height - middle
    return dx * dx + dy * dy


def grain_back(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Herringbone: slanted lines that turn at every band."""
    slant = np.where((v >> 4) & 1, u + v, u - v)
    return np.where(slant % 14 < 7, 26, -26)


def grain_belly(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Down: pale dashes across, shifted in every second column."""
    shift = 7 * ((u // 8) & 1)
    return np.where((u % 8 < 3) & ((v + shift) % 14 < 10), 46, -12)


def grain_wing(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Overlapping coverts: rows of scallops."""
    reach = measure_reach(u, v, width=18, height=12, middle=0)
    return np.where((reach > 70) & (reach < 130), -54, np.where(reach <= 70, 22, 6))


GRAINS: dict[str, Texture] = {
    # smooth horn with faint growth rings
    "bill": lambda u, v: np.where(u % 12 < 3, -40, 10),
    # short scaly feathers: a chequer
    "head": lambda u, v: np.where(((u >> 2) + (v >> 2)) & 1, 30, -30),
    "back": grain_back,
    # dark speckles in staggered rows
    "breast": lambda u, v: np.where(measure_reach(u, v, width=10, height=10, middle=5) < 9, -62, 12),
    "belly": grain_belly,
    "wing": grain_wing,
    # long vanes: fine lines along the tail, which points down and back
    "tail": lambda u, v: np.where((u + v) % 9 < 4, -34, 26),
}
MARKS: dict[str, Texture] = {  # 1 where the mark is: round spots, bars across the body's axis
    "spotted": lambda u, v: (measure_reach(u, v, width=30, height=30, middle=15) < 72).astype(u.dtype),
    "striped": lambda u, v: ((u - v) % 32 < 12).astype(u.dtype),
}
