"""One model, its optimiser and its sampler: an epoch at a time."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdn.train.errors import RunError, TrainError
from msdn.train.loop.batches import SAMPLERS, FeatureSource
from msdn.train.loop.ranks import ALONE, Ranks
from msdn.train.models.parts.base import SolvedModel, ZslModel

_SOLVED_AT_ONCE = 64  # images of a batch for a model that is solved


class Trainer:
    """One model, its optimiser and its sampler: an epoch at a time, with a state that continues exactly.

    Attributes:
        model: the module in training.
    """

    def __init__(
        self,
        model: ZslModel,
        settings: Any,
        features: FeatureSource,
        rows: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        """Take the training `rows` and the `labels` of all images of the cache; `ranks` share every batch."""
        self.model = model.to(device)
        self._ranks = ranks
        self._features = features
        self._rows = rows
        self._labels = labels
        self._device = device
        if not isinstance(model, SolvedModel):
            self._sampler = SAMPLERS[settings.sampler](rows, labels[rows], settings.batch_size, settings.seed)
            self._optimizer = torch.optim.RMSprop(
                self.model.parameters(),
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
                momentum=settings.momentum,
            )

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Take the steps of an epoch, counted from 1, or solve; return the mean of each loss term over them."""
        self.model.train()
        if isinstance(self.model, SolvedModel):
            means, advice = self._solve(self.model), "extract the features again if they are not finite"
        else:
            means, advice = self._take_steps(epoch), "train again with a lower --lr or --lambda-cal"
        if not all(math.isfinite(value) for value in means.values()):
            raise TrainError(f"the loss is no longer finite; {advice}")
        if not all(torch.isfinite(value).all() for value in self.model.state_dict().values()):
            raise TrainError(f"the weights are no longer finite; {advice}")
        return means

    def _take_steps(self, epoch: int) -> dict[str, float]:
        """The steps of an epoch; no number comes back from a GPU before the last one."""
        plan = [self._sampler.draw() for _ in range(self._sampler.steps_in(epoch))]
        labels = self._labels_of(plan)
        sums: dict[str, Tensor] = {}
        drawn = torch.get_rng_state()
        shares = [self._ranks.share(rows) for rows in plan]
        for batch, own in zip(self._features.batches(shares), labels, strict=True):
            for name, value in self._step(batch, own).items():
                sums[name] = sums[name] + value if name in sums else value
            if self._ranks.count > 1 and not torch.equal(drawn, torch.get_rng_state()):
                raise TrainError(
                    "the model draws random numbers in every step, and several processes would draw others than one; "
                    "train it in one process"
                )
        means = torch.stack([*sums.values()]).cpu().double().div(len(plan)).tolist()
        return dict(zip(sums, means, strict=True))

    def _step(self, batch: Tensor, labels: Tensor) -> dict[str, Tensor]:
        losses = self.model.losses(self._ranks.gather(self.model(batch), len(labels)), labels)
        self._optimizer.zero_grad()
        losses["loss"].backward()
        self._ranks.sum_gradients(self.model.parameters())
        self._optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def _labels_of(self, plan: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """The labels of each batch, on the device: one transfer for all of them."""
        labels = torch.from_numpy(self._labels[np.concatenate(plan)]).to(self._device)
        return labels.split([len(rows) for rows in plan])

    @torch.no_grad()
    def _solve(self, model: SolvedModel) -> dict[str, float]:
        starts = range(0, len(self._rows), _SOLVED_AT_ONCE)
        plan = [self._rows[start : start + _SOLVED_AT_ONCE] for start in starts]

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            yield from zip(self._features.batches(plan), self._labels_of(plan), strict=True)

        return {name: float(value) for name, value in model.solve(batches).items()}

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        on_gpu = self._device.type == "cuda"
        state = {
            "model": self.model.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if on_gpu else None,
        }
        if not isinstance(self.model, SolvedModel):
            state |= {"optimizer": self._optimizer.state_dict(), "sampler": self._sampler.state}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` gave."""
        try:
            self.model.load_state_dict(state["model"])
            if not isinstance(self.model, SolvedModel):
                self._optimizer.load_state_dict(state["optimizer"])
                self._sampler.state = state["sampler"]
            torch.set_rng_state(state["torch_rng"])
            if self._device.type == "cuda" and state["cuda_rng"] is not None:
                torch.cuda.set_rng_state(state["cuda_rng"], self._device)
        except (LookupError, ValueError, RuntimeError, TypeError, AttributeError, OverflowError) as error:
            raise RunError("the checkpoint does not fit the run's model; train it again") from error
