"""Reads attribute names from a dataset's own files, and the word vectors that lie beside them."""

import re
from collections.abc import Sequence
from pathlib import Path

from msdn.extract.datasets.lists import unwrap_texts
from msdn.extract.datasets.matfile import read_mat
from msdn.extract.errors import DatasetError
from msdn.extract.vectors.file import AttributeVectors, read_vectors

MAT_VARIABLE = "attributes"  # of SUN's attributes.mat, one cell per name


def read_attribute_names(data: Path, candidates: tuple[str, ...], count: int | None) -> tuple[str, ...]:
    """Return the names from the first file that exists, or none at all; `count` is K where it is known."""
    for candidate in candidates:
        path = data / candidate
        if path.is_file():
            lines = _read_cells(path) if path.suffix == ".mat" else _read_lines(path)
            names = tuple(_parse_name(line) for line in lines if line.strip())
            if count is not None and len(names) != count:
                raise DatasetError(f"{path}: names {len(names)} attributes, the class table has {count}")
            return names
    return ()


def read_attribute_vectors(
    data: Path, file: str | None, names: Sequence[str], count: int
) -> AttributeVectors | None:
    """Return the word vectors [K, D] of the attributes, where the dataset has a file of them."""
    if file is None or not (data / file).exists():
        return None
    return read_vectors(data / file, names, count)


def _read_cells(path: Path) -> list[str]:
    found = read_mat(path, {MAT_VARIABLE})
    if MAT_VARIABLE not in found:
        raise DatasetError(
            f"{path}: '{MAT_VARIABLE}' is missing; is it the attributes.mat of SUNAttributeDB?"
        )
    return unwrap_texts(path, found[MAT_VARIABLE])


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text ({error})") from error


def _parse_name(line: str) -> str:
    """Turn CUB's `12 has_wing_color::red_(dark)` into `wing color: red (dark)`."""
    name = re.sub(r"^\s*\d+\s+", "", line).strip()
    return name.removeprefix("has_").replace("::", ": ").replace("_", " ")
