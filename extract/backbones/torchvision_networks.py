"""torchvision's classification networks as backbones: where each has its map, and its own evaluation's preparation.

GoogLeNet and Inception are left out: they prepare their pixels once more themselves.
"""

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from msdn.extract.backbones.entry import DEFAULT_NAME, Backbone, Preparation

OLD_DENSE_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


@dataclass(frozen=True)
class Family:
    """Networks of one kind: where the map is, how many pixels a region spans, whether values may be negative."""

    layer: str
    stride: int
    signed: bool
    channels: dict[str, int]


FAMILIES = (  # where a network has several of these layers, the first one counts
    Family(
        "layer4",
        32,
        False,
        {"resnet18": 512, "resnet34": 512}
        | dict.fromkeys(("resnet50", "resnet101", "resnet152"), 2048)
        | dict.fromkeys(("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"), 2048)
        | dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), 2048),
    ),
    Family(
        "trunk_output",
        32,
        False,
        {
            **{"regnet_x_400mf": 400, "regnet_x_800mf": 672, "regnet_x_1_6gf": 912, "regnet_x_3_2gf": 1008},
            **{"regnet_x_8gf": 1920, "regnet_x_16gf": 2048, "regnet_x_32gf": 2520},
            **{"regnet_y_400mf": 440, "regnet_y_800mf": 784, "regnet_y_1_6gf": 888, "regnet_y_3_2gf": 1512},
            **{"regnet_y_8gf": 2016, "regnet_y_16gf": 3024, "regnet_y_32gf": 3712, "regnet_y_128gf": 7392},
        },
    ),
    Family("layers", 32, False, dict.fromkeys((f"mnasnet{x}" for x in ("0_5", "0_75", "1_0", "1_3")), 1280)),
    Family(
        "conv5",
        32,
        False,
        {"shufflenet_v2_x2_0": 2048}
        | dict.fromkeys((f"shufflenet_v2_x{x}" for x in ("0_5", "1_0", "1_5")), 1024),
    ),
    Family(
        "norm",  # maps are [B, h, w, C] here
        32,
        True,
        {
            f"swin_{kind}": {"t": 768, "s": 768, "b": 1024}[kind[-1]]
            for kind in ("t", "s", "b", "v2_t", "v2_s", "v2_b")
        },
    ),
    Family("blocks.3", 32, True, {"maxvit_t": 512}),
    Family("encoder.ln", 16, True, {"vit_b_16": 768, "vit_l_16": 1024}),
    Family("encoder.ln", 32, True, {"vit_b_32": 768, "vit_l_32": 1024}),
    Family("encoder.ln", 14, True, {"vit_h_14": 1280}),
    Family(
        "features",
        32,
        True,
        {
            **{"convnext_tiny": 768, "convnext_small": 768, "convnext_base": 1024, "convnext_large": 1536},
            **{"efficientnet_b0": 1280, "efficientnet_b1": 1280, "efficientnet_b2": 1408},
            **{"efficientnet_b3": 1536, "efficientnet_b4": 1792, "efficientnet_b5": 2048},
            **{"efficientnet_b6": 2304, "efficientnet_b7": 2560},
            **{"efficientnet_v2_s": 1280, "efficientnet_v2_m": 1280, "efficientnet_v2_l": 1280},
            **{"densenet121": 1024, "densenet161": 2208, "densenet169": 1664, "densenet201": 1920},
            **{"mobilenet_v3_small": 576, "mobilenet_v3_large": 960},
        },
    ),
    Family(
        "features",
        32,
        False,
        {"mobilenet_v2": 1280, "alexnet": 256}
        | {f"vgg{depth}{norm}": 512 for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
    ),
    Family("features", 16, False, {"squeezenet1_0": 512, "squeezenet1_1": 512}),
)
FAMILY_OF = {name: family for family in FAMILIES for name in family.channels}


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
        folds=name == DEFAULT_NAME,
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
