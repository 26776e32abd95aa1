"""A dataset of the user's own: `images/<class>/…`, `attributes.csv`, and perhaps `splits.csv` and `vectors.npz`."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdn.cache.annotations import Annotations, check_annotations
from msdn.extract.datasets.registry import DATASETS
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError
from msdn.extract.own.division import RULE, Images, divide_by_rule
from msdn.extract.own.images import ImageList, class_of, find_unreadable, list_images
from msdn.extract.own.mistakes import Mistake, is_odd, quote, refuse
from msdn.extract.own.splits import FEWEST_SEEN, read_splits
from msdn.extract.own.table import ClassTable, read_class_table

if TYPE_CHECKING:
    from msdn.extract.vectors.file import AttributeVectors

IMAGES, ATTRIBUTES, SPLITS, VECTORS = "images", "attributes.csv", "splits.csv", "vectors.npz"
FILES = (ATTRIBUTES, SPLITS, VECTORS)


@dataclass(frozen=True)
class _Contents:
    """What a folder holds, as far as it can be read."""

    images: ImageList
    table: ClassTable | None
    labels: np.ndarray
    splits: dict[str, np.ndarray]
    vectors: "AttributeVectors | None"


def open_own_dataset(folder: Path) -> Dataset:
    """Read a folder as a dataset, or raise a `DatasetError` that names its mistakes."""
    found: list[Mistake] = []
    contents = _read(folder, found)
    refuse(found, f"'msdn data check {shlex.quote(str(folder))}' lists all of them")
    assert contents is not None and contents.table is not None, "unread, and no mistake"
    table, vectors = contents.table, contents.vectors
    annotations = Annotations(
        dataset=folder.resolve().name,
        image_paths=contents.images.paths,
        labels=contents.labels,
        class_names=table.class_names,
        attributes=table.values,
        attribute_names=table.attribute_names,
        attribute_vectors=None if vectors is None else vectors.values,
        splits=contents.splits,
    )
    check_annotations(annotations)
    return Dataset(annotations, folder / IMAGES, _describe_sources(folder, vectors))


def find_mistakes(folder: Path) -> list[Mistake]:
    """Find everything to mend, in images that cannot be opened too; does not stop at the first."""
    found: list[Mistake] = []
    contents = _read(folder, found)
    if contents is not None:
        found += find_unreadable(folder / IMAGES, contents.images.paths)
    return found


def _read(folder: Path, found: list[Mistake]) -> _Contents | None:
    if not folder.is_dir():
        found.append(Mistake(folder, "there is no such folder"))
        return None
    found += [*_find_bad_names(folder)]
    images = _read_images(folder, found)
    table = read_class_table(folder / ATTRIBUTES, found) if _has(folder, ATTRIBUTES, found) else None
    if images.folders and table is not None:
        found += [*_find_strangers(folder, images, table)]
    names = dict.fromkeys([*(table.class_names if table else ()), *map(class_of, images.folders)])
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers[class_of(path)] for path in images.paths], np.int64)
    splits = _divide(folder, Images(images.paths, labels, tuple(names)), found)
    return _Contents(images, table, labels, splits, _read_vectors(folder, table, found))


def _find_bad_names(folder: Path) -> Iterator[Mistake]:
    name = folder.resolve().name
    if not name or is_odd(name):
        yield Mistake(
            folder, "the folder's name becomes the dataset's, and has odd characters or none; rename it"
        )
    if name.lower() in DATASETS:
        yield Mistake(folder, f"msdn knows another dataset named {quote(name)}; rename the folder")
    for entry in sorted(folder.iterdir()):
        meant = get_close_matches(entry.name.lower(), FILES, n=1, cutoff=0.94)
        if meant and entry.name not in FILES and not (folder / meant[0]).exists():
            yield Mistake(entry, f"is not read; name it {quote(meant[0])} or remove it")


def _read_images(folder: Path, found: list[Mistake]) -> ImageList:
    root = folder / IMAGES
    if not root.is_dir():
        found.append(
            Mistake(root, "there is no such folder; put the images into images/CLASS/, one folder a class")
        )
        return ImageList()
    images = list_images(root, found)
    if not images.folders:
        found.append(Mistake(root, "holds no class folder; put the images into images/CLASS/"))
    return images


def _has(folder: Path, name: str, found: list[Mistake]) -> bool:
    """Whether there is such a file; a mistake where it must be and is not, or is something else."""
    path = folder / name
    if path.is_file():
        return True
    if path.exists():
        found.append(Mistake(path, "is a folder or device, expected a file"))
    elif path.is_symlink():
        found.append(Mistake(path, f"leads to a file that is not there; put the file here, as {quote(name)}"))
    elif name == ATTRIBUTES:
        found.append(
            Mistake(
                path, "there is no such file; make it: a header 'class,ATTRIBUTE,…' and a row for every class"
            )
        )
    return False


def _find_strangers(folder: Path, images: ImageList, table: ClassTable) -> Iterator[Mistake]:
    """Find classes without images, and images without a class."""
    folders = {class_of(name): name for name in images.folders}
    full = {class_of(path) for path in images.paths}
    described = set(table.class_names)
    for name, line in zip(table.class_names, table.lines, strict=True):
        if name and name not in folders:
            near = get_close_matches(name, [*folders.keys() - described], n=1)
            hint = f"; is {quote(folders[near[0]])} meant?" if near else "; add it or remove the row"
            yield Mistake(folder / ATTRIBUTES, f"class {quote(name)} has no folder images/{name}{hint}", line)
    for name, spelt in folders.items():
        if name not in described:
            yield Mistake(folder / IMAGES / spelt, f"attributes.csv has no row for class {quote(name)}")
        if name not in full:
            yield Mistake(folder / IMAGES / spelt, "holds no image")


def _divide(folder: Path, images: Images, found: list[Mistake]) -> dict[str, np.ndarray]:
    if _has(folder, SPLITS, found):
        return read_splits(folder / SPLITS, images, found) if images.paths else {}
    count, fewest = len(images.class_names), FEWEST_SEEN + 1
    if images.paths and count < fewest:
        message = (
            f"there are {count} classes, at least {fewest} are needed: {FEWEST_SEEN} seen and one unseen"
        )
        found.append(Mistake(folder / IMAGES, message))
    return divide_by_rule(images)


def _read_vectors(folder: Path, table: ClassTable | None, found: list[Mistake]) -> "AttributeVectors | None":
    path = folder / VECTORS
    if table is None or not _has(folder, VECTORS, found):
        return None
    from msdn.extract.vectors.file import read_vectors

    try:
        return read_vectors(path, table.attribute_names)
    except DatasetError as error:
        found.append(Mistake(path, str(error).removeprefix(f"{path}: ")))
        return None


def _describe_sources(folder: Path, vectors: "AttributeVectors | None") -> dict[str, Any]:
    sources: dict[str, Any] = {
        "folder": str(folder.resolve()),
        "attributes": _describe_file(folder / ATTRIBUTES),
        "splits": _describe_file(folder / SPLITS) if (folder / SPLITS).is_file() else {"rule": RULE},
    }
    return sources if vectors is None else sources | {"vectors": vectors.source}


def _describe_file(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()}
