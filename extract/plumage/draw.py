"""Draws one bird before sky or wood, on a branch: any class and image number, alone, always the same pixels."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from msdn.extract.plumage.birds import PARTS, Form, list_classes
from msdn.extract.plumage.parts import (
    EYE,
    GRAINS,
    LEGS,
    MARKS,
    SIZE_SCALES,
    SUBUNIT,
    UNIT,
    Pose,
    make_pose,
    round_corners,
    shape_parts,
)

Color = tuple[int, int, int]
Outlines = dict[str, list[tuple[int, int]]]
Box = tuple[int, int, int, int]

PLUMAGE_VERSION = 1
PIXELS_SHA256 = "2c74ffa558913387db7de2baba9a6b298f13417bddd76b9286656a90ed9610a5"  # before JPEG encoding
IMAGE_SIDE = 224
CANVAS_SIDE = 2 * IMAGE_SIDE  # drawn at twice the size and halved: smooth edges
EDGE = 10  # canvas pixels left free around a bird
LEAF = ((-40, 0), (-16, -18), (20, -14), (42, 0), (20, 14), (-16, 18))
BACKDROPS: tuple[tuple[Color, Color], ...] = (
    ((176, 204, 226), (214, 222, 214)),
    ((150, 176, 150), (196, 204, 170)),
    ((206, 190, 160), (226, 214, 190)),
    ((120, 140, 150), (170, 180, 184)),
    ((226, 206, 196), (190, 200, 210)),
)
CLUTTER_LEAST, CLUTTER_MOST = 10, 20
PAINTS: dict[str, Color] = {
    "red": (196, 52, 48),
    "yellow": (222, 190, 62),
    "green": (66, 146, 74),
    "blue": (58, 98, 190),
    "purple": (138, 72, 168),
    "brown": (128, 86, 54),
    "black": (56, 54, 58),
    "white": (208, 206, 200),
}
MARK_SHADES = {"black": 80, "brown": 64, "blue": 64, "purple": 64, "red": 64, "green": -60}
DARK_MARK = -72  # marks on the pale colours


def _vary_color(color: Color, spread: int, generator: np.random.RandomState) -> Color:
    """Shift each channel a little: no two birds are dyed alike."""
    red, green, blue = (channel + int(generator.randint(-spread, spread + 1)) for channel in color)
    return red, green, blue


def _make_light(generator: np.random.RandomState) -> list[int]:
    """Make the lookup table of one image's light: brightness, and a warm or cold tint."""
    gain, tint = int(generator.randint(214, 287)), int(generator.randint(-10, 11))
    gains = (gain + tint, gain, gain - tint)
    return [min(255, value * channel // 256) for channel in gains for value in range(256)]


def _paint_backdrop(side: int, generator: np.random.RandomState) -> Image.Image:
    top, bottom = BACKDROPS[int(generator.randint(0, len(BACKDROPS)))]
    top, bottom = _vary_color(top, 14, generator), _vary_color(bottom, 14, generator)
    rows = np.arange(side, dtype=np.int32)[:, None]
    column = (np.array(top) * (side - rows) + np.array(bottom) * rows) // side
    pixels = column.clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels[:, None, :], (side, side, 3))))


def _pick_paint(generator: np.random.RandomState) -> Color:
    paints = tuple(PAINTS.values())
    return _vary_color(paints[int(generator.randint(0, len(paints)))], 16, generator)


def _paint_leaf(draw: ImageDraw.ImageDraw, x: int, y: int, generator: np.random.RandomState) -> None:
    pose = make_pose(int(generator.randint(0, 360)), int(generator.randint(3000, 7000)))
    paint = _pick_paint(generator)
    outline = [(x + dx, y + dy) for dx, dy in pose.place(round_corners(LEAF, 2), 16)]
    rib = [(x + dx, y + dy) for dx, dy in pose.place([(-36, 0), (36, 0)])]
    draw.polygon(outline, fill=paint)
    draw.line(rib, fill=tuple(channel * 3 // 4 for channel in paint), width=3)


def _paint_berries(draw: ImageDraw.ImageDraw, x: int, y: int, generator: np.random.RandomState) -> None:
    paint = _pick_paint(generator)
    for _ in range(int(generator.randint(2, 6))):
        bx, by = x + int(generator.randint(-34, 35)), y + int(generator.randint(-34, 35))
        radius = int(generator.randint(12, 24))
        draw.ellipse((bx - radius, by - radius, bx + radius, by + radius), fill=paint)
        glint = tuple(min(255, channel + 50) for channel in paint)
        draw.ellipse((bx - radius // 2, by - radius // 2, bx - radius // 4, by - radius // 4), fill=glint)


def _paint_clutter(image: Image.Image, generator: np.random.RandomState) -> None:
    """Strew leaves and berries in the colours that birds wear."""
    draw = ImageDraw.Draw(image)
    for _ in range(int(generator.randint(CLUTTER_LEAST, CLUTTER_MOST + 1))):
        x, y = int(generator.randint(0, image.width)), int(generator.randint(0, image.height))
        paint = _paint_berries if int(generator.randint(0, 3)) == 0 else _paint_leaf
        paint(draw, x, y, generator)


def _paint_branch(image: Image.Image, height: int, generator: np.random.RandomState) -> None:
    """Lay a branch across the picture for the bird to stand on."""
    draw = ImageDraw.Draw(image)
    tilt, width = int(generator.randint(-16, 17)), int(generator.randint(14, 22))
    wood = _vary_color((104, 82, 62), 12, generator)
    draw.line([(-8, height + tilt), (image.width + 8, height - tilt)], fill=wood, width=width)
    lit = tuple(channel + 24 for channel in wood)
    draw.line([(-8, height + tilt - 4), (image.width + 8, height - tilt - 4)], fill=lit, width=3)


def _choose_pose(outlines: Outlines, size: str, generator: np.random.RandomState) -> Pose:
    """Choose turn, scale and place, with the whole bird on the canvas."""
    scale = SIZE_SCALES[size] * int(generator.randint(246, 265)) // 256
    pose = make_pose(int(generator.randint(-8, 9)), scale)
    points = [point for outline in outlines.values() for point in pose.place(outline, SUBUNIT)]
    points += pose.place([point for leg in LEGS for point in leg])
    shift = []
    for values in zip(*points, strict=True):
        least, most = EDGE - min(values), CANVAS_SIDE - EDGE - max(values)
        shift.append(int(generator.randint(least, most + 1)) if most > least else (least + most) // 2)
    return replace(pose, x=shift[0], y=shift[1])


def _label_parts(placed: Outlines) -> np.ndarray:
    """Give each canvas pixel the number of the part seen there, 1.. in the order of PARTS, 0 for none."""
    masks = {}
    for part, outline in placed.items():
        picture = Image.new("L", (CANVAS_SIDE, CANVAS_SIDE))
        ImageDraw.Draw(picture).polygon(outline, fill=1)
        masks[part] = np.asarray(picture) > 0
    labels = np.zeros((CANVAS_SIDE, CANVAS_SIDE), dtype=np.uint8)
    for part, mask in masks.items():
        seen = mask & masks["body"] if part in ("back", "breast") else mask
        labels[seen] = 1 + PARTS.index("belly" if part == "body" else part)
    return labels


def _shade_part(part: str, form: Form, pose: Pose, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Work out how much lighter or darker than its paint each pixel of a part is."""
    dx, dy = columns - pose.x, rows - pose.y
    u = (dx * pose.cosine + dy * pose.sine) // UNIT
    v = (dy * pose.cosine - dx * pose.sine) // UNIT
    shade = GRAINS[part](u, v) - v // 12  # lit from above
    pattern = form.get(f"{part} pattern", "solid")
    if pattern in MARKS:
        shade = shade + MARKS[pattern](u, v) * MARK_SHADES.get(form[f"{part} color"], DARK_MARK)
    return shade


def _paint_parts(
    canvas: np.ndarray, labels: np.ndarray, form: Form, pose: Pose, generator: np.random.RandomState
) -> None:
    for number, part in enumerate(PARTS, start=1):
        rows, columns = (axis.astype(np.int32) for axis in np.nonzero(labels == number))
        paint = np.array(_vary_color(PAINTS[form[f"{part} color"]], 10, generator), dtype=np.int32)
        shade = _shade_part(part, form, pose, rows, columns)
        canvas[rows, columns] = (paint + shade[:, None]).clip(0, 255).astype(np.uint8)


def _paint_eye(image: Image.Image, pose: Pose) -> None:
    draw = ImageDraw.Draw(image)
    (x, y), reach = pose.place([EYE])[0], 16 * pose.scale // UNIT
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(236, 232, 220))
    reach = reach * 5 // 8
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(22, 20, 24))
    draw.ellipse((x + 1, y - reach, x + 1 + reach // 2, y - reach // 2), fill=(250, 250, 250))


def _paint_scene(pose: Pose, generator: np.random.RandomState) -> Image.Image:
    """Paint all that the bird will cover, its legs included."""
    image = _paint_backdrop(CANVAS_SIDE, generator)
    _paint_clutter(image, generator)
    legs = [pose.place(leg) for leg in LEGS]
    _paint_branch(image, legs[0][1][1], generator)
    for leg in legs:
        ImageDraw.Draw(image).line(leg, fill=(72, 62, 56), width=8)
    return image


def _box_parts(labels: np.ndarray) -> dict[str, Box]:
    """Box the visible pixels of every part in saved pixels: x0, y0, x1, y1, the last two exclusive."""
    boxes = {}
    for number, part in enumerate(PARTS, start=1):
        rows, columns = (axis // 2 for axis in np.nonzero(labels == number))
        boxes[part] = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    return boxes


def draw_bird(class_index: int, image_index: int) -> tuple[Image.Image, dict[str, Box]]:
    """Draw image `image_index` of class `class_index` (both from 0); give it with the box of every part."""
    seed = PLUMAGE_VERSION * 1_000_000 + class_index * 1000 + image_index
    generator = np.random.RandomState(seed)
    return draw_form(list_classes()[class_index].pick_form(int(generator.randint(0, 100))), generator)


def draw_form(form: Form, generator: np.random.RandomState) -> tuple[Image.Image, dict[str, Box]]:
    """Draw a bird that looks so, be it one of Plumage's or not; give it with the box of every part."""
    outlines = shape_parts(form["bill shape"], form["tail shape"])
    pose = _choose_pose(outlines, form["size"], generator)
    placed = {part: pose.place(outline, SUBUNIT) for part, outline in outlines.items()}
    labels = _label_parts(placed)
    canvas = np.array(_paint_scene(pose, generator))
    _paint_parts(canvas, labels, form, pose, generator)
    image = Image.fromarray(canvas)
    _paint_eye(image, pose)
    image = image.reduce(2).point(_make_light(generator))
    if int(generator.randint(0, 2)):
        image, labels = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), labels[:, ::-1]
    return image, _box_parts(labels)
