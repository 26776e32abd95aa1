"""Version and frozen hash of the Plumage pictures: figures compare only where the pixels are the same."""

import hashlib
from collections.abc import Iterable

from PIL import Image

PLUMAGE_VERSION = 1
PIXELS_SHA256 = "2c74ffa558913387db7de2baba9a6b298f13417bddd76b9286656a90ed9610a5"  # before JPEG encoding


def digest_pixels(image: Image.Image) -> bytes:
    """Digest the pixels of one picture."""
    return hashlib.sha256(image.tobytes()).digest()


def hash_pixels(digests: Iterable[bytes]) -> str:
    """Hash the digests of pictures, in order of class and image, into one."""
    total = hashlib.sha256()
    for digest in digests:
        total.update(digest)
    return total.hexdigest()
