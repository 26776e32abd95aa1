"""From files to blocks of pixels: whether images are there, decoding them, and reading ahead by a few threads.

An image is RGB, resized and cut as its backbone's preparation says, short of the normalisation. It is turned upright
only where the preparation says so: the published scripts ignore EXIF rotation and take pixels as they are stored.
"""

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from msdn.extract.backbones.entry import Preparation
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import BadImageError, DatasetError
from msdn.extract.opening import find_unreadable_kinds, open_image
from msdn.extract.tars import is_image_file

NOT_THE_IMAGES_FAULT = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM}  # stop, never mask
MOST_PIXELS = 100_000_000  # after resizing: a picture so long and narrow would take gigabytes
ORIENTATION = 0x0112  # EXIF's tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
AHEAD = 3  # blocks decoded before they are needed: hides uneven images, costs 5 MB each at 224 px
NAMED = 10  # missing images, before the others are only counted


def require_images(dataset: Dataset, rows: Iterable[int]) -> None:
    """Raise unless the images of all `rows` are files: all missing ones are counted, the first ten named."""
    missing = [path for path in map(dataset.image_path, rows) if not is_image_file(path)]
    if missing:
        named = "".join(f"\n  {path}" for path in missing[:NAMED])
        more = f"\n  and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DatasetError(
            f"{dataset.image_folder}: {len(missing)} of {len(dataset.annotations.image_paths)} images are "
            f"missing:{named}{more}\nPut them there and repeat the command, or extract without "
            "them: 'msdn extract' with '--bad-images mask'."
        )


def require_readers(paths: Sequence[Path]) -> None:
    """Raise where images are of a kind that takes an extra which is not installed."""
    unread = find_unreadable_kinds(paths)
    if unread:
        raise DatasetError(unread)


def read_image(path: Path, preparation: Preparation) -> np.ndarray:
    """Return the image as [size, size, 3] uint8, or raise a `BadImageError` with the reason."""
    try:
        with open_image(path) as image:
            if not preparation.squash:
                scaled_size(
                    image.size, preparation.resize or preparation.size
                )  # refused before it takes memory
            turned = turn_upright(image) if preparation.upright else image
            return np.asarray(prepare(convert_to_rgb(turned), preparation))
    except MemoryError:
        raise
    except FileNotFoundError:
        raise BadImageError("no such file") from None
    except BadImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
        if getattr(error, "errno", None) in NOT_THE_IMAGES_FAULT:
            raise
        raise BadImageError(_explain(error)) from error


def turn_upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data says; where that is damaged or says nothing, it stays as it is stored."""
    image.load()  # of a TIFF, Pillow turns it here and forgets the orientation
    try:
        orientation: Any = image.getexif().get(ORIENTATION)
        turn = TURNS.get(orientation)
    except Exception:  # Pillow's readers raise nearly anything on broken data
        return image
    return image if turn is None else image.transpose(turn)


def prepare(image: Image.Image, preparation: Preparation) -> Image.Image:
    """Resize and cut an RGB image as its network's own evaluation does."""
    target = preparation.resize or preparation.size
    kind = Image.Resampling[preparation.interpolation.upper()]
    if preparation.squash:
        return crop_centre(image.resize((target, target), kind), preparation.size)
    return crop_centre(resize_shorter_side(image, target, kind), preparation.size)


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Turn any mode into RGB; 16-bit grey keeps its upper 8 bits instead of clipping to white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def resize_shorter_side(image: Image.Image, size: int, kind: Image.Resampling) -> Image.Image:
    """Scale so that the shorter side is `size`, the longer one cut to a whole number."""
    target = scaled_size(image.size, size)
    return image if image.size == target else image.resize(target, kind)


def scaled_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Width and height of an image whose shorter side is scaled to `shorter`; a ValueError where they are absurd."""
    width, height = size
    target = (int(shorter * width / min(size)), int(shorter * height / min(size)))
    if target[0] * target[1] > MOST_PIXELS:
        raise ValueError(f"{width}x{height} pixels are too long and narrow to be resized")
    return target


def crop_centre(image: Image.Image, size: int) -> Image.Image:
    """Cut the middle square."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _explain(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"cannot be decoded: {text}"


@dataclass
class Block:
    """Images [block_rows, size, size, 3] of which `positions` hold `rows`; the others are black.

    It always has the same shape and every row its fixed place in it, so that a row's features do not depend on
    where an extraction was interrupted.
    """

    images: np.ndarray
    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


def plan_blocks(rows: Sequence[int], block_rows: int) -> list[list[int]]:
    """Group rows by the aligned block they fall into: row r belongs to block r // block_rows."""
    blocks: dict[int, list[int]] = {}
    for row in sorted(rows):
        blocks.setdefault(row // block_rows, []).append(row)
    return [blocks[number] for number in sorted(blocks)]


def default_workers() -> int:
    """Decoding threads: one a core this process may use, eight at most."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class BlockReader:
    """Iterates over the blocks of `rows`; use as a context manager. `busy` is seconds spent per thread.

    Pillow decodes without Python's lock, so threads suffice.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        rows: Sequence[int],
        block_rows: int,
        preparation: Preparation,
        workers: int,
    ) -> None:
        self._paths = paths
        self._plan = plan_blocks(rows, block_rows)
        self._block_rows = block_rows
        self._preparation = preparation
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "decode")
        self._seconds = 0.0

    def __enter__(self) -> "BlockReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def busy(self) -> float:
        """Seconds of reading and decoding, shared among the threads."""
        return self._seconds / self._workers

    def __iter__(self) -> Iterator[Block]:
        waiting: deque[tuple[int, Block, list[Future[float]]]] = deque()
        for number in range(len(self._plan)):
            waiting.append(self._start(number))
            if len(waiting) > AHEAD:
                yield self._finish(*waiting.popleft())
        while waiting:
            yield self._finish(*waiting.popleft())

    def _start(self, number: int) -> tuple[int, Block, list[Future[float]]]:
        size = self._preparation.size
        block = Block(np.zeros((self._block_rows, size, size, 3), np.uint8))
        return number, block, [self._pool.submit(self._decode, block, row) for row in self._plan[number]]

    def _decode(self, block: Block, row: int) -> float:
        start = perf_counter()
        try:
            block.images[row % self._block_rows] = read_image(self._paths[row], self._preparation)
        except BadImageError as error:
            block.bad[row] = str(error)
        return perf_counter() - start

    def _finish(self, number: int, block: Block, futures: list[Future[float]]) -> Block:
        self._seconds += sum(future.result() for future in futures)
        block.rows = [row for row in self._plan[number] if row not in block.bad]
        block.positions = [row % self._block_rows for row in block.rows]
        return block
