"""Draws the whole Plumage dataset to disk, with tables as benchmarks have; a folder of that name is complete."""

import csv
import hashlib
import io
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.io import savemat

from msdn.cache.files import FileLock, flush_folder, flush_tree, make_folder
from msdn.extract.plumage.birds import (
    CLASS_COUNT,
    list_attributes,
    list_classes,
    make_attribute_vectors,
    rate_strengths,
)
from msdn.extract.plumage.draw import PIXELS_SHA256, PLUMAGE_VERSION, draw_bird

IMAGES_PER_CLASS = 30
TEST_SEEN_EVERY = 5  # of a seen class's images, each fifth is kept for testing
JPEG_QUALITY = 90
PATH_PREFIX = "/drawn/plumage/images/"  # xlsa17 keeps its authors' absolute paths; readers look for `images/`
PARTS_HEADER = ("image", "part", "x0", "y0", "x1", "y1")
VECTORS_SOURCE = f"synthetic (Plumage {PLUMAGE_VERSION}): the sum of one seeded vector per word of the name"
MAT_HEADER = f"MATLAB 5.0 MAT-file, Plumage {PLUMAGE_VERSION}, synthetic".encode().ljust(116)
README = f"""\
Plumage, version {PLUMAGE_VERSION}: SYNTHETIC birds, drawn by msdn from seeds. No photographs, no real species.
{CLASS_COUNT} classes ({{seen}} seen, {{unseen}} unseen), {{attributes}} attributes.
images/                the pictures
parts.csv              where each part is seen, in pixels; x1 and y1 lie just outside
attributes.txt         the attributes' names, as in CUB
attribute_vectors.npz  their word vectors, synthetic too
res101.mat             labels and files of the pictures, as in xlsa17 (no features)
att_splits.mat         class attributes (0..100) and splits, as in xlsa17
"""

Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)


def list_pictures() -> Iterator[tuple[int, int]]:
    """Go through all (class index, image index), in the order of the rows of all tables."""
    return ((c, i) for c in range(CLASS_COUNT) for i in range(IMAGES_PER_CLASS))


def name_class(class_index: int) -> str:
    """Name a class as CUB does: `001.Some_Bird`."""
    return f"{class_index + 1:03d}.{list_classes()[class_index].name}"


def name_picture(class_index: int, image_index: int) -> str:
    """Name a picture's file under `images/`."""
    return f"{name_class(class_index)}/{list_classes()[class_index].name}_{image_index + 1:04d}.jpg"


def split_pictures() -> dict[str, np.ndarray]:
    """Give each split's rows, 1-based, under the names that xlsa17 uses."""
    roles = np.array([list_classes()[c].role for c, _ in list_pictures()])
    held_out = np.array([i % TEST_SEEN_EVERY == TEST_SEEN_EVERY - 1 for _, i in list_pictures()])
    unseen = roles == "unseen"
    masks = {
        "trainval_loc": ~unseen & ~held_out,
        "train_loc": (roles == "train") & ~held_out,
        "val_loc": (roles == "val") & ~held_out,
        "test_seen_loc": ~unseen & held_out,
        "test_unseen_loc": unseen,
    }
    return {name: np.flatnonzero(mask) + 1 for name, mask in masks.items()}


def write_plumage(folder: Path, on_progress: Progress = lambda _done, _total: None) -> None:
    """Draw the dataset into `folder`, which must be new or empty and appears only once it is complete.

    `on_progress` is called after each picture with the numbers done and in all.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: not empty, expected a new folder; remove it to draw Plumage again")
    make_folder(folder.parent)
    with FileLock(folder.with_name(f".{folder.name}.lock"), f"drawing {folder}", waits=True):
        if not (folder / "att_splits.mat").is_file():  # else another process drew it, with the same content
            _draw(folder, on_progress)


def _draw(folder: Path, on_progress: Progress) -> None:
    draft = folder.with_name(f".{folder.name}.drawing")
    if draft.exists():  # of a killed process, for the lock is ours
        shutil.rmtree(draft)
    draft.mkdir()
    try:
        _write_pictures(draft, on_progress)
        write_tables(draft)
        flush_tree(draft)
        draft.rename(folder)
        flush_folder(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write_pictures(draft: Path, on_progress: Progress) -> None:
    """Draw every picture and list its parts; warn when this machine drew other pixels than the frozen ones."""
    pictures, pixels = list(list_pictures()), hashlib.sha256()
    with (draft / "parts.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(PARTS_HEADER)
        for done, picture in enumerate(pictures, start=1):
            image, parts = draw_bird(*picture)
            path = draft / "images" / name_picture(*picture)
            path.parent.mkdir(parents=True, exist_ok=True)
            jpeg = io.BytesIO()  # Pillow itself passes over a file that takes only a part
            image.save(jpeg, "jpeg", quality=JPEG_QUALITY, subsampling=0)
            path.write_bytes(jpeg.getvalue())
            table.writerows((f"images/{name_picture(*picture)}", part, *box) for part, box in parts.items())
            pixels.update(hashlib.sha256(image.tobytes()).digest())
            on_progress(done, len(pictures))
    if pixels.hexdigest() != PIXELS_SHA256:
        logger.warning(
            "Plumage: the pixels have the hash %s, expected %s: figures cannot be compared with published ones",
            pixels.hexdigest(),
            PIXELS_SHA256,
        )


def write_tables(folder: Path) -> None:
    """Write everything but the pictures."""
    names = list_attributes()
    lines = [f"{number} {name}\n" for number, name in enumerate(names, start=1)]
    (folder / "attributes.txt").write_text("".join(lines), encoding="utf-8")
    vectors, source = make_attribute_vectors(), np.array(VECTORS_SOURCE)
    np.savez(folder / "attribute_vectors.npz", names=np.array(names), vectors=vectors, source=source)
    labels = np.array([class_index + 1 for class_index, _ in list_pictures()])
    files = [PATH_PREFIX + name_picture(*picture) for picture in list_pictures()]
    _save_mat(folder / "res101.mat", {"labels": _numbers(labels), "image_files": _cells(files)})
    strengths = rate_strengths().T  # [K, C]
    tables = {"att": strengths / np.linalg.norm(strengths, axis=0), "original_att": strengths}
    splits = {name: _numbers(rows) for name, rows in split_pictures().items()}
    classes = _cells([name_class(class_index) for class_index in range(CLASS_COUNT)])
    _save_mat(folder / "att_splits.mat", {**tables, **splits, "allclasses_names": classes})
    unseen = sum(bird.role == "unseen" for bird in list_classes())
    readme = README.format(seen=CLASS_COUNT - unseen, unseen=unseen, attributes=len(names))
    (folder / "README.txt").write_text(readme, encoding="utf-8")


def _cells(lines: list[str]) -> np.ndarray:
    """Make a MATLAB cell column: object [n, 1]."""
    cells = np.empty((len(lines), 1), dtype=object)
    cells[:, 0] = lines
    return cells


def _numbers(values: np.ndarray) -> np.ndarray:
    """Make a MATLAB column of doubles: float64 [n, 1]."""
    return np.asarray(values, dtype=np.float64)[:, None]


def _save_mat(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Save as MATLAB does, but without the time of writing: the same bytes every time."""
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    path.write_bytes(MAT_HEADER + buffer.getvalue()[len(MAT_HEADER) :])
