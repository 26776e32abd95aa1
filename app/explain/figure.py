"""An explanation as a picture, as in Figure 4 of the MSDN paper: one row a branch, one column an attribute.

Needs matplotlib, of the extra `viz`.
"""

import io
import textwrap
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from msdn.app.explain.drawing import branch_title, overlay, place_cross
from msdn.app.explain.explainer import Explanation
from msdn.cache.files import create_file
from msdn.terminal import escape

_SIDE = 2.2  # inches of one picture
_LETTERS = 28  # of a line above a picture


def draw_explanation(one: Explanation, path: Path, dpi: int = 110) -> None:
    """Write the picture of one explanation as a PNG."""
    assert one.pixels is not None and one.answer is not None, "an image that could not be used has no picture"
    branches = [look.branch for look in one.reasons[0].looks] if one.reasons else []
    columns, rows = len(one.reasons) + 1, max(len(branches), 1)
    figure = Figure(figsize=(_SIDE * columns, (_SIDE + 0.25) * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    axes[0, 0].imshow(one.pixels)
    kind = one.answer.kind if one.is_best else f"{one.answer.kind}, not the answer"
    axes[0, 0].set_title(_wrap(f"{one.answer.name} ({kind})"), fontsize=8, parse_math=False)
    for column, reason in enumerate(one.reasons, start=1):
        for row, look in enumerate(reason.looks):
            panel = axes[row, column]
            panel.imshow(overlay(one.pixels, look.attention, one.places))
            y, x = place_cross(look.peak, len(one.pixels))
            panel.plot(x, y, "+", color="white", markersize=9, markeredgewidth=1.5)
            title = f"{branch_title(look.branch)} {look.score:.3f}"
            title = f"{_wrap(reason.attribute)}\n{title}" if row == 0 else title
            panel.set_title(title, fontsize=8, parse_math=False)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing"
        )  # of a script that matplotlib's font lacks: boxes are drawn
        figure.savefig(file, dpi=dpi, format="png")
    create_file(path, file.getvalue(), "--out")


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(escape(text), _LETTERS)) or " "
