"""What an extraction reports as it goes on, and how that is shown on stderr.

It is a bar on a terminal, a line now and then elsewhere. Other commands of this stage make their bars here, too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

QUIET_SECONDS = 10.0  # between two lines that stand for a bar where there is no terminal


@dataclass
class Progress:
    """How far an extraction is, and how long each of its three stages has worked."""

    total: int
    done: int
    computed: int = 0
    reading: float = 0.0
    computing: float = 0.0
    writing: float = 0.0
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        """Images a second in this run."""
        return self.computed / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def remaining(self) -> float:
        """Seconds still to go."""
        return (self.total - self.done) / self.rate if self.rate else math.inf

    @property
    def bottleneck(self) -> str:
        """The stage that was busy longest."""
        return max(("reading", "computing", "writing"), key=lambda stage: getattr(self, stage))


@dataclass(frozen=True)
class Watcher:
    """What to call as an extraction goes on; silent by default."""

    on_stage: Callable[[str], None] = lambda _text: None
    on_drawing: Callable[[int, int], None] = lambda _done, _total: None
    on_progress: Callable[[Progress], None] = lambda _progress: None


def make_bar(console: Console, *columns: ProgressColumn) -> Bar:
    """Return a bar that shows what is done, how much of it, and `columns`."""
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class ProgressView:
    """A context manager whose `watcher` an extraction reports to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = make_bar(console, MofNCompleteColumn(), TextColumn("{task.fields[detail]}"))
        self._tasks: dict[str, TaskID] = {}
        self._last_line = monotonic()

    def __enter__(self) -> "ProgressView":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def watcher(self) -> Watcher:
        """What to hand to `extract`."""
        return Watcher(self._show_stage, self._show_drawing, self._show_progress)

    def _show_stage(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)

    def _show_drawing(self, done: int, total: int) -> None:
        self._show("drawing", done, total, "")

    def _show_progress(self, progress: Progress) -> None:
        self._show("extracting", progress.done, progress.total, describe(progress))

    def _show(self, what: str, done: int, total: int, detail: str) -> None:
        if self._console.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, detail="")
            self._bar.update(self._tasks[what], completed=done, total=total, detail=detail)
        elif done == total or monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = monotonic()
            self._console.print(f"{what} {done}/{total}  {detail}".rstrip(), soft_wrap=True)


def describe(progress: Progress) -> str:
    """One line: rate, time to go, and what the three stages have spent."""
    minutes, seconds = divmod(int(min(progress.remaining, 359_999)), 60)
    return (
        f"{progress.rate:.1f} images/s  {minutes}:{seconds:02d} to go  "
        f"reading {progress.reading:.0f} s  computing {progress.computing:.0f} s  writing {progress.writing:.0f} s"
    )
