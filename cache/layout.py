"""Names, types and fixed places inside a cache file: what writer and reader agree on."""

from dataclasses import dataclass

import h5py
import numpy as np

FORMAT = "msdn-cache"
SCHEMA = 1
ALIGNMENT = 4096  # a page: features can be mapped, and reads never straddle one page more than they must
REASON_BYTES = 240

FEATURES = "features"
CHECKSUMS = "row_checksums"
STATES = "row_states"
REASONS = "mask_reasons"
FIXED = (FEATURES, CHECKSUMS, STATES, REASONS)  # filled in place, never through the HDF5 library

ANNOTATIONS = "annotations"  # the key of provenance that says where labels, splits and vectors come from
UNNAMED_IMAGES = "images_without_names"  # the key that marks an imported cache whose image paths are made up

TODO, DONE, MASKED = 0, 1, 2  # values of row_states


@dataclass(frozen=True)
class Place:
    """Where one contiguous dataset lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """First byte behind the dataset."""
        return self.offset + self.shape[0] * self.row_bytes

    def start_of(self, row: int) -> int:
        """File offset of a row."""
        return self.offset + row * self.row_bytes


def find_place(dataset: h5py.Dataset) -> Place | None:
    """Return the dataset's place, or None where it does not lie in one plain piece (chunked, compressed)."""
    offset = dataset.id.get_offset()
    if offset is None or not dataset.dtype.isnative:
        return None
    return Place(int(offset), dataset.shape, dataset.dtype)
