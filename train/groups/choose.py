"""Which groups a dataset's attributes come in."""

from pathlib import Path

from msdn.cache.annotations import Annotations
from msdn.train.groups.clusters import cluster_groups
from msdn.train.groups.file import read_groups
from msdn.train.groups.groups import AttributeGroups
from msdn.train.groups.prefixes import prefix_groups
from msdn.train.groups.tables import published_groups


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
