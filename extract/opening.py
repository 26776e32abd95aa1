"""Opens an image: the one place that knows which kinds Pillow reads only with the help of an extra, and tars."""

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from msdn.extract.errors import BadImageError
from msdn.extract.tars import read_member, split_path
from msdn.machine import how_to_install

HEIF_ENDINGS = ("heic", "heif", "avif")
EXTRA = how_to_install("heic")
LARGEST = 2**30  # bytes of an image's file


def open_image(path: Path) -> Image.Image:
    """Open an image as Pillow does, HEIC, HEIF and AVIF too; raises a `BadImageError` where the extra is missing."""
    if not can_read(path):
        raise BadImageError(f"is a {ending_of(path).upper()} image and needs the extra 'heic'; {EXTRA}")
    place = split_path(path)
    if place is None and path.stat().st_size > LARGEST:
        raise BadImageError(f"is larger than {LARGEST >> 30} GiB")
    # from memory: of a file, Pillow sets as much aside as a damaged length in it asks for
    return Image.open(io.BytesIO(path.read_bytes() if place is None else read_member(*place)))


def find_unreadable_kinds(paths: Iterable[Path]) -> str:
    """One sentence on all images that need the extra, or nothing where all can be read."""
    lacking = [path for path in paths if not can_read(path)]
    if not lacking:
        return ""
    kinds = " and ".join(sorted({ending_of(path).upper() for path in lacking}))
    return f"{len(lacking)} images are {kinds}, the first is {lacking[0].name}; they need the extra 'heic'; {EXTRA}"


def can_read(path: Path) -> bool:
    """Whether there is a reader for images of that ending; other endings are Pillow's own affair."""
    ending = ending_of(path)
    return ending not in HEIF_ENDINGS or f".{ending}" in _known_endings()


def uses_extra(path: Path) -> bool:
    """Whether the extra reads such an image."""
    return ending_of(path) in ("heic", "heif")


def ending_of(path: Path) -> str:
    """A name's ending in small letters, without the dot."""
    return path.suffix.lower().removeprefix(".")


def _known_endings() -> dict[str, str]:
    """Pillow's endings, those of the extra among them once it could be registered."""
    known = Image.registered_extensions()
    if ".heic" not in known:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return known
        register_heif_opener()
    return Image.registered_extensions()
