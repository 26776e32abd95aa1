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
    # As the comment in the published script has it; what its indices make is in `_SCRIPTED`.
    "sun": {
        "function": ((1, 38),),
        "element": ((39, 65),),
        "environment and material": ((66, 74), (78, 85)),
        "other": ((75, 77), (86, 102)),
    },
}

# The published script for SUN has a minus in three places where its comment has a range. Each so marks one attribute,
# counted from the end: 94, 100 and 86. What is marked nowhere stays in the first group.
_SCRIPTED: dict[str, dict[str, Ranges]] = {
    "sun": {
        "function and all else": ((1, 38), (66, 77), (87, 93), (95, 99), (101, 102)),
        "element": ((39, 65),),
        "material and 94": ((78, 85), (94, 94)),
        "86 and 100": ((86, 86), (100, 100)),
    },
}


def published_groups(dataset: str, attributes: int) -> AttributeGroups | None:
    """The published groups of a dataset, or None where there are none for so many attributes."""
    if _COUNTS.get(dataset) != attributes:
        return None
    return _read("published table of DEDN", _TABLES[dataset])


def scripted_groups(dataset: str, attributes: int) -> list[AttributeGroups]:
    """The groups that the published script makes, where its indices slip: weights are read with them, none trained."""
    if dataset not in _SCRIPTED or _COUNTS[dataset] != attributes:
        return []
    return [_read("DEDN's published script, slips included", _SCRIPTED[dataset])]


def _read(source: str, table: dict[str, Ranges]) -> AttributeGroups:
    return AttributeGroups(
        source, tuple(AttributeGroup(name, _numbers(ranges)) for name, ranges in table.items())
    )


def _numbers(ranges: Ranges) -> np.ndarray:
    """The numbers, from 0, that the ranges hold."""
    return np.concatenate([np.arange(first - 1, last) for first, last in ranges])
