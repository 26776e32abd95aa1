"""What a command found, and the one place that shows it: tables and notes for people, JSON and CSV for machines."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich import box
from rich import table as rich_table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from msdn.cache.csv_table import write_rows
from msdn.cache.files import make_folder, replace_file
from msdn.cache.records import write_sealed
from msdn.terminal import escape, result_console, shorten_path, wrap
from msdn.train.measure.summary import Spread

Cell = (
    str | int | float | Spread | None
)  # words, a number of things, a figure in percent, or one that cannot be told
Line = Mapping[str, Any]  # of a CSV file, by column
_PATH = 28  # letters of a file's name in a table that is too wide
_SHORT = 12  # letters of it, and of a word, where even that is too wide


@dataclass(frozen=True)
class Table:
    """One table with what is said above and below it.

    Attributes:
        columns: their names.
        rows: the cells.
        title: above the table.
        words: the columns that hold no numbers.
        foot: further rows below a line, such as the papers'.
        above: lines before the table.
        below: lines after it.
        paths: the columns of paths, whose first folders may give way.
        whole: the columns of names to copy, which are not broken at their spaces.
        mark_best: whether the best mean of each column is bold.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    words: Sequence[str] = ("",)
    foot: Sequence[Sequence[Cell]] = ()
    above: Sequence[str] = ()
    below: Sequence[str] = ()
    paths: Sequence[str] = ()
    whole: Sequence[str] = ()
    mark_best: bool = False


@dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes:
        facts: all of it, ready for JSON.
        tables: the figures.
        notes: what to know of all tables.
        lines: the CSV files' lines, by what the file's name ends with.
    """

    facts: Mapping[str, Any]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    lines: Mapping[str, Sequence[Line]] = field(default_factory=dict)


def show(result: Result, as_json: bool = False) -> None:
    """Print to standard output."""
    if as_json:
        click.echo(json.dumps(result.facts))
        return
    console = result_console()
    for table in result.tables:
        _say(console, [*table.above, *filter(None, [table.title])])
        console.print(draw(table, console))
        _say(console, table.below)
    _say(console, result.notes)


def write(result: Result, folder: Path, name: str) -> list[Path]:
    """Write NAME.json and the CSV files; those of an earlier result of the name are replaced."""
    make_folder(folder)
    contents = {f"{name}{end}.csv": csv_text(lines) for end, lines in result.lines.items()}
    for file, text in contents.items():
        replace_file(folder / file, text.encode())
    write_sealed(folder / f"{name}.json", result.facts)
    return [folder / file for file in (*contents, f"{name}.json")]


def csv_text(lines: Sequence[Line]) -> str:
    """Lines as CSV, below the names of the first one's columns."""
    file, columns = io.StringIO(), list(lines[0])
    write_rows(file, [columns, *([line.get(name, "") for name in columns] for line in lines)])
    return file.getvalue()


def draw(table: Table, console: Console) -> rich_table.Table:
    """A table as the terminal shows it: numbers to the right, headers whole, nothing left out.

    Where it is wider than the terminal it has no frame, words wrap, and a deviation stands below its mean.
    """
    drawn = _draw(table, None)
    fits = console.measure(drawn, options=console.options.update(width=10_000)).maximum <= console.width
    return drawn if fits else _draw(table, console.width)


def _draw(table: Table, width: int | None) -> rich_table.Table:
    """The table with its frame, or without one in `width` letters."""
    shown = [[_text(cell, width is not None) for cell in row] for row in (*table.rows, *table.foot)]
    if width is None:
        drawn = rich_table.Table()
        widths: list[int | None] = [None] * len(table.columns)
    else:
        drawn = rich_table.Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
        widths = [*_choose_widths(table, shown, width - len(table.columns) + 1)]
    for name, letters in zip(table.columns, widths, strict=True):
        justify: Any = "left" if name in table.words else "right"
        drawn.add_column(Text(escape(name)), justify=justify, overflow="fold", width=letters)
    for number, letters in enumerate(widths):
        if letters is not None and table.columns[number] in table.paths:
            for texts in shown:
                texts[number] = shorten_path(texts[number], letters)
    best = best_means(table)
    for row, texts in zip((*table.rows, *table.foot), shown, strict=True):
        if len(drawn.rows) == len(table.rows):
            drawn.add_section()
        is_best = [number in best and _mean(cell) == best[number] for number, cell in enumerate(row)]
        styles = ["bold" if one else "" for one in is_best]
        drawn.add_row(*(Text(text, style) for text, style in zip(texts, styles, strict=True)))
    return drawn


def _choose_widths(table: Table, shown: Sequence[Sequence[str]], room: int) -> list[int]:
    """The columns' widths in so many letters.

    Spaces and the folders of paths give way first, then the beginnings of files' names, then words, and numbers last;
    each time it is the widest column that does.
    """
    widths, limits = [], []
    for number, name in enumerate(table.columns):
        texts = [name, *(row[number] for row in shown)]
        lines = [line for text in texts for line in text.split("\n")]
        word = max(cell_len(part) for line in lines for part in (line.replace("± ", "±_").split() or [""]))
        head = max(map(cell_len, name.split()), default=1)
        widths.append(max(map(cell_len, lines)))
        if name in table.paths:
            file = max(cell_len(text.rpartition("/")[2]) for text in texts)
            steps = (min(file, _PATH), _SHORT, _SHORT)
        elif name in table.whole:
            steps = (widths[-1], widths[-1], _SHORT)
        else:
            steps = (word, word, min(word, _SHORT) if name in table.words else word)
        limits.append([*(max(step, head) for step in steps), 1])
    for least in zip(*limits, strict=True):
        while sum(widths) > room:
            spare = [number for number, width in enumerate(widths) if width > least[number]]
            if not spare:
                break
            widths[max(spare, key=lambda number: (widths[number], number))] -= 1
    return widths


def _text(cell: Cell, is_narrow: bool) -> str:
    text = show_cell(cell)
    return text.replace(" ±", "\n±") if is_narrow and isinstance(cell, Spread) else text


def show_cell(cell: Cell) -> str:
    """A cell's text: figures with one decimal, a dash for what cannot be told, no control characters."""
    if isinstance(cell, Spread):
        return percent(cell.mean) + ("" if cell.std is None else f" ± {cell.std:.1f}")
    return percent(cell) if cell is None or isinstance(cell, float) else escape(str(cell))


def percent(figure: float | None) -> str:
    """A figure with one decimal, or a dash where there was no image to tell."""
    return "–" if figure is None else f"{figure:.1f}"


def show_value(value: Any) -> str:
    """A setting's value as a person types it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(show_value(part) for part in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def show_settings(settings: Mapping[str, Any]) -> str:
    """Settings with their values: `epochs 2, lambda_cal 0.1`."""
    return ", ".join(f"{name} {show_value(value)}" for name, value in settings.items())


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        text = escape(line)
        for part in wrap(text, console.width) if console.is_terminal else [text]:
            console.print(part, highlight=False, markup=False, soft_wrap=True)


def best_means(table: Table) -> dict[int, float]:
    """The best mean of each column by its number; none where nobody asked, or with nothing to compare it with."""
    if not table.mark_best or len(table.rows) < 2:
        return {}
    means = [[_mean(row[number]) for row in table.rows] for number in range(len(table.columns))]
    known = {number: [mean for mean in column if mean is not None] for number, column in enumerate(means)}
    return {number: max(column) for number, column in known.items() if column}


def _mean(cell: Cell) -> float | None:
    return cell.mean if isinstance(cell, Spread) else None
