"""Batch norm multiplied into the convolution before it, wherever a network does nothing else with that one's output.

Which norm follows which convolution is seen by watching one pass, so it works for any network's code. Then it is
checked: the folded network has to give the same maps, or it stays as it was.
"""

from collections import Counter
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from msdn.extract.backbones.entry import Plan
from msdn.extract.backbones.network import read_maps

CLOSE = 1e-3  # by how much folded maps may differ from the network's own, as a share of their largest value
NORM_WITH_ACTIVATION = "BatchNormAct2d"  # timm's, with a dropout and an activation behind the norm
PADDING_CONVOLUTION = "Conv2dSame"  # timm's, which pads as TensorFlow does and uses its weights as they are

Pair = tuple[str, str]  # the names of a convolution and of the norm behind it


@torch.no_grad()
def fold_batch_norms(network: nn.Module, plan: Plan) -> bool:
    """Fold in place, a network in float32 on the CPU, and say whether that was done.

    Nothing is changed where there is nothing to fold, or where the plan's maps would not be the same.
    """
    size = plan.preparation.size
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    before, pairs = _watch(network, plan, pixels)
    originals = {name: network.get_submodule(name) for pair in pairs for name in pair}
    for pair in pairs:
        _fold(network, *pair)
    if pairs and _are_close(before, read_maps(network, plan, pixels)):
        return True
    for name, module in originals.items():
        _put(network, name, module)
    return False


def _watch(network: nn.Module, plan: Plan, pixels: Tensor) -> tuple[dict[str, Tensor], list[Pair]]:
    """Run once, and find each norm whose input is what a convolution just gave; both are used once."""
    calls: Counter[str] = Counter()
    given: dict[
        int, tuple[str, Tensor]
    ] = {}  # by identity; tensors are kept, so that none takes another's place
    pairs: list[Pair] = []

    def watch(name: str, module: nn.Module) -> "torch.utils.hooks.RemovableHandle":
        def hook(_module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
            calls[name] += 1
            if isinstance(module, nn.Conv2d):
                given[id(output)] = name, output
            elif inputs and id(inputs[0]) in given:
                pairs.append((given.pop(id(inputs[0]))[0], name))

        return module.register_forward_hook(hook)

    handles = [watch(name, module) for name, module in network.named_modules() if _takes_part(module)]
    try:
        maps = {name: values.clone() for name, values in read_maps(network, plan, pixels).items()}
    finally:
        for handle in handles:
            handle.remove()
    return maps, [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _takes_part(module: nn.Module) -> bool:
    """Whether it is a plain convolution or batch norm: what was made of these may compute something else."""
    if isinstance(module, nn.BatchNorm2d):
        is_known = type(module) is nn.BatchNorm2d or type(module).__name__ == NORM_WITH_ACTIVATION
        return is_known and module.running_mean is not None
    return type(module) is nn.Conv2d or type(module).__name__ == PADDING_CONVOLUTION


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    first = cast(nn.Conv2d, network.get_submodule(convolution))
    second = cast(nn.BatchNorm2d, network.get_submodule(norm))
    _put(network, convolution, fuse_conv_bn_eval(first, second))
    behind = [getattr(second, part) for part in ("drop", "act") if hasattr(second, part)]
    _put(network, norm, nn.Sequential(*behind) if behind else nn.Identity())


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)


def _are_close(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """NaN is close to nothing."""
    return all(
        bool((value - after[name]).abs().max() <= CLOSE * value.abs().max()) for name, value in before.items()
    )
