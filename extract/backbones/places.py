"""Where in an image the regions of a map look. Loads torch only when it finds that out."""

from dataclasses import dataclass
from typing import Any

from msdn.extract.backbones.entry import Plan

_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")


@dataclass(frozen=True)
class Places:
    """The centres of the regions along each side of the prepared image, in pixels from 0.

    Attributes:
        first: the first region's centre.
        step: from one to the next.
    """

    first: float
    step: float

    def centre(self, number: int) -> float:
        """The centre of a row or column of regions, counted from 0."""
        return self.first + self.step * number


def even_places(size: int, cells: int) -> Places:
    """Those of a side cut into equal cells."""
    return Places((size / cells - 1) / 2, size / cells)


def locate_regions(plan: Plan, cells: int) -> Places:
    """Where the regions of a plan's map of `cells` by `cells` are centred, by its strides, kernels and paddings.

    A ResNet's regions are not in the middle of their cells: each of its strides takes the pixels 0, 2, 4, …, so that
    the first region looks at the image's corner, half a cell away. What makes a map otherwise than by convolutions
    and poolings counts as an even grid.
    """
    at, first, step = plan.preparation.size, 0.0, 1.0
    shrinkings = _find_shrinkings(plan)
    while at != cells and at in shrinkings:
        at, stride, offset = shrinkings.pop(at)
        first, step = first + offset * step, step * stride
    return Places(first, step) if at == cells else even_places(plan.preparation.size, cells)


def _find_shrinkings(plan: Plan) -> dict[int, tuple[int, int, float]]:
    """Of the first layer that takes a map of each size to another one: that size, its stride and its first centre."""
    import torch
    from torch import nn

    from msdn.extract.backbones.network import read_maps
    from msdn.extract.backbones.weights import build_network

    found: dict[int, tuple[int, int, float]] = {}

    def note(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        before, after = inputs[0].shape[-1], output.shape[-1]
        if before != after:
            kernel, stride, padding, dilation = (_first(getattr(layer, name, 1)) for name in _GEOMETRY)
            found.setdefault(before, (after, stride, dilation * (kernel - 1) / 2 - padding))

    size = plan.preparation.size
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = build_network(plan.backbone, size)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                layer.register_forward_hook(note)
        read_maps(network, plan, torch.zeros(1, 3, size, size))
    return found


def _first(value: Any) -> Any:
    """A number, or the first of a pair."""
    return value[0] if isinstance(value, tuple) else value
