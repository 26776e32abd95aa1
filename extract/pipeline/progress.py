"""Shows an extraction's progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import MofNCompleteColumn, TaskID, TextColumn

from msdn.extract.pipeline.bar import QUIET_SECONDS, make_bar
from msdn.extract.pipeline.extraction import Watcher
from msdn.extract.pipeline.filling import Progress


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
