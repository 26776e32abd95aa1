"""A dataset of the user's own: `images/<class>/…` or tars, `attributes.csv`, perhaps `splits.csv` and `vectors.npz`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.annotations import Annotations, check_annotations
from msdn.cache.csv_table import CsvTable, Row, is_odd, quote
from msdn.cache.files import sha256_of
from msdn.cache.home import command_line
from msdn.extract.datasets.registry import DATASETS
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError
from msdn.extract.own.images import ImageList, find_unreadable, list_images, spell
from msdn.extract.own.mistakes import Mistake, Report, refuse
from msdn.extract.own.splits import FEWEST_SEEN, RULE, Images, divide_by_rule, read_splits
from msdn.extract.vectors.file import AttributeVectors, read_vectors

IMAGES, ATTRIBUTES, SPLITS, VECTORS = "images", "attributes.csv", "splits.csv", "vectors.npz"
FILES = (ATTRIBUTES, SPLITS, VECTORS)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
WORDS = {"yes": "1", "true": "1", "no": "0", "false": "0"}  # in any case
LARGEST = 1e15  # squares and sums of such numbers are still exact enough
SMALLEST = 1e-9  # a shorter row of attributes would be lost when it is scaled to length 1


@dataclass(frozen=True)
class ClassTable:
    """What `attributes.csv` says.

    Attributes:
        class_names: C names.
        attribute_names: K names.
        values: [C, K] float64.
        lines: the line of each class.
    """

    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    values: np.ndarray
    lines: tuple[int, ...]


@dataclass(frozen=True)
class _Contents:
    """What a folder holds, as far as it can be read."""

    images: ImageList
    table: ClassTable | None
    labels: np.ndarray
    splits: dict[str, np.ndarray]
    vectors: AttributeVectors | None


def open_own_dataset(folder: Path) -> Dataset:
    """Read a folder as a dataset, or raise a `DatasetError` that names its mistakes."""
    found: list[Mistake] = []
    contents = _read(folder, found)
    refuse(found, f"To list all of them: {command_line('data', 'check', folder)}")
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
    sources: dict[str, Any] = {
        "folder": str(folder.resolve()),
        "attributes": _describe_file(folder / ATTRIBUTES),
        "splits": _describe_file(folder / SPLITS) if (folder / SPLITS).is_file() else {"rule": RULE},
    }
    if vectors is not None:
        sources["vectors"] = vectors.source
    return Dataset(annotations, folder / IMAGES, sources)


def _describe_file(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256_of(path)}


def find_mistakes(folder: Path) -> list[Mistake]:
    """Find everything to fix, in images that cannot be opened too; does not stop at the first."""
    found: list[Mistake] = []
    contents = _read(folder, found)
    if contents is not None:
        found += find_unreadable(folder / IMAGES, contents.images.paths)
    return found


def _read(folder: Path, found: list[Mistake]) -> _Contents | None:
    if not folder.is_dir():
        what = "is a file; give the folder that it is in" if folder.exists() else "there is no such folder"
        found.append(Mistake(folder, what))
        return None
    found += _find_bad_names(folder)
    of_table: list[Mistake] = []
    table = _read_table(folder / ATTRIBUTES, of_table) if _has(folder, ATTRIBUTES, of_table) else None
    images = _read_images(folder, table.class_names if table else (), found)
    found += of_table
    if images.folders and table is not None:
        found += _find_strangers(folder, images, table)
    names = dict.fromkeys([*(table.class_names if table else ()), *map(spell, images.folders)])
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers[name] for name in images.classes], np.int64)
    splits = _divide(folder, Images(images.paths, labels, tuple(names)), found)
    return _Contents(images, table, labels, splits, _read_vectors(folder, table, found))


def _find_bad_names(folder: Path) -> Iterator[Mistake]:
    name = folder.resolve().name
    if not name or is_odd(name):
        message = (
            "the folder's name becomes the dataset's name, but it has odd characters or is empty; rename it"
        )
        yield Mistake(folder, message)
    if name.lower() in DATASETS:
        yield Mistake(folder, f"msdn knows another dataset named {quote(name)}; rename the folder")
    for entry in sorted(folder.iterdir()):
        meant = get_close_matches(entry.name.lower(), FILES, n=1, cutoff=0.94)
        if meant and entry.name not in FILES and not (folder / meant[0]).exists():
            yield Mistake(entry, f"is not read; name it {quote(meant[0])} or remove it")


def _read_images(folder: Path, class_names: Sequence[str], found: list[Mistake]) -> ImageList:
    root = folder / IMAGES
    advice = "put the images into images/CLASS/, one folder for each class, or tars of them into images/"
    if not root.is_dir():
        found.append(Mistake(root, f"there is no such folder; {advice}"))
        return ImageList()
    before = len(found)
    images = list_images(root, class_names, found)
    if not images.paths and len(found) == before:
        what = "no image in any class folder" if images.folders else "no class folder"
        found.append(Mistake(root, f"holds {what}; {advice}"))
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
        advice = "make it: a header 'class,ATTRIBUTE,…' and a row for every class"
        found.append(Mistake(path, f"there is no such file; {advice}"))
    return False


def _find_strangers(folder: Path, images: ImageList, table: ClassTable) -> Iterator[Mistake]:
    """Find images without a class, and classes that are meant to be theirs; others may have no images."""
    folders = {spell(name): name for name in images.folders}
    described = set(table.class_names)
    strange = folders.keys() - described
    for name, line in zip(table.class_names, table.lines, strict=True):
        near = get_close_matches(name, strange, n=1) if name not in folders and "/" not in name else []
        if near:
            spelt = quote(folders[near[0]])
            message = f"class {quote(name)} has no folder images/{name}; is {spelt} meant?"
            yield Mistake(folder / ATTRIBUTES, message, line)
    for name, spelt in folders.items():
        if name in strange:
            cut = next((other for other in table.class_names if other.startswith(f"{name}/")), None)
            why = (
                f"; it has {quote(cut)}, but no folder's name can hold a '/': rename the class" if cut else ""
            )
            yield Mistake(folder / IMAGES / spelt, f"attributes.csv has no row for class {quote(name)}{why}")


def _divide(folder: Path, images: Images, found: list[Mistake]) -> dict[str, np.ndarray]:
    if _has(folder, SPLITS, found):
        return read_splits(folder / SPLITS, images, found) if images.paths else {}
    count, fewest = len(np.unique(images.labels)), FEWEST_SEEN + 1
    if images.paths and count < fewest:
        needed = f"at least {fewest} are needed: {FEWEST_SEEN} seen and one unseen"
        found.append(Mistake(folder / IMAGES, f"there are {count} classes with images, {needed}"))
    return divide_by_rule(images)


def _read_vectors(folder: Path, table: ClassTable | None, found: list[Mistake]) -> AttributeVectors | None:
    path = folder / VECTORS
    if table is None or not _has(folder, VECTORS, found):
        return None
    try:
        return read_vectors(path, table.attribute_names)
    except DatasetError as error:
        found.append(Mistake(path, str(error).removeprefix(f"{path}: ")))
        return None


def read_attributes_csv(path: Path, class_names: Sequence[str] | None = None) -> ClassTable:
    """Read the table, or raise a `DatasetError` that names its mistakes.

    Args:
        path: the file.
        class_names: the classes it must describe; its rows may be in any order and are put into this one.
    """
    found: list[Mistake] = []
    table = _read_table(path, found)
    if table is not None and class_names is not None and not found:
        found += _compare_classes(path, table, class_names)
    refuse(found)
    assert table is not None, "no table and no mistake"
    if class_names is None:
        return table
    rows = {name: row for row, name in enumerate(table.class_names)}
    order = [rows[name] for name in class_names]
    lines = tuple(table.lines[row] for row in order)
    return ClassTable(tuple(class_names), table.attribute_names, table.values[order], lines)


def _compare_classes(path: Path, table: ClassTable, expected: Sequence[str]) -> Iterator[Mistake]:
    known, given = set(expected), set(table.class_names)
    for name, line in zip(table.class_names, table.lines, strict=True):
        if name not in known:
            yield Mistake(path, f"there is no class {quote(name)}", line)
    for name in expected:
        if name not in given:
            yield Mistake(path, f"class {quote(name)} has no row")


def _read_table(path: Path, found: list[Mistake]) -> ClassTable | None:
    """Read the table; cells that are no numbers are NaN in it, and named in `found`."""
    report = Report(path, found)
    table = report.read_csv(("class",))
    if table is None or not table.rows:
        return None
    classes = ClassTable(
        class_names=tuple(row.cells[0] for row in table.rows),
        attribute_names=table.header.cells[1:],
        values=np.array([_read_numbers(report, row, table) for row in table.rows]),
        lines=tuple(row.line for row in table.rows),
    )
    _find_bad_classes(report, classes)
    _find_alike(report, classes)
    return classes


def _read_numbers(report: Report, row: Row, table: CsvTable) -> list[float]:
    """Return the row's numbers; one mistake names its first bad cell and counts the others."""
    if not row.whole:
        return [np.nan] * (len(row.cells) - 1)
    numbers = [WORDS.get(cell.lower(), cell) for cell in row.cells[1:]]
    complaints = [_complain(cell) for cell in numbers]
    bad = [place for place, complaint in enumerate(complaints) if complaint]
    if bad:
        others = f" (and {len(bad) - 1} more cells of this row)" if len(bad) > 1 else ""
        column = quote(table.header.cells[1 + bad[0]])
        report.add(f"column {column}: {complaints[bad[0]]}{others}", row.line)
    cells = zip(numbers, complaints, strict=True)
    return [np.nan if complaint else float(cell) for cell, complaint in cells]


def read_number(cell: str) -> float | None:
    """The number that a cell means, `yes` and `no` among them; None where it means none."""
    text = WORDS.get(cell.lower(), cell)
    return None if _complain(text) else float(text)


def _complain(cell: str) -> str:
    if NUMBER.fullmatch(cell):
        return "" if abs(float(cell)) <= LARGEST else f"{quote(cell)} is too large, the limit is {LARGEST:g}"
    if not cell:
        return "the cell is empty, expected a number; write 0 if the class does not have the attribute"
    if DECIMAL_COMMA.fullmatch(cell):
        return f"{quote(cell)} has a decimal comma; write '{cell.replace(',', '.')}'"
    if NUMBER.fullmatch(cell.removesuffix("%").rstrip()):
        return f"{quote(cell)} has a percent sign; write the number alone"
    if cell.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return f"{quote(cell)} is not a finite number; write the class's value, or 0"
    return f"{quote(cell)} is neither a number nor yes or no"


def _find_bad_classes(report: Report, table: ClassTable) -> None:
    lines: dict[str, int] = {}
    for name, line in zip(table.class_names, table.lines, strict=True):
        if not name:
            report.add("the row names no class in its first cell", line)
        elif name in lines:
            report.add(f"class {quote(name)} has a row in line {lines[name]} already; keep one", line)
        else:
            lines[name] = line


def _find_alike(report: Report, table: ClassTable) -> None:
    """Find classes that no model could tell apart: attributes are scaled to length 1 before they are used."""
    first: dict[bytes, int] = {}
    done: set[str] = set()
    for row, (name, line) in enumerate(zip(table.class_names, table.lines, strict=True)):
        length = np.linalg.norm(table.values[row])
        if name in done or not np.isfinite(length):
            continue
        done.add(name)
        if length < SMALLEST:
            report.add(f"class {quote(name)} has only zeros; give values for what it looks like", line)
            continue
        direction = (table.values[row] / length).round(9) + 0.0  # turns -0 into 0
        other = first.setdefault(direction.tobytes(), row)
        if other != row:
            twin = f"{quote(table.class_names[other])} (line {table.lines[other]})"
            advice = "they have the same attributes, or multiples of them; add an attribute that differs"
            report.add(f"class {quote(name)} cannot be told apart from {twin}: {advice}", line)
