"""HTML in which nothing but `Html` is taken as it is: every other text is escaped."""

from collections.abc import Sequence
from html import escape as escape_html

from msdn.terminal import escape
from msdn.train.measure.show import Cell, percent
from msdn.train.measure.summary import Spread


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def safe(text: str) -> Html:
    """Any text as HTML that shows it as it is typed; what no page can hold is written out."""
    return text if isinstance(text, Html) else Html(escape_html(plain(text)))


def plain(text: str) -> str:
    """A text in which what no page and no SVG can hold, line ends aside, is written out."""
    written = "\n".join(map(escape, str(text).split("\n")))
    return written.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def join(parts: Sequence[str]) -> Html:
    """Parts one after the other."""
    return Html("".join(map(safe, parts)))


def element(name: str, *children: str, **attributes: str) -> Html:
    """An element; a name that Python keeps for itself is written with `_` behind it, a hyphen as `_`."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{told}>{join(children)}</{name}>")


def breakable(text: str) -> Html:
    """A name that may go on in the next line after an underscore."""
    return Html(safe(text).replace("_", "_<wbr>"))


def figure_cell(value: float | None, digits: int = 1) -> Html:
    """A figure as tables show it, the exact one beside it for machines."""
    if value is None:
        return Html("–")
    shown = percent(value) if digits == 1 else f"{value:.{digits}f}"
    return element("data", shown, value=repr(float(value)))


def show_cell(cell: Cell | Html) -> Html:
    """A table's cell: words, a number of things, a figure, or a mean with its deviation."""
    if isinstance(cell, Spread):
        spread = "" if cell.std is None else f" ± {cell.std:.1f}"
        return join([figure_cell(cell.mean), spread])
    if cell is None or isinstance(cell, float):
        return figure_cell(cell)
    return safe(str(cell)) if not isinstance(cell, Html) else cell


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell | Html]],
    words: Sequence[str] = (),
    foot: Sequence[Sequence[Cell | Html]] = (),
    class_: str = "",
) -> Html:
    """A table that scrolls by itself where the page is narrow; the first cell of a row names it."""
    kinds = ["word" if name in words else "number" for name in columns]
    heads = [element("th", name, scope="col", class_=kind) for name, kind in zip(columns, kinds, strict=True)]
    bodies = [
        element("tbody", *(_row(row, kinds) for row in part), class_=kind)
        for part, kind in ((rows, "rows"), (foot, "foot"))
        if part
    ]
    drawn = element("table", element("thead", element("tr", *heads)), *bodies)
    return element("div", drawn, class_=f"scroll {class_}".strip(), tabindex="0")


def _row(cells: Sequence[Cell | Html], kinds: Sequence[str]) -> Html:
    first, *others = zip(cells, kinds, strict=True)
    head = element("th", show_cell(first[0]), scope="row", class_=first[1])
    return element("tr", head, *(element("td", show_cell(cell), class_=kind) for cell, kind in others))


def note(*text: str) -> Html:
    """A line that explains."""
    return element("p", *text, class_="note")


def missing(*text: str) -> Html:
    """What cannot be shown, and how to get it."""
    return element("p", *text, class_="missing")
