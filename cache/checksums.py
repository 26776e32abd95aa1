"""The two checksums of a row: a strong one, BLAKE2b, and a fast one, CRC-32, that training can afford.

A long row is folded before zlib computes its CRC-32: some multiples of CRC-32's polynomial have few terms, so
that a 64-bit word can be taken out and XORed into a few words behind it without a change of the result. NumPy does
that for thousands of words at once, at about twice zlib's speed. (zlib-ng calls this idea "Chorba".)
"""

import zlib
from hashlib import blake2b

import numpy as np

# x^4018 + x^2091 + x^1837 + 1 is a multiple of CRC-32's polynomial, and so is its 64th power, over GF(2) the same with
# exponents 64 times as large: a word can move to 4018 - 2091, 4018 - 1837 and 4018 words behind it.
DEGREE = 4018
DISTANCES = (DEGREE - 2091, DEGREE - 1837, DEGREE)
WORTH_FOLDING = 2 * DEGREE  # words; shorter rows are quicker without


def checksum_row(row: np.ndarray) -> int:
    """Return the strong checksum of the row's bytes, 64 bits; never 0, which stands for a row without features."""
    digest = blake2b(np.ascontiguousarray(row).data.cast("B"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def crc_row(row: np.ndarray) -> int:
    """Return the fast checksum of the row's bytes, CRC-32: the same as zlib's."""
    data = np.ascontiguousarray(row).reshape(-1).view(np.uint8)
    whole = len(data) - len(data) % 8
    if whole < 8 * WORTH_FOLDING:
        return zlib.crc32(data.data)
    words = data[:whole].view(np.uint64).copy()
    words.view(np.uint8)[:4] ^= 0xFF  # CRC-32 inverts the first 32 bits
    end, step = len(words) - DEGREE, min(DISTANCES)
    for start in range(0, end, step):
        block = words[start : min(start + step, end)]
        for distance in DISTANCES:
            behind = words[start + distance :][: len(block)]
            np.bitwise_xor(behind, block, out=behind)
    return zlib.crc32(data[whole:].data, zlib.crc32(words[end:].data, 0xFFFFFFFF))


def crc_reason(reason: bytes) -> int:
    """Return the checksum of a masked row, which has no features but a reason."""
    return zlib.crc32(reason)
