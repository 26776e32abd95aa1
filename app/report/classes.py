"""The report's sections by class: accuracies, worst first, and what unseen classes are taken for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from msdn.app.report.charts import INK, SERIES, Chart
from msdn.app.report.html import Html, breakable, element, figure_cell, join, missing, note, plain, table
from msdn.app.report.subjects import Subject
from msdn.train.measure.show import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIRST = 12  # classes before the others are folded away
_NUMBERED = 16  # classes of a confusion whose cells hold numbers
_NAMED = 60  # classes of a confusion whose rows have names
_STRONGEST = 0.65  # of a cell's colour, so that its number can be read


@dataclass(frozen=True)
class ClassFigure:
    """One class's accuracy in percent, and what its images are mostly taken for."""

    name: str
    kind: str
    images: int
    right: float
    mistaken_for: str
    mistakes: int


def class_figures(result: dict[str, Any]) -> list[ClassFigure]:
    """Every class with test images, all classes competing: the worst first."""
    names = result["class_names"]
    images: dict[int, int] = {}
    worst: dict[
        int, tuple[int, int]
    ] = {}  # mistakes, and −1 times the class, so that the first of equals wins
    for true, guess, count in result["confusion"]["gzsl"]:
        images[true] = images.get(true, 0) + count
        if guess != true:
            worst[true] = max(worst.get(true, (0, 0)), (count, -guess))
    right, unseen = result["per_class"]["gzsl"], result["per_class"]["czsl"]
    found = [
        ClassFigure(
            name=names[c],
            kind="unseen" if names[c] in unseen else "seen",
            images=images[c],
            right=right[names[c]],
            mistaken_for=names[-worst[c][1]] if c in worst else "",
            mistakes=worst[c][0] if c in worst else 0,
        )
        for c in sorted(images)
    ]
    return sorted(found, key=lambda one: one.right)


def by_class(subjects: Sequence[Subject]) -> list[Html]:
    """A table for each run."""
    parts = []
    for one in subjects:
        if len(subjects) > 1:
            parts.append(element("h3", one.label))
        if one.result is None:
            parts.append(missing(f"No test figures. {one.missing}"))
            continue
        found = class_figures(one.result)
        parts.append(_class_table(found[:_FIRST]))
        if found[_FIRST:]:
            rest = f"The other {len(found) - _FIRST} classes"
            parts.append(
                element("details", element("summary", rest), _class_table(found[_FIRST:]), class_="rest")
            )
    explained = (
        "All classes compete, at the run's margin. The worst come first; equal ones keep the dataset's order."
    )
    return [note(explained), *parts]


def _class_table(found: Sequence[ClassFigure]) -> Html:
    rows: list[list[Cell | Html]] = [
        [
            breakable(one.name),
            _bar(one.right),
            _mistake(one),
            one.kind,
            one.images,
        ]
        for one in found
    ]
    columns = ("class", "right, %", "mostly taken for", "kind", "images")
    return table(columns, rows, words=("class", "kind", "mostly taken for"), class_="classes")


def _mistake(one: ClassFigure) -> str:
    """What a class is mostly taken for, and how often."""
    if not one.mistakes:
        return "–"
    often = element("span", f"({one.mistakes} of {one.images})", class_="count")
    return join([breakable(one.mistaken_for), " ", often])


def _bar(share: float) -> Html:
    """A figure with its length beside it."""
    bar = element("span", class_="bar", style=f"--share:{share:.1f}%", aria_hidden="true")
    return element("span", bar, figure_cell(share), class_="barred")


def confusion(subjects: Sequence[Subject]) -> list[Chart | Html]:
    """What images of unseen classes are taken for when unseen classes alone compete."""
    parts: list[Chart | Html] = []
    for number, one in enumerate(subjects, 1):
        if one.result is None:
            parts.append(missing(f"{one.label}: no test figures. {one.missing}"))
        elif not one.result["confusion"]["czsl"]:
            parts.append(missing(f"{one.label}: there are no test images of unseen classes."))
        else:
            name = "confusion" + (f"-{number}" if len(subjects) > 1 else "")
            title = "Classes, and what their images are taken for"
            title += f": {one.label}" if len(subjects) > 1 else ""
            parts.append(_confusion_chart(one.result, name, title))
    return parts


def _confusion_chart(result: dict[str, Any], name: str, title: str) -> Chart:
    names, counts = result["class_names"], result["confusion"]["czsl"]
    unseen = [c for c, own in enumerate(names) if own in result["per_class"]["czsl"]]
    classes = sorted({*unseen, *(guess for _, guess, _ in counts)})
    place = {c: n for n, c in enumerate(classes)}
    images: dict[int, int] = {}
    for true, _, count in counts:
        images[true] = images.get(true, 0) + count
    lines = [
        {
            "class": names[true],
            "taken_for": names[guess],
            "images": count,
            "percent": round(100 * count / images[true], 4),
        }
        for true, guess, count in counts
    ]

    def draw(axes: "Axes") -> None:
        from matplotlib.patches import Rectangle

        size = len(classes)
        for true, guess, count in counts:
            share, x, y = count / images[true], place[guess], place[true]
            colour = SERIES[0] if true == guess else SERIES[1]
            cell = (x - 0.47, y - 0.47)
            axes.add_patch(
                Rectangle(cell, 0.94, 0.94, facecolor=colour, alpha=_STRONGEST * share, linewidth=0)
            )
            if size <= _NUMBERED and share >= 0.05:
                axes.text(x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=INK)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
        axes.grid(False)
        small = 7 if size <= 30 else 4.5
        shown = classes if size <= _NAMED else []
        ticks = np.arange(len(shown)), [short_name(names[c]) for c in shown]
        axes.set_yticks(*ticks, fontsize=small)
        axes.set_xticks(*ticks, fontsize=small, rotation=90)
        axes.tick_params(length=0)
        axes.set_xlabel("taken for")
        axes.set_ylabel("class")

    worst = sorted(
        (one for one in lines if one["class"] != one["taken_for"]), key=lambda one: -one["percent"]
    )
    told = "; ".join(f"{one['class']} as {one['taken_for']} {one['percent']:.0f} %" for one in worst[:3])
    below = (
        "Unseen classes alone compete (the setting of acc). Rows are classes, in percent of a class's test images: "
        "right ones blue, mistakes orange."
    )
    described = f"{title}, in percent of each row. Most frequent mistakes: {told or 'none'}."
    return Chart(name, title, described, lines, draw, size=(6.4, 6.0), shape="square", below=below)


def short_name(name: str, most: int = 26) -> str:
    """A class's name for an axis."""
    name = plain(name)
    return name if len(name) <= most else name[: most - 1] + "…"
