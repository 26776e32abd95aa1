"""The outlines of a bird's parts: integer polygons in a body frame, placed on the canvas by pose and scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[int, int]

UNIT = 4096  # fixed point of sines and scales
SUBUNIT = 16  # outlines are cut in sixteenths of a canvas pixel
SIZE_SCALES = {"small": 3300, "medium": 3720, "large": 4140}  # of UNIT

BODY = (
    (-122, 50),
    (-104, -34),
    (-44, -98),
    (40, -122),
    (116, -84),
    (136, 0),
    (108, 84),
    (24, 122),
    (-70, 110),
)
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
    "forked": (
        (-70, 0),
        (-136, 60),
        (-196, 140),
        (-192, 172),
        (-146, 152),
        (-124, 216),
        (-94, 204),
        (-40, 100),
    ),
    "pointed": ((-70, 0), (-130, 60), (-172, 130), (-184, 222), (-164, 222), (-100, 176), (-40, 100)),
}


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
        return [
            (
                self.x + (x * self.cosine - y * self.sine) * self.scale // divisor,
                self.y + (x * self.sine + y * self.cosine) * self.scale // divisor,
            )
            for x, y in points
        ]


def make_pose(degrees: int, scale: int) -> Pose:
    """Make a pose around the origin."""
    turn = math.radians(degrees)
    return Pose(0, 0, scale, round(math.sin(turn) * UNIT), round(math.cos(turn) * UNIT))


def round_corners(points: Sequence[Point], rounds: int = 3) -> list[Point]:
    """Cut the corners of a closed polygon again and again (Chaikin), in whole SUBUNITs."""
    curve = [(x * SUBUNIT, y * SUBUNIT) for x, y in points]
    for _ in range(rounds):
        following = curve[1:] + curve[:1]
        pairs = zip(curve, following, strict=True)
        curve = [
            point
            for (ax, ay), (bx, by) in pairs
            for point in (((3 * ax + bx) // 4, (3 * ay + by) // 4), ((ax + 3 * bx) // 4, (ay + 3 * by) // 4))
        ]
    return curve


def shape_parts(bill: str, tail: str) -> dict[str, list[Point]]:
    """Give the outline of every part in SUBUNITs, in the order of painting (the last lies on top)."""
    outlines = {"tail": TAILS[tail], "body": BODY, "back": BACK, "breast": BREAST, "wing": WING}
    outlines |= {"bill": BILLS[bill], "head": HEAD}
    return {part: round_corners(points) for part, points in outlines.items()}
