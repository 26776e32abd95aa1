"""Attribute vectors: pooled from words, written to files and read from them."""

import json
import logging
import pickle
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from toy_words import GLOVE, text_file

from msdn.extract.errors import DatasetError
from msdn.extract.vectors import file as vectors_file
from msdn.extract.vectors.build import UNKNOWN, build_vectors
from msdn.extract.vectors.file import read_vectors, write_vectors
from msdn.extract.vectors.words import SPELLING


def test_vectors_are_pooled_as_a_naive_loop_does(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    table = {f"w{n}": rng.normal(size=5).round(3) for n in range(20)}
    path = text_file(tmp_path, "".join(f"{w} {' '.join(map(str, v))}\n" for w, v in table.items()))
    names = [" ".join(rng.choice(list(table), size=n)) for n in (1, 2, 3, 5)]
    sums = [sum(table[word] for word in name.split()) for name in names]
    means = [total / len(name.split()) for total, name in zip(sums, names, strict=True)]
    for pooling, expected in (("sum", sums), ("mean", means)):
        built = build_vectors(names, path, pooling)
        np.testing.assert_allclose(built.values, expected, rtol=1e-6)
        assert built.values.dtype == np.float32 and built.source["pooling"] == pooling


def test_compounds_are_looked_up_whole_and_then_in_parts(tmp_path: Path) -> None:
    built = build_vectors(["man-made", "man-all", "red: blue-all"], text_file(tmp_path), "sum")
    assert built.values.tolist() == [[0, 0, 1], [10, 10, 10], [1, 2, 1]]
    assert built.source[UNKNOWN] == {"red: blue-all": ["blue"]}


def test_the_source_says_what_was_done(tmp_path: Path) -> None:
    path = text_file(tmp_path, GLOVE + "quadrupedal 1 2 3\n")
    built = build_vectors(["quadrapedal", "wing unheardof"], path, "mean", SPELLING | {"x": "y"})
    assert built.source == {
        "file": "glove.txt",
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "pooling": "mean",
        "spelling": {"quadrapedal": "quadrupedal"},
        UNKNOWN: {"wing unheardof": ["unheardof"]},
    }
    assert json.loads(json.dumps(built.source)) == built.source


def test_attributes_without_any_known_word_are_all_named(tmp_path: Path) -> None:
    message = r"has no word for 2 of 3 attributes: 'blue', ':'; give other words for them with --spelling"
    with pytest.raises(DatasetError, match=message):
        build_vectors(["blue", "wing", ":"], text_file(tmp_path))


def test_written_vectors_come_back_and_bytes_repeat(tmp_path: Path) -> None:
    values = np.random.RandomState(0).normal(size=(3, 4)).astype(np.float32)
    names, source = ("a", "b: ü", "c"), {"file": "x", "unknown words": {"a": ["q"]}}
    for name in ("one.npz", "two.npz"):
        write_vectors(tmp_path / "new" / name, values, names, source)
    got = read_vectors(tmp_path / "new/one.npz", names, 3)
    np.testing.assert_array_equal(got.values, values)
    assert got.source == source
    assert (tmp_path / "new/one.npz").read_bytes() == (tmp_path / "new/two.npz").read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["one.npz", "two.npz"]


def test_plain_npz_and_published_pickles_name_themselves(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", vectors=np.eye(3))
    np.savez(tmp_path / "note.npz", vectors=np.eye(3), source="by hand")
    (tmp_path / "x_attribute.pkl").write_bytes(pickle.dumps(np.eye(3), 3))
    for name, note in (("plain.npz", {}), ("note.npz", {"note": "by hand"}), ("x_attribute.pkl", {})):
        got = read_vectors(tmp_path / name, ("a", "b", "c"))
        assert got.values.dtype == np.float32 and got.values.tolist() == np.eye(3).tolist()
        digest = sha256((tmp_path / name).read_bytes()).hexdigest()
        assert got.source == {"file": name, "sha256": digest} | note


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"other": np.eye(3)}, "holds no array 'vectors'"),
        ({"vectors": np.eye(4)}, "4 vectors, but the dataset has 3 attributes; is it another dataset's file"),
        ({"vectors": np.ones(3)}, r"'vectors' is float64 of shape \(3,\), expected a table of numbers"),
        ({"vectors": np.ones((3, 0))}, r"of shape \(3, 0\), expected a table of numbers"),
        ({"vectors": np.array([["x"]] * 3)}, "'vectors' is <U1 of shape"),
        ({"vectors": np.ones((3, 1), complex)}, "'vectors' is complex128 of shape"),
        ({"vectors": [[1], [np.inf], [1]]}, "the vector of attribute 2 is not finite"),
        ({"vectors": [[1], [1], [1e39]]}, "the vector of attribute 3 is not finite"),
        ({"vectors": np.array([{}], object)}, "attribute vectors cannot be read"),
        (
            {"vectors": np.eye(3), "names": ["a", "x", "c"]},
            "attribute 2 is 'x' there, but 'b' in the dataset",
        ),
        ({"vectors": np.eye(3), "names": ["a"]}, "names 1 attributes, the dataset 3"),
    ],
)
def test_wrong_vectors_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(DatasetError, match=rf"wrong.npz: .*{message}"):
        read_vectors(tmp_path / "wrong.npz", ("a", "b", "c"))


def write_huge_claim(path: Path, shape: str) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "vectors.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
        )


@pytest.mark.parametrize(
    "shape", ["(999999999999, 300)", "(4611686018427387904, 4)", "(-1, 3)", "(3000000, 3)"]
)
def test_shapes_that_are_not_there_are_refused(tmp_path: Path, shape: str) -> None:
    write_huge_claim(tmp_path / "bomb.npz", shape)
    with pytest.raises(DatasetError, match=r"bomb.npz: attribute vectors cannot be read"):
        read_vectors(tmp_path / "bomb.npz", ())


def test_archives_that_unpack_beyond_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_file, "LARGEST", 100_000)
    np.savez_compressed(tmp_path / "bomb.npz", vectors=np.zeros((10, 100_000)))
    np.savez(tmp_path / "large.npz", vectors=np.zeros((10, 100_000)))
    for name in ("bomb.npz", "large.npz"):
        with pytest.raises(DatasetError, match=rf"{name}: is larger than .* too large for attribute vectors"):
            read_vectors(tmp_path / name, ())


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none.npz: no such file; 'msdn data vectors' makes one"):
        read_vectors(tmp_path / "none.npz", ())
    with pytest.raises(DatasetError, match=r"glove.txt: expected attribute vectors as .npz or .pkl"):
        read_vectors(text_file(tmp_path), ())


def test_an_npz_cut_short_or_changed_anywhere_gives_a_sentence(tmp_path: Path) -> None:
    write_vectors(tmp_path / "good.npz", np.eye(3), ("a", "b", "c"), {})
    whole = (tmp_path / "good.npz").read_bytes()
    path = tmp_path / "bad.npz"
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"bad.npz: attribute vectors cannot be read"):
            read_vectors(path, ("a", "b", "c"))
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            read_vectors(path, ("a", "b", "c"))
        except DatasetError as error:
            assert "bad.npz" in str(error)


def test_zero_vectors_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(tmp_path / "zero.npz", vectors=[[1.0], [0.0], [2.0]])
    with caplog.at_level(logging.WARNING):
        read_vectors(tmp_path / "zero.npz", ("natural", "man-made", "open"))
        read_vectors(tmp_path / "zero.npz", (), 3)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "attribute 2 (man-made) has a vector of zeros, which says nothing about it",
        "attribute 2 has a vector of zeros, which says nothing about it",
    ]


@pytest.mark.parametrize("member", ["vectors", "names", "source"])
def test_a_member_that_is_no_array_or_no_text_is_named(tmp_path: Path, member: str) -> None:
    path = tmp_path / "vectors.npz"
    write_vectors(path, np.ones((2, 3)), ["a", "b"], {"file": "x"})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[f"{member}.npy"] = {"vectors": b"no array"}.get(
        member, members[f"{member}.npy"][:-4] + b"\xff" * 4
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DatasetError, match=r"vectors\.npz: "):
        read_vectors(path, ["a", "b"])
