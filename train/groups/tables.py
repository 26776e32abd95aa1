"""The groups of DEDN's authors for CUB, AWA2 and SUN. Attributes are numbered from 1, as in the datasets' files."""

import numpy as np

from msdn.train.groups.groups import AttributeGroups
from msdn.train.models.parts.problem import AttributeGroup

Ranges = tuple[tuple[int, int], ...]  # first and last attribute of each

_COUNTS = {"cub": 312, "awa2": 85, "sun": 102}
_TABLES: dict[str, dict[str, Ranges]] = {
    "cub": {
        "head": ((1, 9), (95, 105), (121, 167), (183, 197), (279, 308)),
        "torso": ((25, 73), (106, 120), (198, 212), (237, 240), (245, 248)),
        "wing": ((10, 24), (213, 217), (309, 312)),
        "tail": ((74, 94), (168, 182), (241, 244)),
        "leg": ((264, 278),),
        "whole body": ((218, 236), (249, 263)),
    },
    "awa2": {
        "texture": ((1, 18),),
        "limb": ((19, 33),),
        "abstract": ((34, 64), (79, 85)),
        "environment": ((65, 78),),
    },
    # As the comment in the published script has it: its indices slip.
    "sun": {
        "function": ((1, 38),),
        "element": ((39, 65),),
        "environment and material": ((66, 74), (78, 85)),
        "other": ((75, 77), (86, 102)),
    },
}


def published_groups(dataset: str, attributes: int) -> AttributeGroups | None:
    """The published groups of a dataset, or None where there are none for so many attributes."""
    if _COUNTS.get(dataset) != attributes:
        return None
    groups = (AttributeGroup(name, _numbers(ranges)) for name, ranges in _TABLES[dataset].items())
    return AttributeGroups("published table of DEDN", tuple(groups))


def _numbers(ranges: Ranges) -> np.ndarray:
    """The numbers, from 0, that the ranges hold."""
    return np.concatenate([np.arange(first - 1, last) for first, last in ranges])
