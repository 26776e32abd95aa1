"""Attribute vectors on disk: our .npz files, and published pickles, which are read without being run."""

import io
import json
import logging
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.files import make_folder, replace_file, sha256_of
from msdn.extract.errors import DatasetError
from msdn.extract.vectors.safe_pickle import load_array

LARGEST = 2**28  # bytes, packed and unpacked; CUB's vectors take 0.4 MB
PICKLES = (".pkl", ".pickle")
FINISHED = (".npz", *PICKLES)  # files of attribute vectors, to be told from files of word vectors
MAKE_AGAIN = "make it again with 'msdn data vectors'"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttributeVectors:
    """Word vectors of K attributes."""

    values: np.ndarray  # [K, D] float32, not normalised
    source: dict[str, Any]  # where they come from, as plain JSON values


def read_vectors(path: Path, names: Sequence[str], count: int | None = None) -> AttributeVectors:
    """Read the vectors of attributes with these names, none where they are not known, of which there are `count`.

    The file is an .npz file with the array `vectors` [K, D] and perhaps `names` and `source`, or a pickled array.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; 'msdn data vectors' makes one")
    arrays = {"vectors": load_array(path)} if path.suffix.lower() in PICKLES else _read_npz(path)
    if "vectors" not in arrays:
        raise DatasetError(f"{path}: holds no array 'vectors'; {MAKE_AGAIN}")
    values = _check_values(path, arrays["vectors"], len(names) or count)
    if "names" in arrays:
        _compare_names(path, arrays["names"], names)
    _warn_of_zeros(path, values, names)
    return AttributeVectors(values, _read_source(path, arrays.get("source")))


def write_vectors(path: Path, values: np.ndarray, names: Sequence[str], source: Mapping[str, Any]) -> None:
    """Write an .npz file, whole or not at all; the same content gives the same bytes."""
    buffer = io.BytesIO()
    arrays = {"vectors": np.asarray(values, np.float32), "source": np.array(json.dumps(source))}
    np.savez(buffer, **(arrays | ({"names": np.array(names)} if names else {})))  # type: ignore[arg-type]
    make_folder(path.parent)
    replace_file(path, buffer.getvalue())


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() != ".npz":
        raise DatasetError(f"{path}: expected attribute vectors as .npz or .pkl")
    try:
        if _unpacked_size(path) > LARGEST:
            raise DatasetError(f"{path}: is larger than {LARGEST >> 20} MiB, too large for attribute vectors")
        with np.load(path, allow_pickle=False) as arrays:
            wanted = [name for name in ("vectors", "names", "source") if name in arrays.files]
            found = {name: np.asarray(arrays[name]) for name in wanted}
        for name, array in found.items():
            if array.dtype.kind == "U" and _largest_code(array) > sys.maxunicode:
                raise ValueError(
                    f"'{name}' holds what is no character"
                )  # NumPy makes a text of it all the same
        return found
    except (DatasetError, PermissionError):
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds on damaged files
        reason = ascii(str(error) or type(error).__name__)[:200]
        raise DatasetError(f"{path}: attribute vectors cannot be read ({reason}); {MAKE_AGAIN}") from error


def _largest_code(texts: np.ndarray) -> int:
    """The number of the last character that texts use."""
    native = np.ascontiguousarray(texts.reshape(-1).astype(texts.dtype.newbyteorder("=")))
    return int(native.view(np.uint32).max(initial=0))


def _unpacked_size(path: Path) -> int:
    size = path.stat().st_size
    if size > LARGEST:
        return size
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def _check_values(path: Path, values: np.ndarray, count: int | None) -> np.ndarray:
    if values.dtype.kind not in "iuf" or values.ndim != 2 or not values.size:
        got = f"{values.dtype} of shape {values.shape}"
        raise DatasetError(f"{path}: 'vectors' is {got}, expected a table of numbers [K, D]")
    if count is not None and len(values) != count:
        expected = f"the dataset has {count} attributes"
        raise DatasetError(f"{path}: {len(values)} vectors, but {expected}; is it another dataset's file?")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, np.float32)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise DatasetError(f"{path}: the vector of attribute {wrong[0] + 1} is not finite; {MAKE_AGAIN}")
    return values


def _compare_names(path: Path, array: np.ndarray, names: Sequence[str]) -> None:
    theirs = [str(name) for name in array.reshape(-1)]
    if names and len(theirs) != len(names):
        raise DatasetError(f"{path}: names {len(theirs)} attributes, the dataset {len(names)}; {MAKE_AGAIN}")
    for number, (there, here) in enumerate(zip(theirs, names, strict=False), start=1):
        if there != here:
            difference = f"{there[:80]!a} there, but {here[:80]!a} in the dataset"
            raise DatasetError(f"{path}: attribute {number} is {difference}; {MAKE_AGAIN}")


def _warn_of_zeros(path: Path, values: np.ndarray, names: Sequence[str]) -> None:
    for row in map(int, np.flatnonzero(~values.any(axis=1))):
        name = f" ({names[row]})" if names else ""
        log.warning(
            "%s: attribute %d%s has a vector of zeros, which says nothing about it", path, row + 1, name
        )


def _read_source(path: Path, stored: np.ndarray | None) -> dict[str, Any]:
    """Return the stored source, or name the file itself where there is none."""
    text = "" if stored is None or stored.size != 1 else str(stored.reshape(-1)[0])
    try:
        source = json.loads(text)
        if isinstance(source, dict):
            return source
    except (ValueError, RecursionError):
        pass  # other tools may keep a plain sentence there
    itself = {"file": path.name, "sha256": sha256_of(path)}
    return itself | ({"note": text} if text else {})
