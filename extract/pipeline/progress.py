"""What an extraction reports as it goes on, and how that is shown on stderr.

It is a bar on a terminal, a line now and then elsewhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import MofNCompleteColumn, TaskID, TextColumn
from rich.table import Column

from msdn.terminal import NARROW, has_bar, make_bar, time_to_go

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
        """Seconds still to go; infinite where that cannot be known."""
        left = self.total - self.done
        return left / self.rate if self.rate else math.inf if left else 0.0

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


class ProgressView:
    """A context manager whose `watcher` an extraction reports to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_narrow = console.width < NARROW
        detail = TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True))
        self._bar = make_bar(
            console, MofNCompleteColumn(), detail, what=10, room=43 if self._is_narrow else 88
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = monotonic()

    def __enter__(self) -> "ProgressView":
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
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _show_drawing(self, done: int, total: int) -> None:
        self._show("drawing", done, total)

    def _show_progress(self, progress: Progress) -> None:
        self._show("extracting", progress.done, progress.total, progress)

    def _show(self, what: str, done: int, total: int, progress: Progress | None = None) -> None:
        if has_bar(self._console):
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, detail="")
                self._bar.start()
            detail = describe(progress, with_stages=not self._is_narrow) if progress else ""
            self._bar.update(self._tasks[what], completed=done, total=total, detail=detail)
            if done == total:  # other bars may follow
                self._bar.remove_task(self._tasks.pop(what))
                self._bar.stop()
        elif done == total or monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = monotonic()
            detail = describe(progress) if progress else ""
            self._console.print(f"{what} {done}/{total}  {detail}".rstrip(), soft_wrap=True, highlight=False)


def describe(progress: Progress, with_stages: bool = True) -> str:
    """One line: rate, time to go, and what the three stages have spent."""
    if not progress.computed:  # nothing was timed
        return ""
    text = f"{progress.rate:.1f} images/s  {time_to_go(progress.remaining)}"
    if not with_stages:
        return text
    stages = (f"{stage} {getattr(progress, stage):.0f} s" for stage in ("reading", "computing", "writing"))
    return "  ".join([text, *stages])
