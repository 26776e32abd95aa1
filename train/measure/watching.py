"""Shows a training as it goes on: a bar on a terminal, a line for each epoch elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.progress import TaskID, TextColumn
from rich.table import Column

from msdn.terminal import NARROW, has_bar, is_verbose, make_bar, note_console, say, time_to_go
from msdn.train.measure.reporting import epoch_figures, epoch_line, terms_note
from msdn.train.measure.selection import RATE


class EpochView:
    """A context manager that is called with each epoch's record.

    Attributes:
        every: where there is no bar, the first and last epoch have a line, and each of so many.
        explains: whether the first line comes with the meaning of its loss terms.
    """

    def __init__(self, every: int = 1, *, explains: bool = False) -> None:
        """Take standard error."""
        self.every, self.explains = every, explains
        console = note_console()
        self._has_bar = has_bar(console)
        self._shown = 1 if console.width < NARROW else 4  # figures beside the loss
        detail = TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True), markup=False)
        self._bar = make_bar(console, detail, what=24, room=38 if console.width < NARROW else 76)
        self._task: TaskID | None = None
        self._seconds: list[float] = []

    def __enter__(self) -> "EpochView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Show one more epoch."""
        is_told = record["epoch"] in (1, record["epochs"]) or record["epoch"] % self.every == 0
        if is_told and (not self._has_bar or is_verbose()):
            self._say(record)
        if self._has_bar:
            self._move(record)

    def _say(self, record: Mapping[str, Any]) -> None:
        if self.explains and (meanings := terms_note(record)):
            say(meanings)
        self.explains = False
        say(epoch_line(record))

    def _move(self, record: Mapping[str, Any]) -> None:
        phase, epoch, epochs = str(record.get("phase", "")), record["epoch"], record["epochs"]
        if self._task is None:
            self._task, self._seconds = self._bar.add_task("", detail=""), []
            self._bar.start()
        self._seconds.append(record["seconds"])
        left = (epochs - epoch) * sum(self._seconds) / len(self._seconds)
        what = f"{phase} epoch {epoch:>{len(str(epochs))}}/{epochs}".strip()
        loss = [f"loss {record['loss']:.4g}"] if "loss" in record else []
        rate = [f"lr {record[RATE]:.3g}"] if RATE in record else []
        detail = "  ".join([*rate, *loss, *epoch_figures(record)[: self._shown], time_to_go(left)])
        self._bar.update(self._task, completed=epoch, total=epochs, description=what, detail=detail)
        if epoch == epochs:
            self._bar.remove_task(self._task)
            self._bar.stop()
            self._task = None
            if not is_verbose():
                self._say(record)
