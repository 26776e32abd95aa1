"""Draws one bird: any class and image number, alone, always the same pixels."""

import numpy as np
from PIL import Image, ImageDraw

from msdn.extract.plumage.anatomy import EYE, LEGS, SIZE_SCALES, SUBUNIT, UNIT, Pose, make_pose, shape_parts
from msdn.extract.plumage.attributes import PARTS
from msdn.extract.plumage.classes import Form, list_classes
from msdn.extract.plumage.palette import DARK_MARK, MARK_SHADES, PAINTS, make_light, vary_color
from msdn.extract.plumage.scene import paint_backdrop, paint_branch, paint_clutter
from msdn.extract.plumage.seal import PLUMAGE_VERSION
from msdn.extract.plumage.textures import GRAINS, MARKS

IMAGE_SIDE = 224
CANVAS_SIDE = 2 * IMAGE_SIDE  # drawn at twice the size and halved: smooth edges
EDGE = 10  # canvas pixels left free around a bird

Box = tuple[int, int, int, int]
Outlines = dict[str, list[tuple[int, int]]]


def seed_image(class_index: int, image_index: int) -> np.random.RandomState:
    """Start the random stream of one image."""
    return np.random.RandomState(PLUMAGE_VERSION * 1_000_000 + class_index * 1000 + image_index)


def choose_pose(outlines: Outlines, size: str, generator: np.random.RandomState) -> Pose:
    """Choose turn, scale and place, with the whole bird on the canvas."""
    scale = SIZE_SCALES[size] * int(generator.randint(246, 265)) // 256
    pose = make_pose(int(generator.randint(-8, 9)), scale)
    points = [point for outline in outlines.values() for point in pose.place(outline, SUBUNIT)]
    points += pose.place([point for leg in LEGS for point in leg])
    shift = []
    for values in ([x for x, _ in points], [y for _, y in points]):
        least, most = EDGE - min(values), CANVAS_SIDE - EDGE - max(values)
        shift.append(int(generator.randint(least, most + 1)) if most > least else (least + most) // 2)
    return Pose(shift[0], shift[1], pose.scale, pose.sine, pose.cosine)


def fill_mask(points: list[tuple[int, int]]) -> np.ndarray:
    """Rasterise one outline: bool [side, side]."""
    mask = Image.new("L", (CANVAS_SIDE, CANVAS_SIDE))
    ImageDraw.Draw(mask).polygon(points, fill=1)
    return np.asarray(mask) > 0


def label_parts(placed: Outlines) -> np.ndarray:
    """Give each canvas pixel the number of the part seen there, 1.. in the order of PARTS, 0 for none."""
    labels = np.zeros((CANVAS_SIDE, CANVAS_SIDE), dtype=np.uint8)
    body = fill_mask(placed["body"])
    for part, outline in placed.items():
        mask = body if part == "body" else fill_mask(outline)
        mask = mask & body if part in ("back", "breast") else mask
        labels[mask] = 1 + PARTS.index("belly" if part == "body" else part)
    return labels


def shade_part(part: str, form: Form, pose: Pose, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Work out how much lighter or darker than its paint each pixel of a part is."""
    dx, dy = columns - pose.x, rows - pose.y
    u = (dx * pose.cosine + dy * pose.sine) // UNIT
    v = (dy * pose.cosine - dx * pose.sine) // UNIT
    shade = GRAINS[part](u, v) - v // 12  # lit from above
    pattern = form.get(f"{part} pattern", "solid")
    if pattern in MARKS:
        shade = shade + MARKS[pattern](u, v) * MARK_SHADES.get(form[f"{part} color"], DARK_MARK)
    return shade


def paint_parts(
    canvas: np.ndarray, labels: np.ndarray, form: Form, pose: Pose, generator: np.random.RandomState
) -> None:
    """Paint every part's pixels in place."""
    for number, part in enumerate(PARTS, start=1):
        rows, columns = (
            axis.astype(np.int32) for axis in divmod(np.flatnonzero(labels == number), CANVAS_SIDE)
        )
        paint = np.array(vary_color(PAINTS[form[f"{part} color"]], 10, generator), dtype=np.int32)
        shade = shade_part(part, form, pose, rows, columns)
        canvas[rows, columns] = (paint + shade[:, None]).clip(0, 255).astype(np.uint8)


def paint_eye(image: Image.Image, pose: Pose) -> None:
    """Paint the eye."""
    draw = ImageDraw.Draw(image)
    (x, y), reach = pose.place([EYE])[0], 16 * pose.scale // UNIT
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(236, 232, 220))
    reach = reach * 5 // 8
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(22, 20, 24))
    draw.ellipse((x + 1, y - reach, x + 1 + reach // 2, y - reach // 2), fill=(250, 250, 250))


def box_parts(labels: np.ndarray) -> dict[str, Box]:
    """Box the visible pixels of every part in saved pixels: x0, y0, x1, y1, the last two exclusive."""
    boxes = {}
    for number, part in enumerate(PARTS, start=1):
        seen = labels == number
        columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
        x0, y0, x1, y1 = columns[0], rows[0], columns[-1] + 2, rows[-1] + 2
        boxes[part] = (int(x0) // 2, int(y0) // 2, int(x1) // 2, int(y1) // 2)
    return boxes


def paint_scene(pose: Pose, generator: np.random.RandomState) -> Image.Image:
    """Paint all that the bird will cover, its legs included."""
    image = paint_backdrop(CANVAS_SIDE, generator)
    paint_clutter(image, generator)
    legs = [pose.place(leg) for leg in LEGS]
    paint_branch(image, legs[0][1][1], generator)
    for leg in legs:
        ImageDraw.Draw(image).line(leg, fill=(72, 62, 56), width=8)
    return image


def draw_bird(class_index: int, image_index: int) -> tuple[Image.Image, dict[str, Box]]:
    """Draw image `image_index` of class `class_index` (both from 0); give it with the box of every part."""
    generator = seed_image(class_index, image_index)
    form = list_classes()[class_index].pick_form(int(generator.randint(0, 100)))
    outlines = shape_parts(form["bill shape"], form["tail shape"])
    pose = choose_pose(outlines, form["size"], generator)
    placed = {part: pose.place(outline, SUBUNIT) for part, outline in outlines.items()}
    labels = label_parts(placed)
    canvas = np.array(paint_scene(pose, generator))
    paint_parts(canvas, labels, form, pose, generator)
    image = Image.fromarray(canvas)
    paint_eye(image, pose)
    image = image.reduce(2).point(make_light(generator))
    if int(generator.randint(0, 2)):
        image, labels = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), labels[:, ::-1]
    return image, box_parts(labels)
