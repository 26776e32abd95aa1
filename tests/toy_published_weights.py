"""Published weights for tests: MSDN's made from models of ours, and the images of golden files as a dataset."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdn.cache import FeatureCache
from msdn.cache.annotations import Annotations
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


def golden_annotations(golden: dict[str, np.ndarray], dataset: str) -> Annotations:
    """The images of a golden file as seen test images, followed by one more of every class."""
    classes, images = len(golden["att_raw"]), len(golden["labels"])
    extra = np.arange(classes) + images
    trainval, no_rows = extra[golden["seen"]], np.array([], np.int64)
    return Annotations(
        dataset=dataset,
        image_paths=tuple(f"{row}.jpg" for row in range(images + classes)),
        labels=np.concatenate([golden["labels"], np.arange(classes)]),
        class_names=tuple(f"class_{c}" for c in range(classes)),
        attributes=golden["att_raw"],
        attribute_names=(),
        attribute_vectors=None,
        splits={
            "trainval": trainval,
            "train": trainval,
            "val": no_rows,
            "test_seen": np.arange(images),
            "test_unseen": extra[golden["unseen"]],
        },
    )
