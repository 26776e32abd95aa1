"""What a model must know of a dataset before it sees an image. No torch."""

from dataclasses import dataclass

import numpy as np

from msdn.cache import FeatureCache


@dataclass(frozen=True)
class Problem:
    """Classes described by attributes, and the shape of an image's features.

    Attributes:
        attributes: [C, K], raw.
        attribute_vectors: [K, D] word vectors, or None.
        seen: the classes with training images.
        unseen: the classes that only test images show.
        regions: R, regions of an image.
        channels: F, channels of a region.
    """

    attributes: np.ndarray
    attribute_vectors: np.ndarray | None
    seen: np.ndarray
    unseen: np.ndarray
    regions: int
    channels: int


def problem_of(cache: FeatureCache) -> Problem:
    """The problem that a cache poses."""
    annotations = cache.annotations
    _, height, width, channels = cache.shape
    return Problem(
        attributes=annotations.attributes,
        attribute_vectors=annotations.attribute_vectors,
        seen=annotations.seen_classes,
        unseen=annotations.unseen_classes,
        regions=height * width,
        channels=channels,
    )
