"""Decodes one image exactly as the published feature files were made, short of the normalisation.

Shorter side resized to the image size (Pillow, bilinear), centre crop, RGB. EXIF rotation is ignored, as the
published scripts do: pixels are taken as they are stored.
"""

import errno
from pathlib import Path

import numpy as np
from PIL import Image

from msdn.extract.errors import BadImageError

NOT_THE_IMAGES_FAULT = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM}  # stop, never mask
MOST_PIXELS = 100_000_000  # after resizing: a picture so long and narrow would take gigabytes

TRANSFORM = (
    "Pillow RGB, no EXIF rotation, bilinear resize of the shorter side, centre crop, ImageNet mean/std"
)


def read_image(path: Path, size: int) -> np.ndarray:
    """Return the image as [size, size, 3] uint8, or raise a `BadImageError` with the reason."""
    try:
        with Image.open(path) as image:
            return np.asarray(crop_centre(resize_shorter_side(convert_to_rgb(image), size), size))
    except MemoryError:
        raise
    except FileNotFoundError:
        raise BadImageError("missing") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
        if getattr(error, "errno", None) in NOT_THE_IMAGES_FAULT:
            raise
        raise BadImageError(_explain(error)) from error


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Turn any mode into RGB; 16-bit grey keeps its upper 8 bits instead of clipping to white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def resize_shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Scale so that the shorter side is `size`, the longer one cut to a whole number."""
    width, height = image.size
    shorter = min(width, height)
    target = (int(size * width / shorter), int(size * height / shorter))
    if target[0] * target[1] > MOST_PIXELS:
        raise ValueError(f"{width}x{height} pixels are too long and narrow to be resized")
    return image if image.size == target else image.resize(target, Image.Resampling.BILINEAR)


def crop_centre(image: Image.Image, size: int) -> Image.Image:
    """Cut the middle square."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _explain(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"cannot be decoded: {text}"
