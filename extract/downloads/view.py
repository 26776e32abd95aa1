"""Shows downloads on stderr: a bar with speed and time to go on a terminal, a line now and then elsewhere."""

import logging
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import DownloadColumn, TaskID, TimeRemainingColumn, TransferSpeedColumn

from msdn.extract.pipeline.progress import QUIET_SECONDS, make_bar


class DownloadView(logging.Handler):
    """A context manager whose `report` a download calls; what the download logs is shown too."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._logger = logging.getLogger("msdn.extract.downloads")
        self._bar = make_bar(console, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._tasks: dict[str, TaskID] = {}
        self._line = ("", 0, 0.0)  # what the last lines were about, where and when it began
        self._said = ("", 0)
        self._last_line = monotonic()

    def __enter__(self) -> "DownloadView":
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a download logs."""
        self.say(record.getMessage())

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def report(self, what: str, done: int, total: int | None) -> None:
        """Show how far something has come."""
        if self._console.is_terminal:
            self._move_bar(what, done, total)
        elif what != self._line[0]:
            self._line = (what, done, monotonic())
        elif (what, done) != self._said and (done == total or monotonic() - self._last_line > QUIET_SECONDS):
            self._said, self._last_line = (what, done), monotonic()
            self.say(
                describe(what, done, total, (done - self._line[1]) / (monotonic() - self._line[2] + 1e-9))
            )

    def _move_bar(self, what: str, done: int, total: int | None) -> None:
        if what not in self._tasks:
            for task in self._tasks.values():
                self._bar.remove_task(task)
            self._tasks = {what: self._bar.add_task(what, total=total, completed=done)}
        self._bar.update(self._tasks[what], completed=done, total=total)


def describe(what: str, done: int, total: int | None, rate: float) -> str:
    """One line: how much of how much, how fast, and how long it will take."""
    if total is None:
        return f"{what} {done / 1e6:.1f} MB  {rate / 1e6:.1f} MB/s"
    minutes, seconds = divmod(int(min((total - done) / max(rate, 1.0), 359_999)), 60)
    return (
        f"{what} {done / 1e6:.1f}/{total / 1e6:.1f} MB  {rate / 1e6:.1f} MB/s  {minutes}:{seconds:02d} to go"
    )
