"""The reader of MATLAB 5 files: SciPy's reader agrees, and damaged bytes end in a sentence."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from msdn.extract.datasets.matfile import read_created, read_mat
from msdn.extract.errors import DatasetError

NO_FIXTURE_CHECK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TYPES = st.sampled_from([np.float64, np.float32, np.uint8, np.int16, np.uint16, np.int32, np.int64])


def cells_of(texts: list[str]) -> np.ndarray:
    cells = np.empty((len(texts), 1), object)
    cells[:, 0] = texts
    return cells


@NO_FIXTURE_CHECK
@given(
    array=TYPES.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=3, max_side=5))),
    texts=st.lists(st.text(st.characters(max_codepoint=0xFF, min_codepoint=0x20), max_size=12), min_size=1),
    packed=st.booleans(),
)
def test_numbers_and_texts_come_out_as_scipy_reads_them(
    tmp_path: Path, array: np.ndarray, texts: list[str], packed: bool
) -> None:
    path = tmp_path / "a.mat"
    content = {"unwanted": np.ones((40, 40)), "array": array, "cells": cells_of(texts)}
    scipy.io.savemat(path, content, do_compression=packed)
    found, theirs = read_mat(path, ["array", "cells", "absent"]), scipy.io.loadmat(path)
    assert set(found) == {"array", "cells"}
    np.testing.assert_array_equal(found["array"], theirs["array"])
    assert found["array"].dtype == theirs["array"].dtype
    assert found["cells"].shape == (len(texts), 1)
    read = [str(cell[0]) if cell.size else "" for cell in theirs["cells"][:, 0]]
    assert [text.rstrip() for text in found["cells"][:, 0]] == [text.rstrip() for text in read]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    files = {}
    for packed in (False, True):
        path = tmp_path_factory.mktemp("mat") / "a.mat"
        content = {"labels": np.arange(30)[:, None], "names": cells_of(["a/b.jpg", "c"])}
        scipy.io.savemat(path, content, do_compression=packed)
        files[packed] = path.read_bytes()
    return files


@settings(NO_FIXTURE_CHECK, max_examples=400)
@given(
    packed=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.floats(0, 1),
)
def test_damage_never_gives_anything_but_a_sentence(
    tmp_path: Path, whole: dict[bool, bytes], packed: bool, changes: list, kept: float
) -> None:
    data = bytearray(whole[packed])
    for position, value in changes:
        data[position % len(data)] = value
    path = tmp_path / "a.mat"
    path.write_bytes(data[: int(len(data) * kept)] if kept < 0.5 else data)
    try:
        read_mat(path, ["labels", "names"])
    except DatasetError as error:
        assert str(error).startswith(f"{path}: cannot be read as a MATLAB 5 file")


def test_a_packed_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msdn.extract.datasets.matfile.LARGEST", 100_000)
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"bomb": np.zeros((500, 500)), "small": np.ones((2, 2))}, do_compression=True)
    assert read_mat(path, ["small"])["small"].sum() == 4
    with pytest.raises(DatasetError, match="a packed variable is cut short or beyond"):
        read_mat(path, ["bomb"])


def test_other_formats_and_contents_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    with pytest.raises(DatasetError, match=r"version 7.3; save it with MATLAB's option '-v7'"):
        read_mat(path, ["a"])
    scipy.io.savemat(path, {"a": {"field": 1}, "b": np.array([[1j]])})
    for name in ("a", "b"):
        with pytest.raises(DatasetError, match=f"'{name}' holds neither numbers nor text"):
            read_mat(path, [name])
    with pytest.raises(DatasetError, match="no such file"):
        read_mat(tmp_path / "none.mat", ["a"])


def test_the_date_of_the_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": 1})
    text = path.read_bytes()[:116].decode().split("Created on: ")[1].strip("\0 ")
    assert read_created(path) == text
    path.write_bytes(b"nothing")
    assert read_created(path) is None
