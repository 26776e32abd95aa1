"""How far a series of trainings is, on stderr. No torch."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from msdn.train.measure.reporting import epoch_line, percent
from msdn.train.runs.results import COMPARED


def say(line: str) -> None:
    """A line of progress, on stderr."""
    click.echo(line, err=True)
    sys.stderr.flush()


class Progress:
    """A line for each run that begins, its epochs, and each result."""

    def __init__(self, jobs: int) -> None:
        """Expect so many results."""
        self._jobs, self._done = jobs, 0

    def begin(self, run: Any) -> None:
        """A run begins."""
        say(f"run: {run.path}")

    def show_epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch was trained."""
        say(epoch_line(record))

    def show_result(self, name: str, result: Mapping[str, Any]) -> None:
        """The job of that name was measured, or failed."""
        self._done += 1
        outcome = "  ".join(f"{name} {percent(result.get(name))}" for name in COMPARED)
        if result.get("failed"):
            outcome = f"failed: {result['failed']}"
        say(f"done {self._done} of {self._jobs}: {name}  {outcome}")


@contextmanager
def told_when_interrupted() -> Iterator[None]:
    """Say how a series goes on when it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it stopped")
        raise
