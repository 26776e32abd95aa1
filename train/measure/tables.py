"""How tables of results look: numbers to the right, nothing cut off, plain text where it is no terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 160  # columns of a table that goes into a file or a pipe


def result_console() -> Console:
    """Standard output, wide where nobody's window limits it."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def plain_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()
) -> Table:
    """A table of texts that are shown as they are; the columns named in `right` hold numbers."""
    table = Table(title=Text(title), title_justify="left")
    for name in columns:
        table.add_column(Text(name), justify="right" if name in right else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def print_table(table: Table, lines: Iterable[str]) -> None:
    """Print a table and the lines below it to standard output."""
    console = result_console()
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_value(value: Any) -> str:
    """A setting's value as a person types it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(show_value(part) for part in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)
