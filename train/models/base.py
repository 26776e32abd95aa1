"""What the trainer asks of a model, and how one is built by name."""

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from msdn.train.errors import TrainError
from msdn.train.models.registry import model_entry
from msdn.train.problem import Problem
from msdn.train.settings import TrainSettings


class ZslModel(nn.Module):
    """A module that owns its parameters, scores, loss terms and prediction.

    What `forward` makes of raw region features [B, R, F] is the model's own affair: only its other two methods
    read it.
    """

    def losses(self, scores: Any, labels: Tensor) -> dict[str, Tensor]:
        """Loss terms, unweighted, and under "loss" the total to descend."""
        raise NotImplementedError

    def class_scores(self, scores: Any) -> Tensor:
        """The scores [B, C] that predict, without margin."""
        raise NotImplementedError


def check_buildable(problem: Problem, model: str) -> None:
    """Raise a `TrainError` when the features lack what the model needs."""
    if model_entry(model).needs_vectors and problem.attribute_vectors is None:
        raise TrainError(
            f"the model '{model}' needs a word vector of every attribute, and this cache holds none: "
            "give the dataset attribute vectors and extract again, or train '--model baseline', which needs none"
        )


def build_model(problem: Problem, settings: TrainSettings) -> ZslModel:
    """Build the model that the settings name, with weights drawn from torch's global generator."""
    check_buildable(problem, settings.model)
    module, function = model_entry(settings.model).build.split(":")
    model: ZslModel = getattr(import_module(module), function)(problem, settings)
    return model
