"""What a model must know of a dataset before it sees an image."""

from dataclasses import dataclass

import numpy as np

from msdn.cache import FeatureCache


@dataclass(frozen=True)
class AttributeGroup:
    """Attributes that belong together, such as those of a bird's wings: their numbers, ascending."""

    name: str
    attributes: np.ndarray


@dataclass(frozen=True)
class Problem:
    """Classes described by attributes, and the shape of an image's features.

    A class without images takes no part: nothing that is learned or measured changes when one is added.

    Attributes:
        attributes: [C, K], raw.
        attribute_vectors: [K, D] word vectors, or None.
        seen: the classes with training images.
        unseen: the classes that only test images show.
        regions: R, regions of an image.
        channels: F, channels of a region.
        grid: height and width of the map that the regions are cut of, row by row.
        signed: whether features may be negative; None where nobody knows.
        groups: the attributes in groups, each in one; empty where the model takes none.
    """

    attributes: np.ndarray
    attribute_vectors: np.ndarray | None
    seen: np.ndarray
    unseen: np.ndarray
    regions: int
    channels: int
    grid: tuple[int, int] | None = None
    signed: bool | None = None
    groups: tuple[AttributeGroup, ...] = ()


def problem_of(cache: FeatureCache, groups: tuple[AttributeGroup, ...] = ()) -> Problem:
    """The problem that a cache poses, with the attributes in these groups; of the classes, those with images."""
    annotations = cache.annotations.with_images_only()
    _, height, width, channels = cache.shape
    return Problem(
        attributes=annotations.attributes,
        attribute_vectors=annotations.attribute_vectors,
        seen=annotations.seen_classes,
        unseen=annotations.unseen_classes,
        regions=height * width,
        channels=channels,
        grid=(height, width),
        signed=cache.signed,
        groups=groups,
    )
