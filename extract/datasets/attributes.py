"""Reads attribute names and word vectors from a dataset's own files."""

import re
from pathlib import Path

import numpy as np

from msdn.extract.errors import DatasetError


def read_attribute_names(data: Path, candidates: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return the names from the first file that exists, or none at all."""
    for candidate in candidates:
        path = data / candidate
        if path.is_file():
            names = tuple(_parse_name(line) for line in _read_lines(path) if line.strip())
            if len(names) != count:
                raise DatasetError(f"{path}: names {len(names)} attributes, the class table has {count}")
            return names
    return ()


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text ({error})") from error


def _parse_name(line: str) -> str:
    """Turn CUB's `12 has_wing_color::red_(dark)` into `wing color: red (dark)`."""
    name = re.sub(r"^\s*\d+\s+", "", line).strip()
    return name.removeprefix("has_").replace("::", ": ").replace("_", " ")


def read_attribute_vectors(data: Path, file: str | None) -> np.ndarray | None:
    """Return the word vectors [K, D] of an .npz file, where there is one."""
    if file is None or not (data / file).exists():
        return None
    path = data / file
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays["vectors"], np.float32)
    except Exception as error:  # NumPy and zipfile raise many kinds on damaged files
        raise DatasetError(f"{path}: attribute vectors cannot be read ({error})") from error
