"""Groups by clustering: of the attributes' word vectors, or of what the classes have of each attribute."""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from msdn.cache.annotations import Annotations
from msdn.train.groups.groups import AttributeGroups, collect_groups

_MOST_GROUPS = 6  # as the largest published table has
_LEAST_SIZE = 2  # attributes to a group, on average


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
    most = max(1, min(_MOST_GROUPS, len(points) // _LEAST_SIZE))
    if most == 1:
        return collect_groups("too few attributes to divide", ["all"] * len(points))
    largest = np.abs(points).max(axis=1, keepdims=True)
    points = points / np.where(largest > 0, largest, 1.0)  # no square of these is too large or too small
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    directions = points / np.where(lengths > 0, lengths, 1.0)
    clusters = fcluster(linkage(directions, method="ward"), most, criterion="maxclust")
    return collect_groups(source, _name(clusters))


def _name(clusters: np.ndarray) -> list[str]:
    """Number the clusters by their first attribute."""
    numbers: dict[int, int] = {}
    return [f"cluster {numbers.setdefault(int(one), len(numbers) + 1)}" for one in clusters]
