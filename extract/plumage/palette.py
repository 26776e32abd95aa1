"""The eight colours, and what lighting does to them, in whole numbers."""

import numpy as np

Color = tuple[int, int, int]

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


def vary_color(color: Color, spread: int, generator: np.random.RandomState) -> Color:
    """Shift each channel a little: no two birds are dyed alike."""
    red, green, blue = (channel + int(generator.randint(-spread, spread + 1)) for channel in color)
    return red, green, blue


def make_light(generator: np.random.RandomState) -> list[int]:
    """Make the lookup table of one image's light: brightness, and a warm or cold tint."""
    gain, tint = int(generator.randint(214, 287)), int(generator.randint(-10, 11))
    table: list[int] = []
    for shift in (tint, 0, -tint):
        table += [min(255, max(0, value * (gain + shift) // 256)) for value in range(256)]
    return table
