"""The frozen ResNet101 up to its last convolutional map, made ready for one device and precision."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import resnet101
from torchvision.models.resnet import Bottleneck

from msdn.extract.backbones.weights import Weights

CHANNELS = 2048
STRIDE = 32  # pixels a region: 224 px give 7x7, 448 px give 14x14
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet


def build_trunk(weights: Weights) -> nn.Sequential:
    """Return ResNet101 without average pool and classifier, in eval mode."""
    with torch.device("meta"):
        network = resnet101()
    network.to_empty(device="cpu")
    network.load_state_dict(weights.state, strict=False)
    network.requires_grad_(False).eval()
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        drop_silent_branches(stage)
    return nn.Sequential(*list(network.children())[:-2])


def drop_silent_branches(stage: nn.Sequential) -> None:
    """Leave out residual branches whose last scale and shift are all zero: they add exactly nothing."""
    for position, block in enumerate(stage):
        if isinstance(block, Bottleneck) and _is_silent(block):
            kept = [part for part in (block.downsample, block.relu) if part is not None]
            stage[position] = nn.Sequential(*kept)


def _is_silent(block: Bottleneck) -> bool:
    return not (block.bn3.weight.any() or block.bn3.bias.any())


def normalise(images: Tensor) -> Tensor:
    """Turn [B, size, size, 3] uint8 into normalised [B, 3, size, size] float32, channels last in memory."""
    mean, std = (torch.tensor(values, device=images.device) for values in (MEAN, STD))
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


class Backbone:
    """Computes region features: batch norm folded into the convolutions, channels last, one precision."""

    def __init__(self, trunk: nn.Sequential, device: torch.device, precision: str) -> None:
        torch.backends.cudnn.allow_tf32 = False  # "float32" means float32
        torch.backends.cudnn.benchmark = False  # the same algorithm, so the same bits, at every start
        torch.backends.cudnn.deterministic = True
        self._device = device
        self._dtype = PRECISIONS[precision]
        fold_batch_norms(trunk)
        self._trunk = trunk.to(device, self._dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def compute(self, images: np.ndarray) -> np.ndarray:
        """Return the region features [B, h, w, 2048] of [B, size, size, 3] uint8 images, in float32."""
        pixels = normalise(torch.from_numpy(images).to(self._device, non_blocking=True))
        maps = self._trunk(pixels.to(self._dtype))  # [B, F, h, w]
        return maps.permute(0, 2, 3, 1).float().contiguous().cpu().numpy()


def fold_batch_norms(module: nn.Module) -> None:
    """Multiply every batch norm into the convolution before it, throughout the module."""
    if isinstance(module, nn.Sequential):
        pairs = list(zip(range(len(module)), range(1, len(module)), strict=False))
        for first, second in pairs:
            _fold(module, str(first), str(second))
    elif isinstance(module, Bottleneck):
        for number in (1, 2, 3):
            _fold(module, f"conv{number}", f"bn{number}")
    for child in module.children():
        fold_batch_norms(child)


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    first, second = getattr(parent, convolution), getattr(parent, norm)
    if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
        setattr(parent, convolution, fuse_conv_bn_eval(first, second))
        setattr(parent, norm, nn.Identity())
