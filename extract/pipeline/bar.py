"""The progress bars of stage one: on stderr, gone when done, and silent where there is no terminal."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

QUIET_SECONDS = 10.0  # between two lines that stand for a bar where there is no terminal


def make_bar(console: Console, *columns: ProgressColumn) -> Progress:
    """Return a bar that shows what is done, how much of it, and `columns`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
