"""Charts as SVG that takes the page's colours, light or dark, and as PNG for papers; both by matplotlib."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from msdn.app.report.html import Html, element, join, note, plain, safe
from msdn.cache.files import replace_file
from msdn.machine import how_to_install
from msdn.train.errors import RunError
from msdn.train.measure.show import Line, csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2024", "#60646c", "#d9dce1"
# Okabe and Ito's colours, which the colour-blind tell apart, from the strongest on white
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_ROLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--c{n}" for n, colour in enumerate(SERIES, 1)
}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.left": False,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "msdn",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_DPI = 300
_KEY_HEIGHT = 0.19  # inches of a legend's line
NEEDS = f"charts need matplotlib, which is not installed; {how_to_install('viz')}"


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a line, or a marker where one is named."""

    label: str
    colour: str
    dash: str = "-"
    marker: str = ""


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: of its files; no other chart of the report has it.
        title: what it shows.
        description: the same for whoever cannot see it, with the figures that matter.
        lines: its data.
        draw: draws it.
        legend: what its lines and markers mean.
        shared: the same, where the page says it once for several charts.
        size: in inches.
        shape: "half" of the page's width, "panel" of a row of small ones, or "square".
        below: what to know of it.
    """

    name: str
    title: str
    description: str
    lines: Sequence[Line]
    draw: "Callable[[Axes], None]"
    legend: Sequence[Key] = ()
    shared: Sequence[Key] = ()
    size: tuple[float, float] = (4.0, 2.7)
    shape: str = "half"
    below: str = ""

    def as_html(self) -> Html:
        """The figure with its legend, and its data as CSV."""
        parts = [element("figcaption", self.title), Html(_svg_of(self))]
        if self.legend:
            parts.append(legend_of(self.legend))
        if self.below:
            parts.append(note(self.below))
        return element("figure", *parts, data_of(self.name, self.lines), class_=f"chart {self.shape}")

    def write_png(self, folder: Path) -> Path:
        """Write it for a paper: 300 dots an inch, on white, its legend below it."""
        file = io.BytesIO()
        keys = self.legend or self.shared
        with _drawn(self, _KEY_HEIGHT * -(-len(keys) // 2)) as figure:
            figure.set_facecolor("white")
            handles = [_handle(key) for key in keys]
            if handles:
                figure.legend(handles=handles, loc="outside lower center", ncols=2)
            figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
        path = folder / f"{self.name}.png"
        replace_file(path, file.getvalue())
        return path


def has_matplotlib() -> bool:
    """Whether charts can be drawn."""
    return find_spec("matplotlib") is not None


def require_matplotlib() -> None:
    """Refuse to begin without the library, in one sentence."""
    if not has_matplotlib():
        raise RunError(NEEDS)


def data_of(name: str, lines: Sequence[Line]) -> Html:
    """A figure's data, folded away."""
    safe_lines = [{key: plain(v) if isinstance(v, str) else v for key, v in line.items()} for line in lines]
    text = csv_text(safe_lines) if safe_lines else ""
    return element(
        "details", element("summary", "Data"), element("pre", text, id=f"data-{name}", tabindex="0")
    )


def legend_of(keys: Sequence[Key]) -> Html:
    """A legend that wraps as text does."""
    return element("ul", *(element("li", _swatch(key), key.label) for key in keys), class_="legend")


def _swatch(key: Key) -> Html:
    colour = f"var({_ROLES[key.colour]})"
    if key.marker == "^":
        mark = f'<path d="M12 1 17 10 7 10Z" fill="{colour}"/>'
    elif key.marker:
        mark = f'<circle cx="12" cy="6" r="4" fill="{colour}"/>'
    else:
        dashes = {"-": "", "--": ' stroke-dasharray="5 3"', ":": ' stroke-dasharray="2 3"'}[key.dash]
        mark = f'<path d="M2 6H22" stroke="{colour}" stroke-width="2.5" stroke-linecap="round"{dashes}/>'
    return Html(f'<svg viewBox="0 0 24 12" class="swatch" aria-hidden="true">{mark}</svg>')


def _handle(key: Key) -> Any:
    from matplotlib.lines import Line2D

    line = Line2D([], [], color=key.colour, label=plain(key.label))
    if key.marker:
        line.set(linestyle="", marker=key.marker)
    else:
        line.set(linestyle=key.dash)
    return line


@contextmanager
def _drawn(chart: Chart, more_height: float = 0.0) -> "Iterator[Figure]":
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that its font lacks: the browser has others
        width, height = chart.size
        figure = Figure(figsize=(width, height + more_height), layout="constrained")
        chart.draw(figure.subplots())
        yield figure


def _svg_of(chart: Chart) -> str:
    """The drawing as an element of the page: its own names, the page's colours, a title and a description."""
    file = io.BytesIO()
    with _drawn(chart) as figure:
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in [one for one in parent if one.tag == f"{{{_SVG}}}metadata"]:
            parent.remove(child)
    for one in root.iter():
        _settle(one, chart.name)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    own = f"chart-{chart.name}"
    root.attrib |= {"role": "img", "aria-labelledby": f"{own}-title {own}-desc"}
    for place, (tag, text) in enumerate((("title", chart.title), ("desc", chart.description))):
        told = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{own}-{tag}"})
        told.text = plain(text)
        root.insert(place, told)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _settle(one: ElementTree.Element, name: str) -> None:
    """Give an element names that no other chart has, and the page's colours."""
    if f"{{{_LINK}}}href" in one.attrib:
        one.attrib["href"] = "#" + _own_name(name, one.attrib.pop(f"{{{_LINK}}}href")[1:])
    for key in ("id", "clip-path"):
        if key in one.attrib:
            value = one.attrib[key]
            one.attrib[key] = (
                _own_name(name, value) if key == "id" else f"url(#{_own_name(name, value[5:-1])})"
            )
    style = one.attrib.get("style")
    if style:
        for colour, role in _ROLES.items():
            style = style.replace(f": {colour}", f": var({role})")
        one.attrib["style"] = style


def _own_name(chart: str, name: str) -> str:
    return f"{chart}-{name}"


def percent_axis(axis: Any, most: float = 100) -> None:
    """An axis from 0 to 100 % with few marks."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axis.set_major_locator(MultipleLocator(20 if most > 50 else 10 if most > 20 else 5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def whole_axis(axis: Any) -> None:
    """An axis of whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, integer=True))


def log_axis(axis: Any) -> None:
    """The labels of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def shown(parts: Sequence["Chart | str"]) -> Html:
    """Charts and HTML in turn; charts beside each other share a grid."""
    done: list[str] = []
    row: list[Html] = []
    for part in [*parts, ""]:
        if isinstance(part, Chart):
            row.append(part.as_html())
            continue
        if row:
            done.append(element("div", *row, class_="charts"))
            row = []
        done.append(safe(part))
    return join(done)
