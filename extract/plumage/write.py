"""Draws the whole Plumage dataset to disk; a folder of that name is always complete."""

import csv
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from msdn.extract.plumage.draw import draw_bird
from msdn.extract.plumage.layout import list_pictures, name_picture
from msdn.extract.plumage.seal import PIXELS_SHA256, digest_pixels, hash_pixels
from msdn.extract.plumage.tables import write_tables

JPEG_QUALITY = 90
PARTS_HEADER = ("image", "part", "x0", "y0", "x1", "y1")

Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)


def is_running(process: str) -> bool:
    """Tell whether a process of this id is alive."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def open_draft(folder: Path) -> Path:
    """Make the folder to draw into, beside the final one; remove what interrupted runs left there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}.drawing-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        process = leftover.name.removeprefix(prefix)
        if process == str(os.getpid()) or not is_running(process):
            shutil.rmtree(leftover)
    draft = folder.with_name(f"{prefix}{os.getpid()}")
    draft.mkdir()
    return draft


def write_pictures(draft: Path, on_progress: Progress | None) -> list[bytes]:
    """Draw and encode every picture and list its parts; give the digests of the pixels."""
    pictures, digests = list(list_pictures()), []
    with (draft / "parts.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(PARTS_HEADER)
        for done, picture in enumerate(pictures, start=1):
            image, parts = draw_bird(*picture)
            path = draft / "images" / name_picture(*picture)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=JPEG_QUALITY, subsampling=0)
            table.writerows((f"images/{name_picture(*picture)}", part, *box) for part, box in parts.items())
            digests.append(digest_pixels(image))
            if on_progress is not None:
                on_progress(done, len(pictures))
    return digests


def check_pixels(digests: list[bytes]) -> None:
    """Warn when this machine drew other pixels than the frozen ones."""
    if (got := hash_pixels(digests)) != PIXELS_SHA256:
        logger.warning(
            "Plumage: the pixels drawn here hash to %s, expected %s: figures are not comparable with published ones",
            got,
            PIXELS_SHA256,
        )


def publish_draft(draft: Path, folder: Path) -> None:
    """Give the complete folder its name; another process may have been first with the same content."""
    try:
        draft.rename(folder)
    except OSError:
        if not (folder / "att_splits.mat").is_file():
            raise
        shutil.rmtree(draft)


def write_plumage(folder: Path, on_progress: Progress | None = None) -> None:
    """Draw the dataset into `folder`, which appears only once it is complete.

    Args:
        folder: Where the dataset goes; must not exist yet (an empty folder is taken).
        on_progress: Called after each picture with the numbers done and in all.

    Raises:
        FileExistsError: `folder` holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: not empty, expected a new folder; remove it to draw Plumage again")
    draft = open_draft(folder)
    try:
        digests = write_pictures(draft, on_progress)
        check_pixels(digests)
        write_tables(draft)
        publish_draft(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
