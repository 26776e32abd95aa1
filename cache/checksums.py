"""The two checksums of a row: a strong one, BLAKE2b, and a fast one, CRC-32, that training can afford."""

import zlib
from hashlib import blake2b

import numpy as np


def checksum_row(row: np.ndarray) -> int:
    """Return the strong checksum of the row's bytes, 64 bits; never 0, which stands for a row without features."""
    digest = blake2b(np.ascontiguousarray(row).data.cast("B"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def crc_row(row: np.ndarray) -> int:
    """Return the fast checksum of the row's bytes, CRC-32."""
    return zlib.crc32(np.ascontiguousarray(row).data.cast("B"))


def crc_reason(reason: bytes) -> int:
    """Return the checksum of a masked row, which has no features but a reason."""
    return zlib.crc32(reason)
