"""What the trainer asks of a model, and how one is built by name."""

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError
from msdn.train.loop.settings import TrainSettings
from msdn.train.models.parts.problem import Problem
from msdn.train.models.registry import model_entry


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


def check_buildable(cache: FeatureCache, settings: TrainSettings) -> None:
    """Raise a `TrainError` when the cache lacks what the model needs."""
    wanted = model_entry(settings.model).needs_vectors and settings.vectors == "given"
    if wanted and cache.annotations.attribute_vectors is None:
        raise TrainError(
            f"{cache.path}: holds no attribute vectors, and the model '{settings.model}' needs one of every attribute; "
            f"make them with 'msdn data vectors {cache.annotations.dataset}' and add them with "
            f"'msdn cache annotate {cache.path} --vectors FILE', or train with --vectors learned, or --model baseline"
        )


def build_model(problem: Problem, settings: TrainSettings) -> ZslModel:
    """Build the model that the settings name, with weights drawn from torch's global generator."""
    module, function = model_entry(settings.model).build.split(":")
    model: ZslModel = getattr(import_module(module), function)(problem, settings)
    return model
