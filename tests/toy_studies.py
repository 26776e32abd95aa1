"""Homes for studies, epochs counted as they are trained, and the `msdn` command on such a home."""

import csv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from toy_runs import write_split_cache

from msdn.cache import Home
from msdn.cli import main
from msdn.train.loop.training import Trainer

SHORT = ("--epochs", "2", "--batch-size", "8", "--jobs", "1", "--device", "cpu")


def make_home(tmp_path: Path) -> Home:
    """A home with a small cache of the dataset 'toy'."""
    home = Home(tmp_path / "home")
    write_split_cache(home.features / "toy-224-random.h5")
    return home


def run_msdn(home: Home, *arguments: str) -> Result:
    """Run `msdn` in this process."""
    result = CliRunner().invoke(main, [*arguments, "--home", str(home.root)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


class Epochs:
    """Counts the epochs that are trained; interrupts the training before one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.stop_before: int | None = None
        train_epoch = Trainer.train_epoch

        def counted(trainer: Trainer, epoch: int) -> dict[str, float]:
            if self.count + 1 == self.stop_before:
                raise KeyboardInterrupt
            self.count += 1
            return train_epoch(trainer, epoch)

        patch.setattr(Trainer, "train_epoch", counted)


def read_csv(path: Path) -> list[dict[str, Any]]:
    """A CSV file's lines by its columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
