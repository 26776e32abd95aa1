"""What the trainer asks of a model, and how one is built by name."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from msdn.cache import FeatureCache
from msdn.cache.home import command_line
from msdn.train.errors import TrainError
from msdn.train.loop.settings import RunSettings
from msdn.train.models.parts.problem import Problem
from msdn.train.models.parts.regions import unit_regions
from msdn.train.models.registry import find_model

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Batches = Callable[
    [], Iterator[tuple[Tensor, Tensor]]
]  # a pass: features [B, R, F] in float32, and labels [B]


class ZslModel(nn.Module):
    """A module that owns its parameters, scores, loss terms and prediction, and is trained by steps.

    What `forward` makes of prepared regions [B, R, F] is the model's own affair: only `losses` and `class_scores`
    read it.
    """

    def prepare(self, regions: Tensor, dtype: torch.dtype) -> Tensor:
        """What `forward` takes, of regions [B, R, F] that a cache holds: here, each region scaled to length 1.

        It is done once for every image, before the training: no weight may decide anything here.

        Args:
            regions: as the cache has them.
            dtype: of the products with the regions, and so of what is returned: narrower than float32 only for a model
                whose record says `narrows`.
        """
        return unit_regions(regions, dtype)

    def losses(self, scores: Any, labels: Tensor) -> dict[str, Tensor]:
        """Loss terms, unweighted, and under "loss" the total to descend."""
        raise NotImplementedError

    def class_scores(self, scores: Any) -> Tensor:
        """The scores [B, C] that predict, without margin."""
        raise NotImplementedError

    def attention(self, regions: Tensor) -> dict[str, Tensor]:
        """Where each branch looks for each attribute: [B, R, K], at least 0, by the branch's name.

        Asked only of a model whose record says `attends`, as is `attribute_scores`.
        """
        raise NotImplementedError

    def attribute_scores(self, regions: Tensor) -> dict[str, Tensor]:
        """What each branch says of each attribute by what it sees there: [B, K] by the branch's name."""
        raise NotImplementedError


class SolvedModel(ZslModel):
    """A model that is solved in closed form: no steps, no loss. Its settings extend `RunSettings`.

    What it finds has to be in its `state_dict`, as parameters or as buffers. Its regions come as the cache has them.
    """

    def prepare(self, regions: Tensor, dtype: torch.dtype) -> Tensor:
        """The regions as they are, in float32."""
        return regions.to(dtype)

    def solve(self, batches: Batches) -> dict[str, float]:
        """Find the weights; what is returned is shown and recorded as the one epoch's.

        Args:
            batches: called for each pass over the training images, which come once a pass, in the same order.
        """
        raise NotImplementedError


def preparation(model: ZslModel, precision: str) -> Callable[[Tensor], Tensor]:
    """What turns regions of a cache into what the model takes, in a training of this precision."""
    return partial(model.prepare, dtype=_TYPES[precision])


def check_buildable(cache: FeatureCache, settings: RunSettings) -> None:
    """Raise a `TrainError` when the cache lacks what the model needs."""
    wanted = getattr(settings, "vectors", None) == "given"  # of the models that start from vectors
    if wanted and cache.annotations.attribute_vectors is None:
        make = command_line("data", "vectors", cache.annotations.dataset)
        add = command_line("cache", "annotate", cache.path, "--vectors", "FILE")
        raise TrainError(
            f"{cache.path}: holds no attribute vectors, and the model '{settings.model}' needs one of every attribute; "
            f"train with --vectors learned, or --model baseline, or make them and add them:\n  {make}\n  {add}"
        )


def build_model(problem: Problem, settings: RunSettings) -> ZslModel:
    """Build the model that the settings name, with weights drawn from torch's global generator."""
    return find_model(settings.model).network(problem, settings)
