"""Groups from attribute names such as `wing color: red`: by what is described, or else by the whole prefix."""

from collections import Counter
from collections.abc import Callable, Sequence

from msdn.train.groups.groups import AttributeGroups, collect_groups

OTHER = "other"


def prefix_groups(names: Sequence[str]) -> AttributeGroups | None:
    """Groups from what stands before the last colon, or None where that gives none of use.

    All that is said of a thing comes together, `wing color: red` and `wing shape: long` in 'wing'; where this does not
    divide the attributes well, those of one prefix do. Attributes without a prefix, or alone in a group, are 'other'.
    """
    levels: tuple[Callable[[str], str], ...] = (_thing, _prefix)
    for level in levels:
        group_of = _without_loners([level(name) for name in names])
        if 2 <= len(set(group_of)) <= len(names) // 2:
            return collect_groups("prefixes of the attributes' names", group_of)
    return None


def _prefix(name: str) -> str:
    """`wing color` of `wing color: red` and of CUB's own `has_wing_color::red`; nothing where there is no colon."""
    prefix = name.rpartition(":")[0].rstrip(": ")
    words = prefix.casefold().replace("_", " ").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "has" else words)


def _thing(name: str) -> str:
    """`wing` of `wing color: red`: the prefix without its last word, the property; a single word stays."""
    words = _prefix(name).split()
    return " ".join(words[:-1] or words)


def _without_loners(group_of: list[str]) -> list[str]:
    counts = Counter(group_of)
    return [name if name and counts[name] > 1 else OTHER for name in group_of]
