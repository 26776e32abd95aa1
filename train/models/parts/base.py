"""What the trainer asks of a model, and how one is built by name."""

from typing import Any

from torch import Tensor, nn

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError
from msdn.train.loop.settings import RunSettings
from msdn.train.models.parts.problem import Problem
from msdn.train.models.registry import find_model


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


def check_buildable(cache: FeatureCache, settings: RunSettings) -> None:
    """Raise a `TrainError` when the cache lacks what the model needs."""
    wanted = getattr(settings, "vectors", None) == "given"  # of the models that start from vectors
    if wanted and cache.annotations.attribute_vectors is None:
        raise TrainError(
            f"{cache.path}: holds no attribute vectors, and the model '{settings.model}' needs one of every attribute; "
            f"make them with 'msdn data vectors {cache.annotations.dataset}' and add them with "
            f"'msdn cache annotate {cache.path} --vectors FILE', or train with --vectors learned, or --model baseline"
        )


def build_model(problem: Problem, settings: RunSettings) -> ZslModel:
    """Build the model that the settings name, with weights drawn from torch's global generator."""
    return find_model(settings.model).network(problem, settings)
