"""torchvision's classification networks as backbones: where each has its map, and its own evaluation's preparation.

GoogLeNet and Inception are left out: they prepare their pixels once more themselves.
"""

import re
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from msdn.extract.backbones.entry import DEFAULT_NAME, Backbone, Preparation
from msdn.extract.backbones.families import FAMILIES, FAMILY_OF

OLD_DENSE_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def find_torchvision(name: str) -> Backbone:
    """Return the entry of one of `FAMILY_OF`."""
    weights = own_weights(name)
    return Backbone(
        build=partial(_build, name),
        layer=FAMILY_OF[name].layer,
        preparation=_as_published() if name == DEFAULT_NAME else read_preparation(weights.transforms()),
        prefix_tokens=1 if name.startswith("vit_") else None,
        pretrained_on="ImageNet-1k" if "SWAG" not in weights.name else "SWAG (Instagram), then ImageNet-1k",
        weights_url=weights.url,
        name=name,
        library="torchvision",
        adapt=_adapt,
    )


def own_weights(name: str) -> Any:
    """ImageNet-1k, version 1: what `pretrained=True` meant; of two networks that have none, the first there is."""
    choices = models.get_model_weights(name)
    return getattr(choices, "IMAGENET1K_V1", next(iter(choices)))


def grid_of(name: str) -> int:
    """Regions a side at the network's own image size."""
    size, family = find_torchvision(name).preparation.size, FAMILY_OF[name]
    floors = name.startswith(("vgg", "mnasnet", "squeezenet", "alexnet"))
    if name.startswith(("squeezenet", "alexnet")):
        return {"squeezenet1_0": 13, "squeezenet1_1": 13, "alexnet": 6}[name]
    return size // family.stride if floors else -(-size // family.stride)


def _as_published() -> Preparation:
    """ResNet101 as the published feature files were made: straight to 224 pixels, bilinear."""
    return Preparation()


def read_preparation(evaluation: Any) -> Preparation:
    """Take over what torchvision's own evaluation of the weights does."""
    size, resize = evaluation.crop_size[0], evaluation.resize_size[0]
    return Preparation(
        size,
        None if resize == size else resize,
        interpolation=evaluation.interpolation.value,
        mean=tuple(evaluation.mean),
        std=tuple(evaluation.std),
    )


def _build(name: str, image_size: int) -> nn.Module:
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    if name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    return models.get_model(name, weights=None, **options)


def _adapt(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resample a ViT's positions for another image size; old DenseNet files write their names otherwise."""
    if isinstance(network, models.VisionTransformer):
        positions = state.get("encoder.pos_embedding")
        if positions is not None and positions.shape != network.encoder.pos_embedding.shape:
            return dict(interpolate_embeddings(network.image_size, network.patch_size, dict(state)))
    if isinstance(network, models.DenseNet):
        return {OLD_DENSE_NAME.sub(r"\1\2.", name): tensor for name, tensor in state.items()}
    return state


def silence_residuals(network: nn.Module) -> None:
    """Let a random ResNet's residual branches start at zero, as torchvision's `zero_init_residual` does.

    Only the shortcuts speak then, which keeps enough signal to learn from.
    """
    for block in network.modules():
        if isinstance(block, models.resnet.Bottleneck):
            nn.init.zeros_(block.bn3.weight)
        elif isinstance(block, models.resnet.BasicBlock):
            nn.init.zeros_(block.bn2.weight)


def drop_silent_branches(network: nn.Module) -> None:
    """Leave out a ResNet's residual branches whose last scale and shift are all zero: they add exactly nothing."""
    if not isinstance(network, models.ResNet):
        return
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for position, block in enumerate(stage):
            last = getattr(block, "bn3", None) or getattr(block, "bn2", None)
            if last is not None and not (last.weight.any() or last.bias.any()):
                kept = [part for part in (block.downsample, block.relu) if part is not None]
                stage[position] = nn.Sequential(*kept)


def guess_layer(network: nn.Module) -> str:
    """Where a network of torchvision's make has its map; empty where it is none."""
    for layer in dict.fromkeys(family.layer for family in FAMILIES):
        try:
            network.get_submodule(layer)
        except AttributeError:
            continue
        return (
            layer if any(base.__module__.startswith("torchvision.") for base in type(network).__mro__) else ""
        )
    return ""
