"""The loop over a run's epochs, which keeps metrics, checkpoint and the best weights in step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msdn.train.errors import RunError, TrainError
from msdn.train.loop.checkpoints import load_checkpoint, save_checkpoint
from msdn.train.loop.trainer import Trainer
from msdn.train.measure.scored import accuracies, validation_figures
from msdn.train.measure.scoring import Scorer
from msdn.train.measure.selection import VALIDATION, figure_of, kept_tasks
from msdn.train.runs.run import Run

Record = dict[str, Any]
_SAVING_SHARE = 0.1  # at most this share of the time goes into checkpoints; a short run has one per epoch
_ALWAYS_SAVE_AFTER = 30.0  # seconds


class EpochLoop:
    """Trains the stages of a run, from its last checkpoint on.

    Attributes:
        records: what every epoch so far gave, of all stages.
        kept: where the epoch is chosen on the test classes, the best epoch's weights of each task.
    """

    def __init__(self, run: Run, on_epoch: Callable[[Record], None] | None) -> None:
        """Read the run's checkpoint, if there is one, and drop the records of later epochs."""
        self._run, self._on_epoch = run, on_epoch
        self._saving = _SavingTimes()
        self._state: dict[str, Any] | None = None
        self.records: list[Record] = []
        self.kept: dict[str, dict[str, Any]] = {}
        if run.checkpoint.exists():
            content = load_checkpoint(run.checkpoint)
            if content["fingerprint"] != run.manifest["cache"]["fingerprint"]:
                raise RunError(f"{run.checkpoint}: belongs to another run; train the model again")
            self.records, self.kept, self._state = content["metrics"], content["kept"], content["trainer"]
        run.write_metrics(self.records)  # epochs after the checkpoint are trained, and recorded, again

    def missing(self, stage: str | None, epochs: int) -> int:
        """How many epochs of a stage are still to be trained."""
        return epochs - sum(record.get("stage") == stage for record in self.records)

    def chosen(self) -> dict[str, Any]:
        """The epoch that was kept for each task, with its test figures."""
        return {task: {k: v for k, v in best.items() if k != "weights"} for task, best in self.kept.items()}

    def train(self, stage: str | None, epochs: int, trainer: Trainer, scorer: Scorer | None) -> None:
        """Train a stage to its last epoch; measure each epoch where there is a `scorer`."""
        first = epochs - self.missing(stage, epochs) + 1
        if first > 1 and self._state:
            trainer.restore(self._state)
        for epoch in range(first, epochs + 1):
            self._train_epoch(stage, (epoch, epochs), trainer, scorer)
            if self._saving.due() or epoch == epochs:
                with self._saving.measured():
                    self._save(trainer)
            if self._on_epoch:
                self._on_epoch(self.records[-1])

    def _train_epoch(
        self, stage: str | None, of: tuple[int, int], trainer: Trainer, scorer: Scorer | None
    ) -> None:
        started = time.perf_counter()
        record: Record = {"stage": stage} if stage else {}
        try:
            record |= {"epoch": of[0], "epochs": of[1], **trainer.train_epoch(of[0])}
        except TrainError as error:
            raise TrainError(f"epoch {of[0]}: {error}") from error
        if scorer:
            scored = scorer.score(trainer.model)
            record |= (
                validation_figures(scored)
                if stage == VALIDATION
                else accuracies(scored, self._run.settings.margin)
            )
        record["seconds"] = round(time.perf_counter() - started, 3)
        self.records.append(record)
        self._run.append_metrics(record)
        if stage is None:
            self._keep_best(record, trainer)

    def _keep_best(self, record: Record, trainer: Trainer) -> None:
        for task in kept_tasks(self._run.settings):
            best = self.kept.get(task)
            if best is None or figure_of(task, record) > figure_of(task, best):
                figures = {name: record[name] for name in ("epoch", "U", "S", "H", "acc")}
                weights = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
                self.kept[task] = {**figures, "weights": weights}

    def _save(self, trainer: Trainer) -> None:
        content = {
            "epoch": len(self.records),
            "settings": self._run.settings.as_json(),
            "fingerprint": self._run.manifest["cache"]["fingerprint"],
            "metrics": self.records,
            "trainer": trainer.state(),
            "kept": self.kept,
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        }
        save_checkpoint(self._run.checkpoint, content)


class _SavingTimes:
    """Says when the next checkpoint is due: after every epoch, unless saving would take too much of the time."""

    def __init__(self) -> None:
        self._last = -float("inf")
        self._took = 0.0

    def due(self) -> bool:
        waited = time.perf_counter() - self._last
        return waited >= min(self._took / _SAVING_SHARE, _ALWAYS_SAVE_AFTER)

    @contextmanager
    def measured(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._took = self._last - started
