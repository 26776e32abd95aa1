"""Short trainings, epochs counted as they are trained, and CSV files read."""

import csv
from pathlib import Path
from typing import Any

import pytest

from msdn.train.loop.trainer import Trainer

SHORT = ("--epochs", "2", "--batch-size", "8", "--jobs", "1", "--device", "cpu")


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
