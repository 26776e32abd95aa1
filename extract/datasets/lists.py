"""What both annotation files of the Proposed Splits have in common: lists that count from 1, names in cells."""

from pathlib import Path

import numpy as np

from msdn.extract.datasets.matfile import read_mat
from msdn.extract.errors import DatasetError

FETCH_AGAIN = "fetch the Proposed Splits (xlsa17.zip) again"


def load_lists(
    path: Path, needed: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Read variables of a .mat file; those needed must be there."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; it belongs to the Proposed Splits (xlsa17)")
    found = read_mat(path, {*needed, *optional})
    missing = [name for name in needed if name not in found]
    if missing:
        raise DatasetError(
            f"{path}: '{missing[0]}' is missing; is it a file of the Proposed Splits (xlsa17)?"
        )
    return found


def count_from_0(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Turn a list that counts from 1 into int64 that counts from 0."""
    values = np.asarray(array).reshape(-1)
    numeric = values.dtype.kind in "iuf"
    if not numeric or not ((values >= 0) & (values < 2**31) & (values == np.floor(values))).all():
        raise DatasetError(f"{path}: '{name}' holds something else than whole numbers; {FETCH_AGAIN}")
    return values.astype(np.int64) - 1  # some copies hold uint8: widened before 1 is subtracted


def unwrap_texts(path: Path, cells: np.ndarray) -> list[str]:
    """Return the texts of a cell array, each of which may lie in further cells."""
    texts = []
    for cell in np.asarray(cells, object).reshape(-1):
        while isinstance(cell, np.ndarray) and cell.size == 1:
            cell = cell.reshape(-1)[0]  # noqa: PLW2901 -- unwraps cells within cells
        if not isinstance(cell, str) or not cell.strip():
            raise DatasetError(f"{path}: a list of names holds something else than a name; {FETCH_AGAIN}")
        texts.append(cell.strip())
    return texts
