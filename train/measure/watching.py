"""Shows trainings as they go on: a bar on a terminal, a line for each epoch elsewhere."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.progress import TaskID, TextColumn
from rich.table import Column

from msdn.terminal import NARROW, has_bar, is_verbose, make_bar, note_console, say, time_to_go
from msdn.train.loop.settings import RunSettings
from msdn.train.measure.reporting import epoch_figures, epoch_line, terms_note
from msdn.train.measure.selection import RATE, VALIDATION

_Phase = tuple[str, float | None]  # its name, and the learning rate where several are tried


class EpochView:
    """A context manager that is called with each epoch's record.

    Attributes:
        every: where there is no bar, the first and last epoch have a line, and each of so many.
        explains: whether a loss term's meaning is said where it comes up first.
    """

    def __init__(self, every: int = 1, *, explains: bool = False) -> None:
        """Take standard error."""
        self.every, self.explains = every, explains
        self._explained: set[str] = set()
        console = note_console()
        self._has_bar = has_bar(console)
        self._shown = 1 if console.width < NARROW else 4  # figures beside the loss
        detail = TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True), markup=False)
        self._bar = make_bar(console, detail, what=28, room=38 if console.width < NARROW else 76)
        self._task: TaskID | None = None
        self._seconds: list[float] = []
        self._phases: list[_Phase] = [("", None)]

    def __enter__(self) -> "EpochView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect(self, settings: RunSettings) -> None:
        """Take what is trained, so that the bar counts all its phases: validation for each learning rate, then all."""
        rates: Sequence[float | None] = settings.searched_rates or (None,)
        validated = [(VALIDATION, rate) for rate in rates] if settings.select == "val" else []
        self._phases, self._seconds = [*validated, ("", None)], []

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Show one more epoch."""
        is_told = record["epoch"] in (1, record["epochs"]) or record["epoch"] % self.every == 0
        if is_told and (not self._has_bar or is_verbose()):
            self._say(record)
        if self._has_bar:
            self._move(record)

    def _say(self, record: Mapping[str, Any]) -> None:
        new = {name: value for name, value in record.items() if name not in self._explained}
        if self.explains and (meanings := terms_note(new)):
            say(meanings)
        self._explained |= new.keys()
        say(epoch_line(record))

    def _move(self, record: Mapping[str, Any]) -> None:
        phase, epoch, epochs = str(record.get("phase", "")), record["epoch"], record["epochs"]
        if self._task is None:
            self._task = self._bar.add_task("", detail="")
            self._bar.start()
        this = (phase, record.get(RATE))
        number = self._phases.index(this) if this in self._phases else len(self._phases) - 1
        after = len(self._phases) - 1 - number  # as long as this one, at most
        self._seconds.append(record["seconds"])
        left = (epochs - epoch + after * epochs) * sum(self._seconds) / len(self._seconds)
        of_all = f"{number + 1} of {len(self._phases)}:" if len(self._phases) > 1 else ""
        words = (of_all, phase, "" if of_all and phase else "epoch", f"{epoch:>{len(str(epochs))}}/{epochs}")
        what = " ".join(filter(None, words))
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


class SeriesView:
    """A context manager that shows trainings in processes of their own: a line where one begins, a bar over all."""

    def __init__(self, count: int) -> None:
        """Take standard error, and how many trainings there are."""
        console = note_console()
        column = Column(no_wrap=True, overflow="ellipsis")
        detail = TextColumn("{task.fields[detail]}", table_column=column, markup=False)
        self._bar = make_bar(console, detail, what=16, room=46 if console.width < NARROW else 76)
        self._task = self._bar.add_task(f"done 0 of {count}", total=count, detail="")
        self._count, self._ended = count, 0
        self._running: dict[str, str] = {}

    def __enter__(self) -> "SeriesView":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, name: str, told: str | Mapping[str, Any]) -> None:
        """Say which run a training has begun, or show how far it is by an epoch's record."""
        if isinstance(told, str):
            say(f"{name}: run: {told}")
            return
        phase = f"lr {told[RATE]:.3g} " if RATE in told else f"{told['phase']} " if "phase" in told else ""
        self._running[name] = f"{name}: {phase}epoch {told['epoch']}/{told['epochs']}"
        self._bar.update(self._task, detail="; ".join(self._running.values()))

    def end(self, name: str) -> None:
        """Count a training as done."""
        self._ended += 1
        self._running.pop(name, None)
        what, detail = f"done {self._ended} of {self._count}", "; ".join(self._running.values())
        self._bar.update(self._task, completed=self._ended, description=what, detail=detail)
