"""Checkpoints in the format of the published MSDN, made from models of ours."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdn.cache import FeatureCache
from msdn.train.loop.settings import RunSettings
from msdn.train.models.msdn.network import Msdn, build_msdn
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.registry import settings_of

D = 9
State = dict[str, Any]


def random_model(cache: FeatureCache, settings: RunSettings | None = None) -> Msdn:
    """Our MSDN with every parameter random."""
    torch.manual_seed(3)
    problem = dataclasses.replace(
        problem_of(cache), attribute_vectors=np.ones((cache.annotations.attributes.shape[1], D))
    )
    model = build_msdn(problem, dataclasses.replace(settings or settings_of(), vectors="given"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def released_state(model: Msdn) -> State:
    """The state dict that the release would have saved of this model."""
    classes = len(model.classes.attributes)
    return {
        "att": model.classes.attributes,
        "V": model.word_vectors.detach(),
        "W_1": model.av_score.detach(),
        "W_2": model.av_attention.detach(),
        "W_3": torch.randn_like(model.av_score),
        "W_1_1": model.va_score.detach().T.contiguous(),
        "W_2_1": model.va_attention.detach(),
        "W_3_1": torch.randn_like(model.va_score.T),
        "bias": torch.tensor(1),
        "mask_bias": torch.where(model.classes.seen, -1.0, 1.0)[None],
        "weight_ce": torch.eye(classes),
        "prob_prune": torch.tensor(0),
    }


def save(path: Path, state: Any, **options: Any) -> Path:
    torch.save(state, path, **options)
    return path


def with_backbone(state: State) -> State:
    return {**state, "resnet101.0.weight": torch.zeros(3), "resnet101.1.num_batches_tracked": torch.tensor(4)}
