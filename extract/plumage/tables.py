"""Writes Plumage's tables: attribute names, word vectors and the two xlsa17-style MATLAB files."""

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from msdn.extract.plumage.attributes import list_attributes, make_attribute_vectors
from msdn.extract.plumage.classes import CLASS_COUNT, list_classes, rate_strengths
from msdn.extract.plumage.layout import list_pictures, name_class, name_picture, split_pictures
from msdn.extract.plumage.seal import PLUMAGE_VERSION

PATH_PREFIX = "/drawn/plumage/images/"  # xlsa17 keeps its authors' absolute paths; readers look for `images/`
VECTORS_SOURCE = f"synthetic (Plumage {PLUMAGE_VERSION}): the sum of one seeded vector per word of the name"
MAT_HEADER = f"MATLAB 5.0 MAT-file, Plumage {PLUMAGE_VERSION}, synthetic".encode().ljust(116)


def column_of_text(lines: list[str]) -> np.ndarray:
    """Make a MATLAB cell column: object [n, 1]."""
    cells = np.empty((len(lines), 1), dtype=object)
    cells[:, 0] = lines
    return cells


def column_of_numbers(values: np.ndarray) -> np.ndarray:
    """Make a MATLAB column of doubles: float64 [n, 1]."""
    return np.asarray(values, dtype=np.float64)[:, None]


def save_mat(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Save as MATLAB does, but without the time of writing: the same bytes every time."""
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    path.write_bytes(MAT_HEADER + buffer.getvalue()[len(MAT_HEADER) :])


def write_res101(folder: Path) -> None:
    """Write the labels and files of all pictures."""
    labels = np.array([class_index + 1 for class_index, _ in list_pictures()])
    files = [PATH_PREFIX + name_picture(*picture) for picture in list_pictures()]
    save_mat(
        folder / "res101.mat", {"labels": column_of_numbers(labels), "image_files": column_of_text(files)}
    )


def write_att_splits(folder: Path) -> None:
    """Write class attributes, class names and splits."""
    strengths = rate_strengths().T  # [K, C]
    splits = {name: column_of_numbers(rows) for name, rows in split_pictures().items()}
    names = [name_class(class_index) for class_index in range(CLASS_COUNT)]
    tables = {"att": strengths / np.linalg.norm(strengths, axis=0), "original_att": strengths}
    save_mat(folder / "att_splits.mat", {**tables, **splits, "allclasses_names": column_of_text(names)})


def write_attributes(folder: Path) -> None:
    """Write the attributes' names, as CUB does, and their word vectors."""
    names = list_attributes()
    lines = [f"{number} {name}\n" for number, name in enumerate(names, start=1)]
    (folder / "attributes.txt").write_text("".join(lines), encoding="utf-8")
    vectors = make_attribute_vectors()
    np.savez(
        folder / "attribute_vectors.npz",
        names=np.array(names),
        vectors=vectors,
        source=np.array(VECTORS_SOURCE),
    )


def write_readme(folder: Path) -> None:
    """Say what this is to whoever finds the folder."""
    unseen = sum(bird.role == "unseen" for bird in list_classes())
    text = (
        f"Plumage, version {PLUMAGE_VERSION}: SYNTHETIC birds, drawn by msdn from seeds. "
        "No photographs, no real species.\n"
        f"{CLASS_COUNT} classes ({CLASS_COUNT - unseen} seen, {unseen} unseen), {len(list_attributes())} attributes.\n"
        "images/                the pictures\n"
        "parts.csv              where each part is seen, in pixels; x1 and y1 lie just outside\n"
        "attributes.txt         the attributes' names, as in CUB\n"
        "attribute_vectors.npz  their word vectors, synthetic too\n"
        "res101.mat             labels and files of the pictures, as in xlsa17 (no features)\n"
        "att_splits.mat         class attributes (0..100) and splits, as in xlsa17\n"
    )
    (folder / "README.txt").write_text(text, encoding="utf-8")


def write_tables(folder: Path) -> None:
    """Write everything but pictures and their parts."""
    write_attributes(folder)
    write_res101(folder)
    write_att_splits(folder)
    write_readme(folder)
