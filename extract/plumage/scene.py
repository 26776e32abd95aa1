"""What lies behind the bird: sky or wood, a branch, and leaves, berries and petals in birds' colours."""

import numpy as np
from PIL import Image, ImageDraw

from msdn.extract.plumage.anatomy import make_pose, round_corners
from msdn.extract.plumage.palette import PAINTS, Color, vary_color

LEAF = ((-40, 0), (-16, -18), (20, -14), (42, 0), (20, 14), (-16, 18))
BACKDROPS: tuple[tuple[Color, Color], ...] = (
    ((176, 204, 226), (214, 222, 214)),
    ((150, 176, 150), (196, 204, 170)),
    ((206, 190, 160), (226, 214, 190)),
    ((120, 140, 150), (170, 180, 184)),
    ((226, 206, 196), (190, 200, 210)),
)
CLUTTER_LEAST, CLUTTER_MOST = 10, 20


def paint_backdrop(side: int, generator: np.random.RandomState) -> Image.Image:
    """Paint a soft vertical gradient."""
    top, bottom = BACKDROPS[int(generator.randint(0, len(BACKDROPS)))]
    top, bottom = vary_color(top, 14, generator), vary_color(bottom, 14, generator)
    rows = np.arange(side, dtype=np.int32)[:, None]
    column = (np.array(top) * (side - rows) + np.array(bottom) * rows) // side
    pixels = column.clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels[:, None, :], (side, side, 3))))


def pick_paint(generator: np.random.RandomState) -> Color:
    """Pick any bird's colour."""
    names = tuple(PAINTS)
    return vary_color(PAINTS[names[int(generator.randint(0, len(names)))]], 16, generator)


def paint_leaf(draw: ImageDraw.ImageDraw, x: int, y: int, generator: np.random.RandomState) -> None:
    """Paint a leaf with its midrib."""
    pose = make_pose(int(generator.randint(0, 360)), int(generator.randint(3000, 7000)))
    paint = pick_paint(generator)
    outline = [(x + dx, y + dy) for dx, dy in pose.place(round_corners(LEAF, 2), 16)]
    rib = [(x + dx, y + dy) for dx, dy in pose.place([(-36, 0), (36, 0)])]
    draw.polygon(outline, fill=paint)
    draw.line(rib, fill=tuple(channel * 3 // 4 for channel in paint), width=3)


def paint_berries(draw: ImageDraw.ImageDraw, x: int, y: int, generator: np.random.RandomState) -> None:
    """Paint a bunch of round berries."""
    paint = pick_paint(generator)
    for _ in range(int(generator.randint(2, 6))):
        bx, by = x + int(generator.randint(-34, 35)), y + int(generator.randint(-34, 35))
        radius = int(generator.randint(12, 24))
        draw.ellipse((bx - radius, by - radius, bx + radius, by + radius), fill=paint)
        glint = tuple(min(255, channel + 50) for channel in paint)
        draw.ellipse((bx - radius // 2, by - radius // 2, bx - radius // 4, by - radius // 4), fill=glint)


def paint_clutter(image: Image.Image, generator: np.random.RandomState) -> None:
    """Strew leaves and berries in the colours that birds wear."""
    draw = ImageDraw.Draw(image)
    for _ in range(int(generator.randint(CLUTTER_LEAST, CLUTTER_MOST + 1))):
        x, y = int(generator.randint(0, image.width)), int(generator.randint(0, image.height))
        paint = paint_berries if int(generator.randint(0, 3)) == 0 else paint_leaf
        paint(draw, x, y, generator)


def paint_branch(image: Image.Image, height: int, generator: np.random.RandomState) -> None:
    """Lay a branch across the picture for the bird to stand on."""
    draw = ImageDraw.Draw(image)
    tilt, width = int(generator.randint(-16, 17)), int(generator.randint(14, 22))
    wood = vary_color((104, 82, 62), 12, generator)
    draw.line([(-8, height + tilt), (image.width + 8, height - tilt)], fill=wood, width=width)
    lit = tuple(channel + 24 for channel in wood)
    draw.line([(-8, height + tilt - 4), (image.width + 8, height - tilt - 4)], fill=lit, width=3)
