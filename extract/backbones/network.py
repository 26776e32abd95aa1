"""A network's maps: all of a plan in one pass, measured on one picture; batch norm calibrated.

B images, h x w regions, C channels, T tokens.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from msdn.cache.errors import MsdnError, UnknownNameError
from msdn.extract.backbones.entry import Backbone, MapChoice, Plan, Preparation
from msdn.extract.errors import ExtractError, WeightsError

RELU_OF_BLOCK = {  # where torchvision's and timm's blocks keep the function that ends them
    "Bottleneck": ("act3", "relu"),
    "BasicBlock": ("act2", "relu"),
    "ResBottleneckBlock": ("activation",),
    "Fire": ("expand3x3_activation",),
}
Read = Callable[[nn.Module, Sequence[MapChoice], Backbone, Tensor], list[Tensor]]


def mean_and_std(preparation: Preparation, device: torch.device) -> tuple[Tensor, Tensor]:
    """What `normalise` needs; made once, because making it lets the host wait for a GPU."""
    return torch.tensor(preparation.mean, device=device), torch.tensor(preparation.std, device=device)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn [B, size, size, 3] uint8 into normalised [B, 3, size, size] float32, channels last in memory."""
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def read_maps(network: nn.Module, plan: Plan, pixels: Tensor, read: Read | None = None) -> dict[str, Tensor]:
    """Run the network once on [B, 3, size, size] and return the plan's maps [B, h, w, C], pooled where asked for.

    `read` takes the layers' outputs; None: as the backbone says, else by hooks.
    """
    backbone = plan.backbone
    choices = [replace(choice, layer=choice.layer or backbone.layer) for choice in plan.maps]
    values = (read or backbone.read or read_by_hooks)(network, choices, backbone, pixels)
    return {
        choice.name: pool_map(value, choice, backbone) for choice, value in zip(choices, values, strict=True)
    }


class _EnoughError(Exception):
    """Ends a pass once the last map is there."""


def read_by_hooks(
    network: nn.Module, choices: Sequence[MapChoice], backbone: Backbone, pixels: Tensor
) -> list[Tensor]:
    """Return the outputs of the choices' layers as maps [B, h, w, C]; what lies behind the last one is not computed."""
    given: dict[str, Tensor] = {}
    wanted = {choice.layer for choice in choices}

    def keep(layer: str) -> "torch.utils.hooks.RemovableHandle":
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            given[layer] = output
            if len(given) == len(wanted):
                raise _EnoughError

        return network.get_submodule(layer).register_forward_hook(hook)

    handles = [keep(layer) for layer in wanted]
    try:
        network(pixels)
    except _EnoughError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    for layer in wanted - given.keys():
        raise ExtractError(f"{backbone.name}: '{layer}' is not used when the network computes an image")
    return [_arrange(given[choice.layer], choice, backbone) for choice in choices]


def read_to_the_end(network: nn.Module, plan: Plan) -> Read:
    """Like `read_by_hooks`, as a compiler can follow it: the hooks stay, and no exception ends the pass.

    The compiler leaves out by itself what lies behind the last layer, for nothing uses it.
    """
    given: dict[str, Tensor] = {}

    def keep(layer: str) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            given[layer] = output

        network.get_submodule(layer).register_forward_hook(hook)

    for layer in {choice.layer or plan.backbone.layer for choice in plan.maps}:
        keep(layer)

    def read(
        network: nn.Module, choices: Sequence[MapChoice], backbone: Backbone, pixels: Tensor
    ) -> list[Tensor]:
        network(pixels)
        return [_arrange(given[choice.layer], choice, backbone) for choice in choices]

    return read


def _arrange(output: Tensor, choice: MapChoice, backbone: Backbone) -> Tensor:
    """Bring [B, C, h, w], [B, h, w, C] or tokens [B, T, C] into [B, h, w, C]; images are square, so h = w."""
    where = f"{backbone.name}: '{choice.layer}'"
    if not isinstance(output, Tensor) or output.dim() not in (3, 4):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ExtractError(
            f"{where} gives {shape}, expected a map [B, C, h, w], [B, h, w, C] or tokens [B, T, C]"
        )
    if output.dim() == 4:
        if choice.pool == "class":
            raise ExtractError(
                f"{where} gives a map without a class token; pool=mean is the mean over its regions"
            )
        if output.shape[2] == output.shape[3]:
            return output.permute(0, 2, 3, 1)
        if output.shape[1] == output.shape[2]:
            return output
        raise ExtractError(
            f"{where} gives {tuple(output.shape)}: not a square map [B, C, h, h] or [B, h, h, C]"
        )
    prefix = backbone.prefix_tokens
    if prefix is None:
        raise ExtractError(
            f"{where} gives tokens {tuple(output.shape)}: set prefix_tokens=N, the number of tokens before the image's"
        )
    if choice.pool == "class":
        if prefix == 0:
            raise ExtractError(f"{where} gives no class token; pool=mean is the mean over its regions")
        return output[:, None, :1]
    side = math.isqrt(output.shape[1] - prefix)
    if side * side != output.shape[1] - prefix:
        raise ExtractError(
            f"{where} gives {output.shape[1]} tokens, {prefix} before the image's: the others do not form a square"
        )
    return output[:, prefix:].unflatten(1, (side, side))  # row by row


def pool_map(values: Tensor, choice: MapChoice, backbone: Backbone) -> Tensor:
    """Average a map [B, h, w, C] over equal parts, in float32."""
    if choice.pool in ("", "class"):
        return values
    rows, columns = map(int, choice.pool.split("x"))
    height, width = values.shape[1:3]
    if height % rows or width % columns:
        raise ExtractError(
            f"{backbone.name}: a map of {height}x{width} regions cannot be pooled to {choice.pool} equal parts"
        )
    parts = values.float().unflatten(2, (columns, -1)).unflatten(1, (rows, -1))  # [B, rows, ., columns, ., C]
    return parts.mean((2, 4))


@dataclass(frozen=True)
class MapShape:
    """What one picture showed of a map."""

    height: int
    width: int
    channels: int
    signed: bool | None  # None: no negative value was seen, but nothing forbids one


@torch.inference_mode()
def measure_maps(network: nn.Module, plan: Plan) -> dict[str, MapShape]:
    """Look at the maps of a picture of noise: this fails early where size, layer or pooling do not fit."""
    check_layers(network, plan)
    size = plan.preparation.size
    pixels = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 3, size, size)).astype(np.float32))
    try:
        maps = read_maps(network, plan, pixels)
    except MsdnError:
        raise
    except Exception as error:  # a library's or a user's own code
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExtractError(
            f"{plan.backbone.name} does not take images of {size} pixels ({reason}); its default size is "
            f"{plan.backbone.preparation.size}, give another with --image-size"
        ) from error
    shapes = {}
    for choice in plan.maps:
        values = maps[choice.name]
        signed = True if bool((values < 0).any()) else None
        if signed is None and _ends_in_relu(network.get_submodule(choice.layer or plan.backbone.layer)):
            signed = False
        height, width, channels = values.shape[1:]
        shapes[choice.name] = MapShape(height, width, channels, signed)
    return shapes


def check_layers(network: nn.Module, plan: Plan) -> None:
    """Refuse a layer that the network does not have, and words that mean nothing for it."""
    by_hooks = plan.backbone.read is None
    modules = dict(network.named_modules())
    for choice in plan.maps:
        layer = choice.layer or plan.backbone.layer
        known = list_layers(network, plan.backbone)
        if layer not in (modules if by_hooks else known):
            raise UnknownNameError(f"layer of {plan.backbone.name}", layer, known)
        if by_hooks and choice.norm is not None:
            raise ExtractError(
                f"{plan.backbone.name}: 'norm' and 'raw' are for timm's networks; here a norm is a separate layer, "
                f"see 'msdn backbones {plan.backbone.name}'"
            )


def list_layers(network: nn.Module, backbone: Backbone) -> list[str]:
    """Name the blocks of a network that a map may be taken from, in their order."""
    if backbone.read is not None:
        return name_blocks(network)
    names: list[str] = []

    def walk(module: nn.Module, prefix: str, depth: int) -> None:
        for name, child in module.named_children():
            names.append(prefix + name)
            if type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) or (
                not depth and list(child.children())
            ):
                walk(child, f"{prefix}{name}.", depth + 1)

    walk(network, "", 0)
    return [name for name in names if not f"{name}.".startswith(backbone.classifier)]


@torch.inference_mode()
def measure_layers(network: nn.Module, backbone: Backbone) -> dict[str, MapShape]:
    """The shape of every block that gives a map at the network's own image size."""
    found = {}
    for layer in list_layers(network, backbone):
        try:
            found[layer] = measure_maps(
                network, Plan(backbone, backbone.preparation, (MapChoice(layer=layer),))
            )["regions"]
        except MsdnError:
            continue  # gives no map
    return found


def name_blocks(network: Any) -> list[str]:
    """The blocks that timm counts, in their order."""
    return [str(info["module"]) for info in network.feature_info]


def _ends_in_relu(module: nn.Module) -> bool:
    """Whether nothing negative can leave the module; False where that is not known."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        parts = [part for part in module if not isinstance(part, nn.MaxPool2d | nn.Identity)]
        return bool(parts) and _ends_in_relu(parts[-1])
    for name in RELU_OF_BLOCK.get(type(module).__name__, ()):
        if hasattr(module, name):
            return _ends_in_relu(getattr(module, name))
    return isinstance(module, nn.ReLU | nn.ReLU6)


def calibrate(
    network: nn.Module, plan: Plan, batches: Iterable[np.ndarray], device: torch.device
) -> dict[str, np.ndarray]:
    """Measure the batch-norm statistics of random weights, and return them by name, for storage in the cache.

    They are set to their mean over `batches` of images [B, size, size, 3] uint8.
    """
    norms = _batch_norms(network)
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()  # and nothing else: dropout stays off
    network.to(device)
    scale = mean_and_std(plan.preparation, device)
    with torch.inference_mode():
        for images in batches:
            read_maps(network, plan, normalise(torch.from_numpy(images).to(device), *scale))
    network.eval()
    return {
        f"{name}.{kind}": getattr(norm, kind).float().cpu().numpy()
        for name, norm in norms.items()
        for kind in ("running_mean", "running_var")
    }


def restore_statistics(network: nn.Module, statistics: dict[str, np.ndarray]) -> None:
    """Put stored batch-norm statistics back."""
    for name, norm in _batch_norms(network).items():
        for kind in ("running_mean", "running_var"):
            stored = statistics.get(f"{name}.{kind}")
            if stored is None or stored.shape != tuple(getattr(norm, kind).shape):
                raise WeightsError(f"the cache holds no matching batch-norm statistics for '{name}'")
            getattr(norm, kind).copy_(torch.from_numpy(stored))


def has_batch_norm(network: nn.Module) -> bool:
    """Whether there is anything to calibrate."""
    return bool(_batch_norms(network))


def _batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
