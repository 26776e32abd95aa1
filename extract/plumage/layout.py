"""Which pictures Plumage holds, where they lie, and which split each belongs to."""

from collections.abc import Iterator

import numpy as np

from msdn.extract.plumage.classes import CLASS_COUNT, list_classes

IMAGES_PER_CLASS = 30
TEST_SEEN_EVERY = 5  # of a seen class's images, each fifth is kept for testing


def list_pictures() -> Iterator[tuple[int, int]]:
    """Go through all (class index, image index), in the order of the rows of all tables."""
    return ((c, i) for c in range(CLASS_COUNT) for i in range(IMAGES_PER_CLASS))


def name_class(class_index: int) -> str:
    """Name a class as CUB does: `001.Some_Bird`."""
    return f"{class_index + 1:03d}.{list_classes()[class_index].name}"


def name_picture(class_index: int, image_index: int) -> str:
    """Name a picture's file under `images/`."""
    return f"{name_class(class_index)}/{list_classes()[class_index].name}_{image_index + 1:04d}.jpg"


def split_pictures() -> dict[str, np.ndarray]:
    """Give each split's rows, 1-based, under the names that xlsa17 uses."""
    roles = np.array([list_classes()[c].role for c, _ in list_pictures()])
    held_out = np.array([i % TEST_SEEN_EVERY == TEST_SEEN_EVERY - 1 for _, i in list_pictures()])
    unseen = roles == "unseen"
    masks = {
        "trainval_loc": ~unseen & ~held_out,
        "train_loc": (roles == "train") & ~held_out,
        "val_loc": (roles == "val") & ~held_out,
        "test_seen_loc": ~unseen & held_out,
        "test_unseen_loc": unseen,
    }
    return {name: np.flatnonzero(mask) + 1 for name, mask in masks.items()}
