"""What can be said of a Plumage bird: attribute groups, their values, CUB-like names and word vectors."""

import zlib

import numpy as np

COLORS = ("red", "yellow", "green", "blue", "purple", "brown", "black", "white")
PATTERNS = ("solid", "spotted", "striped")
PARTS = ("bill", "head", "back", "breast", "belly", "wing", "tail")
PATTERNED_PARTS = ("breast", "wing", "tail")

GROUPS: dict[str, tuple[str, ...]] = {
    **{f"{part} color": COLORS for part in PARTS},
    **{f"{part} pattern": PATTERNS for part in PATTERNED_PARTS},
    "bill shape": ("hooked", "cone", "dagger", "spatulate"),
    "tail shape": ("rounded", "forked", "pointed"),
    "size": ("small", "medium", "large"),
}

VECTOR_SIZE = 100


def list_attributes() -> list[str]:
    """Name every attribute in the order of the columns of all tables, such as `wing color: red`."""
    return [f"{group}: {value}" for group, values in GROUPS.items() for value in values]


def make_word_vector(word: str) -> np.ndarray:
    """Draw the vector of one word from a seed that depends on nothing but its letters."""
    generator = np.random.RandomState(zlib.crc32(word.encode()))
    return generator.randint(-1000, 1001, VECTOR_SIZE).astype(np.float64) / 1000


def make_attribute_vectors() -> np.ndarray:
    """Sum the vectors of each name's words, so that values share meaning across parts: float32 [K, D]."""
    names = [name.replace(":", "").split() for name in list_attributes()]
    return np.array([sum(make_word_vector(word) for word in words) for words in names], dtype=np.float32)
