"""Divides the training images by class into train and val, for choosing settings without a look at test images."""

import numpy as np


def divide_trainval(
    trainval: np.ndarray, labels: np.ndarray, train: np.ndarray | None = None, val: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Divide trainval by class into train and val.

    The published `train` and `val` rows decide where their classes are disjoint and are the seen ones;
    else every third seen class is a validation class.
    """
    seen = np.unique(labels[trainval])
    val_classes = seen[2::3]
    if train is not None and val is not None and _are_rows([*train, *val], len(labels)):
        both = [np.unique(labels[rows]) for rows in (train, val)]
        if not len(np.intersect1d(both[0], both[1])) and np.array_equal(np.union1d(both[0], both[1]), seen):
            val_classes = both[1]
    is_val = np.isin(labels[trainval], val_classes)
    return {"train": trainval[~is_val], "val": trainval[is_val]}


def _are_rows(rows: list[int], n: int) -> bool:
    return min(rows, default=0) >= 0 and max(rows, default=0) < n
