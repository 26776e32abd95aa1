"""Which groups a dataset's attributes come in: a file's, a published table's, those of their names, or clusters."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from msdn.cache.annotations import Annotations
from msdn.train.groups.groups import AttributeGroups, collect_groups, read_groups
from msdn.train.groups.tables import published_groups

OTHER = "other"
MOST_CLUSTERS = 6  # as the largest published table has
LEAST_SIZE = 2  # attributes to a cluster, on average


def choose_groups(annotations: Annotations, file: Path | None = None) -> AttributeGroups:
    """The groups of the file, else of the published table, else of the attributes' names, else of a clustering."""
    attributes = annotations.attributes.shape[1]
    if file is not None:
        return read_groups(file, annotations.attribute_names, attributes)
    return (
        published_groups(annotations.dataset, attributes)
        or prefix_groups(annotations.attribute_names)
        or cluster_groups(annotations)
    )


def prefix_groups(names: Sequence[str]) -> AttributeGroups | None:
    """Groups from what stands before the last colon, or None where that gives none of use.

    All that is said of a thing comes together, `wing color: red` and `wing shape: long` in 'wing'; where this does not
    divide the attributes well, those of one prefix do. Attributes without a prefix, or alone in a group, are 'other'.
    """
    levels: tuple[Callable[[str], str], ...] = (_thing, _prefix)
    for level in levels:
        prefixes = [level(name) for name in names]
        counts = Counter(prefixes)
        group_of = [name if name and counts[name] > 1 else OTHER for name in prefixes]
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


def cluster_groups(annotations: Annotations) -> AttributeGroups:
    """Ward's clustering of directions; a dataset with fewer than four attributes stays one group."""
    vectors = annotations.attribute_vectors
    if vectors is not None:
        return _cluster("clustering of the attribute vectors", np.asarray(vectors, np.float64))
    # Of the seen classes alone, so that no choice made with these groups knows anything of the unseen ones.
    columns = annotations.attributes[annotations.seen_classes].T  # [K, S]
    # Centred, so that the distance of two directions tells how the attributes correlate over the classes.
    columns = columns - columns.mean(axis=1, keepdims=True)
    return _cluster("clustering of the attributes' values over the seen classes", columns)


def _cluster(source: str, points: np.ndarray) -> AttributeGroups:
    """Cluster the rows of [K, N] by direction; an all-zero row has none and stays where it is."""
    from scipy.cluster.hierarchy import fcluster, linkage

    most = min(MOST_CLUSTERS, len(points) // LEAST_SIZE)
    if most <= 1:
        return collect_groups("too few attributes to divide", ["all"] * len(points))
    largest = np.abs(points).max(axis=1, keepdims=True)
    points = points / np.where(largest > 0, largest, 1.0)  # no square of these is too large or too small
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    directions = points / np.where(lengths > 0, lengths, 1.0)
    clusters = fcluster(linkage(directions, method="ward"), most, criterion="maxclust")
    numbers: dict[int, int] = {}  # of the clusters, by their first attribute
    names = [f"cluster {numbers.setdefault(int(one), len(numbers) + 1)}" for one in clusters]
    return collect_groups(source, names)
