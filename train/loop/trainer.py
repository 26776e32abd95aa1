"""One model, its optimiser and its sampler: an epoch at a time, with a state that continues exactly."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdn.train.errors import RunError, TrainError
from msdn.train.loop.features import FeatureSource
from msdn.train.loop.samplers import SAMPLERS
from msdn.train.loop.settings import TrainingSettings
from msdn.train.models.parts.base import ZslModel


class Trainer:
    """Trains a model on rows of a feature source.

    Attributes:
        model: the module in training.
    """

    def __init__(
        self,
        model: ZslModel,
        settings: TrainingSettings,
        features: FeatureSource,
        rows: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
    ) -> None:
        """Take the training `rows` and the `labels` of all images of the cache."""
        self.model = model.to(device)
        self._features = features
        self._labels = torch.from_numpy(labels).to(device)
        self._device = device
        self._sampler = SAMPLERS[settings.sampler](rows, labels[rows], settings.batch_size, settings.seed)
        self._optimizer = torch.optim.RMSprop(
            self.model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
        )

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Take the steps of an epoch, counted from 1; return the mean of each loss term over them."""
        self.model.train()
        steps = self._sampler.steps_in(epoch)
        sums: dict[str, Tensor] = {}
        for _ in range(steps):
            for name, value in self._step(self._sampler.draw()).items():
                sums[name] = sums[name] + value if name in sums else value
        means = {name: float(value) / steps for name, value in sums.items()}
        if not all(math.isfinite(value) for value in means.values()):
            raise TrainError(
                "the loss is no longer finite; train again with a lower --lr or --lambda-cal, "
                "or extract the features again if they are not finite"
            )
        if not all(torch.isfinite(parameter).all() for parameter in self.model.parameters()):
            raise TrainError("the weights are no longer finite; train again with a lower --lr")
        return means

    def _step(self, rows: np.ndarray) -> dict[str, Tensor]:
        labels = self._labels[torch.from_numpy(rows).to(self._device)]
        losses = self.model.losses(self.model(self._features.read(rows)), labels)
        self._optimizer.zero_grad()
        losses["loss"].backward()
        self._optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        on_gpu = self._device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "sampler": self._sampler.state,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if on_gpu else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` gave."""
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._sampler.state = state["sampler"]
            torch.set_rng_state(state["torch_rng"])
            if self._device.type == "cuda" and state["cuda_rng"] is not None:
                torch.cuda.set_rng_state(state["cuda_rng"], self._device)
        except (LookupError, ValueError, RuntimeError, TypeError, AttributeError, OverflowError) as error:
            raise RunError("the checkpoint does not fit the run's model; train it again") from error
