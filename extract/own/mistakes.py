"""What is wrong with a dataset of the user's own, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msdn.cache.csv_table import CsvTable, read_csv
from msdn.extract.errors import DatasetError
from msdn.terminal import escape

NAMED = 10


@dataclass(frozen=True)
class Mistake:
    """One thing to fix.

    Attributes:
        file: the file or folder it is in.
        message: what is wrong, and what to do.
        line: the line it begins in, from 1, where there is one.
    """

    file: Path
    message: str
    line: int | None = None

    def __str__(self) -> str:
        """`file:line: message`, printable whatever the file's name holds."""
        place = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        return escape(f"{place}: {self.message}")


@dataclass(frozen=True)
class Report:
    """Collects the mistakes of one file into a list that other files share."""

    file: Path
    found: list[Mistake]

    def add(self, message: str, line: int | None = None) -> None:
        """Note a mistake."""
        self.found.append(Mistake(self.file, message, line))

    def read_csv(self, first: tuple[str, ...], others: tuple[str, ...] | None = None) -> CsvTable | None:
        """Read the file as `cache.csv_table.read_csv` does."""
        return read_csv(self.file, first, self.add, others)


def refuse(mistakes: Sequence[Mistake], advice: str = "") -> None:
    """Raise a `DatasetError` that counts the mistakes and names the first ten; none are no error."""
    if len(mistakes) == 1:
        raise DatasetError(str(mistakes[0]))
    if mistakes:
        named = "".join(f"\n  {mistake}" for mistake in mistakes[:NAMED])
        more = f"\n  and {len(mistakes) - NAMED} more" if len(mistakes) > NAMED else ""
        raise DatasetError(f"{len(mistakes)} mistakes:{named}{more}" + (f"\n{advice}" if advice else ""))
