"""Weights of DEDN's published classes: the names in their state dicts, and the groups behind their experts.

The authors published code, which saves nothing: these are state dicts of their class `DEDN`, one class a dataset. All
names in them are known from that code. GNet is the coarse expert, SnetN the fine one's sub-net of group N.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from msdn.train.errors import CheckpointError
from msdn.train.groups.choose import choose_groups
from msdn.train.groups.groups import AttributeGroups
from msdn.train.groups.tables import scripted_groups
from msdn.train.measure.published_weights import Published, PublishedFile
from msdn.train.models.dedn import DednSettings
from msdn.train.models.dedn.network import build_dedn
from msdn.train.models.parts.classes import class_space_of
from msdn.train.models.parts.problem import problem_of

PARAMETERS = {
    "V": "word_vectors",
    "H_1": "region_score",
    "H_2": "region_attention",
    "H_3": "channel_score",
    "H_4": "channel_attention",
}
# Of the class for SUN, whose region score is the product H_1 · H_3.
PRODUCT_PARAMETERS = {
    "V": "word_vectors",
    "H_1": "region_score",
    "H_2": "region_attention",
    "H_3": "region_score_right",
    "H_4": "channel_score",
    "H_5": "channel_attention",
}
_UNUSED = ("weight_ce",)  # stored, but no score depends on it


def parameter_names(experts: int, *, product: bool = False) -> dict[str, str]:
    """The published name of every parameter of a model with so many groups, and ours."""
    nets = {"GNet": "coarse", **{f"Snet{number}": f"fine.{number}" for number in range(experts)}}
    parameters = PRODUCT_PARAMETERS if product else PARAMETERS
    return {
        f"{net}.{theirs}": f"{ours_net}.{ours}"
        for net, ours_net in nets.items()
        for theirs, ours in parameters.items()
    }


def read_published(file: PublishedFile, settings: DednSettings) -> Published:
    """The model that a published file holds, for the file's cache.

    The published code labels every attribute with one group, puts the groups' scores end to end, and orders the columns
    of `att` alike: so every attribute is in exactly one group, and `att` tells whether groups are the file's.
    """
    experts = len({name.split(".")[0] for name in file.state if re.match(r"Snet\d+\.", name)})
    product = "GNet.H_5" in file.state
    names = parameter_names(max(experts, 1), product=product)
    tensors = file.take(names, _UNUSED)
    rank = max(_width(tensors["GNet.H_1"]), 1) if product else 0
    file.check_shapes(tensors, _shapes(file, tensors, names, rank))
    groups = _find_groups(file, tensors, settings)
    model = build_dedn(
        file.problem(tensors["GNet.V"], groups.groups),
        dataclasses.replace(settings, vectors="given", score_rank=rank),
    )
    model.load_state_dict({ours: tensors[theirs] for theirs, ours in names.items()})
    return file.matched(model, tensors, model.classes, groups)


def _shapes(
    file: PublishedFile, tensors: Mapping[str, Tensor], names: Mapping[str, str], rank: int
) -> dict[str, tuple[int, ...]]:
    """The shape that each parameter has to have, for the number of attributes of its own V."""
    _, height, width, f = file.cache.shape
    d = _width(tensors["GNet.V"])
    sizes = {
        "region_score": (d, rank or f),
        "region_score_right": (rank, f),
        "region_attention": (d, f),
        "channel_score": (d, height * width),
        "channel_attention": (d, height * width),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for theirs, ours in names.items():
        rows = tensors[theirs].shape[0] if tensors[theirs].dim() else 0
        shapes[theirs] = sizes.get(ours.rpartition(".")[2], (rows, d))
    return shapes | {"GNet.V": (file.cache.annotations.attributes.shape[1], d)}


def _find_groups(
    file: PublishedFile, tensors: Mapping[str, Tensor], settings: DednSettings
) -> AttributeGroups:
    """The user's groups; else the dataset's or those of the published script, whichever have the experts' sizes."""
    annotations = file.cache.annotations
    known = [choose_groups(annotations, file.groups)]
    if file.groups is None:
        known += scripted_groups(annotations.dataset, annotations.attributes.shape[1])
    sizes = [len(value) for name, value in tensors.items() if re.fullmatch(r"Snet\d+\.V", name)]
    for groups in known:
        if sorted(sizes) == sorted(groups.sizes):
            attributes = class_space_of(problem_of(file.cache), settings).attributes
            return _in_order(groups, tensors["att"].split(sizes, dim=1), attributes)
    expected = " or ".join(f"{_join(groups.sizes)} ({groups.source})" for groups in known)
    raise CheckpointError(
        f"{file.path}: its fine expert has groups of {_join(sizes)} attributes, expected {expected}; "
        "give the groups it was trained with, by --groups FILE ('msdn data groups --csv FILE' writes one to edit)"
    )


def _in_order(groups: AttributeGroups, blocks: Sequence[Tensor], attributes: Tensor) -> AttributeGroups:
    """The groups in the order of the sub-nets: a file of groups has another than the published code."""
    left, ordered = list(groups.groups), []
    for block in blocks:  # [C, k], columns of `att`
        fitting = [number for number, group in enumerate(left) if len(group.attributes) == block.shape[1]]
        distances = {
            number: float((block - attributes[:, left[number].attributes]).abs().max()) for number in fitting
        }
        ordered.append(left.pop(min(fitting, key=lambda number: distances[number])))
    return dataclasses.replace(groups, groups=tuple(ordered))


def _width(tensor: Tensor) -> int:
    return tensor.shape[-1] if tensor.dim() else 0


def _join(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
