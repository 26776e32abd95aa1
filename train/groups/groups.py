"""All attributes of a dataset in groups, and where the groups come from; as JSON in a run's manifest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdn.train.errors import RunError
from msdn.train.models.parts.problem import AttributeGroup


@dataclass(frozen=True)
class AttributeGroups:
    """Every attribute in exactly one group.

    Attributes:
        source: where the groups come from, in words.
        groups: the groups, in the order of the model's sub-nets.
    """

    source: str
    groups: tuple[AttributeGroup, ...]

    @property
    def sizes(self) -> list[int]:
        """How many attributes each group has."""
        return [len(group.attributes) for group in self.groups]

    @property
    def order(self) -> np.ndarray:
        """The attributes' numbers, group by group."""
        return np.concatenate([group.attributes for group in self.groups])

    def as_json(self) -> dict[str, Any]:
        """The groups as JSON knows them, attributes numbered from 1 as in files of groups."""
        groups = [{"name": one.name, "attributes": (one.attributes + 1).tolist()} for one in self.groups]
        return {"source": self.source, "groups": groups}

    @classmethod
    def from_json(cls, stored: Any, attributes: int, file: Path) -> "AttributeGroups":
        """The groups of so many attributes that `as_json` gave; `file` holds them, for the error."""
        if not _is_well_formed(stored):
            raise RunError(f"{file}: damaged, the attribute groups cannot be read; train the model again")
        groups = tuple(
            AttributeGroup(one["name"], np.array(one["attributes"], dtype=np.int64) - 1)
            for one in stored["groups"]
        )
        if not is_partition(groups, attributes):
            raise RunError(
                f"{file}: damaged, the groups do not hold each of {attributes} attributes once, in ascending order; "
                "train the model again"
            )
        return cls(stored["source"], groups)


def collect_groups(source: str, group_of: Sequence[str]) -> AttributeGroups:
    """Put attributes of the same group name together; groups come in the order of their first attribute."""
    members: dict[str, list[int]] = {}
    for attribute, name in enumerate(group_of):
        members.setdefault(name, []).append(attribute)
    groups = (AttributeGroup(name, np.array(numbers)) for name, numbers in members.items())
    return AttributeGroups(source, tuple(groups))


def is_partition(groups: Iterable[AttributeGroup], attributes: int) -> bool:
    """Whether each of so many attributes is in one group, ascending in it, and no group is empty."""
    members = [group.attributes for group in groups]
    if not members or not all(len(numbers) and (np.diff(numbers) > 0).all() for numbers in members):
        return False
    return np.array_equal(np.sort(np.concatenate(members)), np.arange(attributes))


def _is_well_formed(stored: Any) -> bool:
    return (
        isinstance(stored, dict)
        and isinstance(stored.get("source"), str)
        and isinstance(stored.get("groups"), list)
        and all(_is_group(one) for one in stored["groups"])
    )


def _is_group(stored: Any) -> bool:
    if not isinstance(stored, dict) or not isinstance(stored.get("name"), str):
        return False
    numbers = stored.get("attributes")
    return isinstance(numbers, list) and all(type(number) is int and 0 < number < 2**31 for number in numbers)
