"""Compares every row of a cache with the checksum that was written beside it."""

import numpy as np

from msdn.cache.checksum import checksum_row
from msdn.cache.reader import FeatureCache

BATCH = 64


def find_damaged_rows(cache: FeatureCache) -> list[int]:
    """Return the rows whose features differ from what was written; masked rows have none."""
    rows = np.setdiff1d(np.arange(cache.shape[0]), cache.masked_rows)
    damaged: list[int] = []
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        features = cache.read_rows(chosen)
        damaged += [
            int(row)
            for row, values in zip(chosen, features, strict=True)
            if checksum_row(values) != cache.checksums[row]
        ]
    return damaged
