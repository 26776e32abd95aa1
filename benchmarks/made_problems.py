"""Problems of any size with random features, and steps of the product's trainer on them: for benchmarks of training.

A step's time does not depend on the values, so that no dataset is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from msdn.train.loop.batches import FeatureSource
from msdn.train.loop.trainer import Trainer
from msdn.train.models.parts.base import build_model, preparation
from msdn.train.models.parts.problem import AttributeGroup, Problem
from msdn.train.models.registry import settings_of

CUB_GROUPS = (112, 87, 24, 40, 15, 34)  # attributes of each of CUB's published groups


@dataclass(frozen=True)
class Size:
    """How large a problem is; as it stands, CUB at 224 pixels with 500 of its images."""

    images: int = 500
    seen: int = 150
    unseen: int = 50
    attributes: int = 312
    words: int = 300
    regions: int = 49
    channels: int = 2048
    batch: int = 50


@dataclass(frozen=True)
class Made:
    """A problem, features [N, R, F] and labels of its images, all random."""

    size: Size
    problem: Problem
    features: np.ndarray
    labels: np.ndarray


def make(size: Size) -> Made:
    """A problem of this size. The features of the first images are used again where there are many."""
    rng = np.random.default_rng(0)
    shares = np.cumsum(CUB_GROUPS)[:-1] / sum(CUB_GROUPS)
    cuts = np.unique((shares * size.attributes).round().astype(int))
    groups = [one for one in np.split(np.arange(size.attributes), cuts) if len(one)]
    problem = Problem(
        attributes=rng.random((size.seen + size.unseen, size.attributes)),
        attribute_vectors=rng.standard_normal((size.attributes, size.words)).astype(np.float32),
        seen=np.arange(size.seen),
        unseen=np.arange(size.seen, size.seen + size.unseen),
        regions=size.regions,
        channels=size.channels,
        groups=tuple(AttributeGroup(f"group {n}", one) for n, one in enumerate(groups)),
    )
    drawn = rng.standard_normal((min(size.images, 500), size.regions, size.channels), np.float32)
    features = np.maximum(drawn, 0).astype(np.float16)[np.arange(size.images) % len(drawn)]
    return Made(size, problem, features, rng.integers(0, size.seen, size.images))


def make_trainer(made: Made, model: str, device: torch.device, precision: str) -> Trainer:
    """The product's trainer, features in memory; an epoch of it is one step, so that an epoch's cost counts too."""
    settings: Any = settings_of(model, batch_size=made.size.batch)
    torch.manual_seed(0)
    network = build_model(made.problem, settings)
    cache: Any = SimpleNamespace(
        shape=(made.size.images, 1, made.size.regions, made.size.channels),
        dtype=made.features.dtype,
        read_rows=lambda rows: made.features[rows],
    )
    rows = np.arange(made.size.images)
    source = FeatureSource(cache, rows, preparation(network, precision), device, "memory")
    trainer = Trainer(network, settings, source, rows, made.labels, device)
    trainer._sampler.steps_in = lambda epoch: 1  # type: ignore[method-assign]
    trainer.model.train()
    return trainer


def timed(take: Callable[[], object], device: torch.device) -> float:
    """Seconds of one step, with all that a GPU still has to do."""
    start = perf_counter()
    take()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - start
