"""Batch-norm statistics for a backbone of random weights: measured once on training images, then stored."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from msdn.extract.backbones.resnet import normalise
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import ExtractError, WeightsError
from msdn.extract.pipeline.blocks import BlockReader

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 32


def read_calibration_batches(dataset: Dataset, image_size: int, workers: int) -> Iterator[np.ndarray]:
    """Yield a fixed, evenly spread choice of training images; unusable ones are left out."""
    trainval = dataset.annotations.splits["trainval"]
    step = max(1, len(trainval) // CALIBRATION_IMAGES)
    chosen = trainval[::step][:CALIBRATION_IMAGES].tolist()
    paths = [dataset.image_path(row) for row in chosen]
    batches = 0
    with BlockReader(paths, range(len(chosen)), CALIBRATION_BATCH, image_size, workers) as reader:
        for block in reader:
            if len(block.rows) > 1:  # statistics of one image would say nothing
                batches += 1
                yield block.images[block.positions]
    if not batches:
        raise ExtractError(
            f"{dataset.image_folder}: fewer than two of {len(chosen)} training images can be read, first: {paths[0]}"
        )


def calibrate(trunk: nn.Sequential, batches: Iterable[np.ndarray], device: torch.device) -> None:
    """Set all batch-norm statistics to their mean over `batches` of images [B, size, size, 3] uint8."""
    norms = _batch_norms(trunk)
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    trunk.to(device).train()
    with torch.inference_mode():
        for images in batches:
            trunk(normalise(torch.from_numpy(images).to(device)))
    trunk.eval()


def read_statistics(trunk: nn.Sequential) -> dict[str, np.ndarray]:
    """Return the batch-norm statistics by name, for storage in the cache."""
    return {
        f"{name}.{kind}": getattr(norm, kind).float().cpu().numpy()
        for name, norm in _batch_norms(trunk).items()
        for kind in ("running_mean", "running_var")
    }


def restore_statistics(trunk: nn.Sequential, statistics: dict[str, np.ndarray]) -> None:
    """Put stored batch-norm statistics back."""
    for name, norm in _batch_norms(trunk).items():
        for kind in ("running_mean", "running_var"):
            stored = statistics.get(f"{name}.{kind}")
            if stored is None or stored.shape != tuple(getattr(norm, kind).shape):
                raise WeightsError(f"the cache holds no fitting batch-norm statistics for '{name}'")
            getattr(norm, kind).copy_(torch.from_numpy(stored))


def _batch_norms(trunk: nn.Sequential) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in trunk.named_modules() if isinstance(module, nn.BatchNorm2d)}
