"""One self-contained page of sections: its own style, no script, nothing from anywhere else."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from msdn.app.report.charts import Chart, shown
from msdn.app.report.html import Html, element, join, safe
from msdn.cache.files import replace_file
from msdn.train.errors import RunError

MADE_BY = '<meta name="generator" content="msdn report">'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_BEGINNING = 4096  # bytes of a file that are looked at before it is replaced


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        name: its place in the page's address.
        link: what leads to it.
        title: its heading.
        parts: charts and HTML in turn.
    """

    name: str
    link: str
    title: str
    parts: Sequence[Chart | Html]


def page(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> Html:
    """The whole page."""
    style = Html(files("msdn.app.report").joinpath("page.css").read_text(encoding="utf-8"))
    links = [element("a", one.link, href=f"#{one.name}") for one in sections]
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            Html(MADE_BY),
            Html('<link rel="icon" href="data:,">'),
            element("title", f"{title} · msdn report"),
            element("style", style),
        ]
    )
    top = element("header", element("h1", title), element("p", subtitle, class_="subtitle"))
    body = [top, element("nav", *links, aria_label="Sections"), element("main", *map(_section, sections))]
    whole = element("body", *body, element("footer", footer))
    return Html(f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>{whole}</html>\n')


def _section(one: Section) -> Html:
    heading = element("h2", one.title, id=f"{one.name}-title")
    return element("section", heading, shown(one.parts), id=one.name, aria_labelledby=f"{one.name}-title")


def write_page(content: str, path: Path) -> None:
    """Write a report, in place of an earlier one; any other file that is there is left alone."""
    if path.exists() and not is_report(path):
        raise RunError(f"{path}: exists already and is not a report; choose another --out")
    replace_file(path, safe(content).encode())


def is_report(path: Path) -> bool:
    """Whether a file was written by this command."""
    with path.open("rb") as file:
        return MADE_BY.encode() in file.read(_BEGINNING)
