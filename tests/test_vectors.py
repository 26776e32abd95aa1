"""Attribute vectors: names into words, words into vectors, files of both, and `msdn data vectors`."""

import gzip
import json
import logging
import pickle
import zipfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_cache import make_annotations
from toy_dataset import TOY, write_toy_annotations

from msdn.cache.home import Home
from msdn.cli import main
from msdn.extract.datasets import registry
from msdn.extract.datasets.attributes import read_attribute_names, read_attribute_vectors
from msdn.extract.datasets.xlsa17 import read_dataset
from msdn.extract.errors import DatasetError
from msdn.extract.vectors import file as vectors_file
from msdn.extract.vectors.build import UNKNOWN, build_for_dataset, build_vectors
from msdn.extract.vectors.file import read_vectors, write_vectors
from msdn.extract.vectors.text_vectors import read_word_vectors
from msdn.extract.vectors.words import SPELLING, read_spelling, split_name, split_word

GLOVE = "wing 1 0 2\nred 0 1 0\ncolor 4 4 4\nman-made 0 0 1\nman 9 9 9\nmade 8 8 8\nall 1 1 1\n"


def text_file(tmp_path: Path, text: str | bytes = GLOVE, name: str = "glove.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# names into words


@pytest.mark.parametrize(
    "name, words",
    [
        ("wing color: red (dark)", "wing color red dark"),
        ("bill shape: all-purpose", "bill shape all-purpose"),
        ("head pattern: eyering", "head pattern eye ring"),
        ("size: very large (32 - 72 in)", "size very large 32 72 in"),
        ("newworld", "new world"),
        ("quadrapedal", "quadrupedal"),
        ("vinyl/ linoleum", "vinyl linoleum"),
        ("spectating/ being in an audience", "spectating being in an audience"),
        ("Rock/Stone", "rock stone"),
        ("Flügel_farbe: rötlich", "flügel farbe rötlich"),
        ("हिन्दी नाम", "हिन्दी नाम"),
        ("-- (?) …", "…"),
        (":", ""),
    ],
)
def test_names_become_words(name: str, words: str) -> None:
    assert " ".join(split_name(name)) == words


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_words_of_any_name_can_be_looked_up(name: str) -> None:
    words = split_name(name)
    for word in words:
        assert word and word == word.lower() and not set(word) & set(" \t\n_:,/()")
        assert word.encode("utf-8", "surrogatepass").split() == [word.encode("utf-8", "surrogatepass")]
        assert all(split_word(word))
    assert split_name(" ".join(words), {}) == words


def test_spellings_are_words_themselves() -> None:
    for word, replacement in SPELLING.items():
        assert split_name(word, {}) == [word] and split_name(replacement) == replacement.split()


def test_spelling_files(tmp_path: Path) -> None:
    path = text_file(tmp_path, "word,replacement\nIn,inches\nred,\n", "spelling.csv")
    assert read_spelling(path) == {"in": "inches", "red": ""}
    assert split_name("red, 5 in", read_spelling(path)) == ["5", "inches"]
    with pytest.raises(DatasetError, match=r"spelling.csv:1: expected the two columns 'word,replacement'"):
        read_spelling(text_file(tmp_path, "word,a,b\nx,y,z\n", "spelling.csv"))
    with pytest.raises(DatasetError, match=r"spelling.csv:1: the first cell is 'in'"):
        read_spelling(text_file(tmp_path, "in,inches\n", "spelling.csv"))


# text files of word vectors


@pytest.mark.parametrize("header", ["", "7 3\n"])
@pytest.mark.parametrize("ending", ["\n", " \n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_all_kinds_of_text_files_are_read(tmp_path: Path, header: str, ending: str, packed: bool) -> None:
    data = (header + GLOVE.replace("\n", ending)).encode()
    path = text_file(tmp_path, gzip.compress(data) if packed else data)
    seen: list[tuple[int, int]] = []
    found = read_word_vectors(path, {"red", "man-made", "nothing"}, lambda *done: seen.append(done))
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {
        "red": [0, 1, 0],
        "man-made": [0, 0, 1],
    }
    size = path.stat().st_size
    assert found.size == 3 and seen[-1] == (size, size)
    assert found.sha256 == sha256(path.read_bytes()).hexdigest()


def test_words_with_spaces_and_foreign_bytes_are_passed_over(tmp_path: Path) -> None:
    """As in glove.840B: the vector of `at home` is not that of `at`."""
    text = "\ufeffof 1 2\nat home 5 5\nat 3 4\nat 7 7\n. . . 1 1\n\u00a0 1 1\n".encode() + b"\xff\xfe 1 1\n"
    found = read_word_vectors(text_file(tmp_path, text), ["of", "at", "home"])
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {"of": [1, 2], "at": [3, 4]}


def test_only_wanted_words_are_kept(tmp_path: Path) -> None:
    path = text_file(tmp_path, "".join(f"w{n} {n} {n / 2}\n" for n in range(30_000)))
    found = read_word_vectors(path, {"w0", "w29999"})
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {
        "w0": [0, 0],
        "w29999": [29999, 14999.5],
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "glove.txt: is empty"),
        ("\n", "line 1: holds something else than a word and its numbers"),
        ("hello\n", "line 1: holds something else than a word and its numbers"),
        ("once upon a time\n", "line 1: holds something else than a word and its numbers"),
        ("wing 1 2\nred 1\n", "line 2: has 1 numbers, expected 2; the file is damaged or cut short"),
        ("wing 1 2\n\n", "line 2: has 0 numbers, expected 2"),
        ("wing 1 2\nblue 1 2", "line 2: has no end; the file is damaged or cut short, fetch it again"),
        ("wing 1 2\nred 1 x\n", "line 2: holds something else than a word and its numbers"),
        ("wing 1 2\nred 1 caf\u00e9\n", "line 2: holds something else than a word and its numbers"),
        ("wing 1 2\nred 1 nan\n", "line 2: holds a number that is not finite"),
        ("wing 1 2\nred 1 1e39\n", "line 2: holds a number that is not finite"),
        ("2 2\nred 1 2\n", "glove.txt: announces 2 words but holds 1"),
        ("1 2\nred 1 2\nwing 1 2\n", "glove.txt: announces 1 words but holds 2"),
        ("1 0\nred\n", "line 1: holds something else than a word and its numbers"),
        ("2 3\nred 1 2\n", "line 2: has 2 numbers, expected 3"),
        ("1 2\nred \0\1\2\3\n", "glove.txt: is binary, expected text"),
        ("red 1 2\n".encode("utf-16"), "glove.txt: is binary, expected text"),
        (b"PK\x03\x04 and so on", "glove.txt: is a zip archive; unpack it"),
        (gzip.compress(GLOVE.encode())[:-12], "glove.txt: cannot be unpacked .*damaged or cut short"),
        (b"\x1f\x8bno gzip", "glove.txt: cannot be unpacked"),
        (gzip.compress(b"a\0b"), "glove.txt: is binary"),
        ("red " + "1" * 2**20 + "\n", "line 1: is too long for a word's vector"),
    ],
)
def test_damaged_and_other_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_word_vectors(text_file(tmp_path, text), {"red"})


def test_a_file_cut_short_anywhere_is_noticed(tmp_path: Path) -> None:
    """But between two lines, where only a header's count can tell."""
    whole = ("7 3\n" + GLOVE).encode()
    for length in range(len(whole)):
        with pytest.raises(DatasetError, match=r"damaged or cut short|is empty|something else than a word"):
            read_word_vectors(text_file(tmp_path, whole[:length]), {"red"})


WORDS = st.text(st.characters(codec="utf-8", exclude_characters=" \n\r\0"), min_size=1, max_size=8)
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 4).flatmap(lambda d: st.dictionaries(WORDS, st.lists(NUMBERS, min_size=d, max_size=d))))
def test_any_vectors_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, list[float]]
) -> None:
    size = len(next(iter(table.values()), [0, 0]))
    lines = [f"{word} {' '.join(map(repr, numbers))}\n" for word, numbers in table.items()]
    path = text_file(tmp_path_factory.mktemp("any"), f"{len(table)} {size}\n" + "".join(lines))
    wanted = set(list(table)[::2]) | {"absent word"}
    found = read_word_vectors(path, wanted)
    assert set(found.vectors) == wanted - {"absent word"}
    for word, vector in found.vectors.items():
        np.testing.assert_array_equal(vector, np.array(table[word], np.float32))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_give_vectors_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = text_file(tmp_path_factory.mktemp("bytes"), data)
    try:
        assert read_word_vectors(path, {"a", "b"}).size >= 0
    except DatasetError as error:
        assert str(path) in str(error)


# names and words into attribute vectors


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
    message = r"knows no word of 2 of 3 attributes: 'blue', ':'; give other words for them with --spelling"
    with pytest.raises(DatasetError, match=message):
        build_vectors(["blue", "wing", ":"], text_file(tmp_path))


# the .npz file


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
        "attribute 2 (man-made) has a vector of zeros, which says nothing of it",
        "attribute 2 has a vector of zeros, which says nothing of it",
    ]


# datasets


def write_cells(path: Path, names: Sequence[str], variable: str = "attributes") -> None:
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    scipy.io.savemat(path, {variable: cells, "other": np.eye(2)})


def test_names_are_read_from_each_datasets_own_kind_of_file(tmp_path: Path) -> None:
    text_file(tmp_path, "1 has_bill_shape::curved_(up_or_down)\n2 has_size::small\n", "attributes.txt")
    text_file(tmp_path, "\ufeff    1\tblack\n    2\tnewworld\n", "predicates.txt")
    write_cells(tmp_path / "attributes.mat", ["sailing/ boating", "man-made"])
    for file, names in (
        ("attributes.txt", ("bill shape: curved (up or down)", "size: small")),
        ("predicates.txt", ("black", "newworld")),
        ("attributes.mat", ("sailing/ boating", "man-made")),
    ):
        assert read_attribute_names(tmp_path, ("none.txt", file), 2) == names
        assert read_attribute_names(tmp_path, (file,), None) == names
        with pytest.raises(DatasetError, match=rf"{file}: names 2 attributes, the class table has 3"):
            read_attribute_names(tmp_path, (file,), 3)
    write_cells(tmp_path / "attributes.mat", ["a"], "labels")
    with pytest.raises(DatasetError, match=r"attributes.mat: 'attributes' is missing"):
        read_attribute_names(tmp_path, ("attributes.mat",), 2)


def test_a_dataset_may_lack_vectors(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", vectors=np.eye(3))
    found = read_attribute_vectors(tmp_path, "good.npz", ("a", "b", "c"), 3)
    assert found is not None and found.values.tolist() == np.eye(3).tolist()
    assert read_attribute_vectors(tmp_path, None, (), 3) is None
    assert read_attribute_vectors(tmp_path, "missing.npz", (), 3) is None


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a toy dataset's lists and a GloVe file, but no images and no vectors."""
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    home = Home(tmp_path / "home")
    annotations = make_annotations()
    write_toy_annotations(home.data, annotations)
    (home.data / "TOY/vectors.npz").unlink()
    words = sorted({word for name in annotations.attribute_names for word in split_name(name)})
    lines = [f"{word} {number} 1\n" for number, word in enumerate(words, start=1)]
    (home.data / "glove").mkdir()
    text_file(home.data / "glove", "".join(lines), "glove.6B.300d.txt")
    return home


@pytest.fixture
def run(home: Home) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(
        main, ["data", "vectors", *map(str, arguments), "--home", str(home.root)]
    )


def test_a_known_datasets_vectors_are_built_and_then_read_with_it(home: Home) -> None:
    path = build_for_dataset("toy", home)
    assert path == home.data / "TOY/vectors.npz"
    names = make_annotations().attribute_names
    expected = build_vectors(names, home.data / "glove/glove.6B.300d.txt")
    annotations = read_dataset(TOY, home.data).annotations
    np.testing.assert_array_equal(annotations.attribute_vectors, expected.values)
    assert read_vectors(path, names).source == expected.source


def test_an_own_folders_vectors_are_built(tmp_path: Path, home: Home) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "attributes.csv").write_text("class,wing: red,man-made\ncat,0,1\ndog,1,0\n")
    path = build_for_dataset(str(folder), home, text_file(tmp_path), "sum")
    assert path == folder / "vectors.npz"
    assert read_vectors(path, ("wing: red", "man-made")).values.tolist() == [[1, 1, 2], [0, 0, 1]]
    with pytest.raises(DatasetError, match=r"none/attributes.csv: no such file; a dataset of your own is"):
        build_for_dataset(str(tmp_path / "none"), home)


def test_the_command_builds_and_says_what_comes_next(run: Callable[..., Result], home: Home) -> None:
    done = run("toy")
    assert done.exit_code == 0, done.output
    path = home.data / "TOY/vectors.npz"
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"{path}: 7 vectors of 2 numbers, each the mean of its words in ")
    assert rest == ["next: msdn extract --dataset toy"]


def test_the_command_names_unknown_words_and_takes_spellings(
    run: Callable[..., Result], home: Home, tmp_path: Path
) -> None:
    names = make_annotations().attribute_names
    plain = {word for name in names for word in split_name(name)}
    lost = max(plain, key=lambda word: sum(word in split_name(name) for name in names))
    glove = home.data / "glove/glove.6B.300d.txt"
    kept = [line for line in glove.read_text().splitlines(True) if line.split()[0] != lost]
    file = text_file(tmp_path, "".join(kept) + "stand-in 5 5\n")
    done = run("toy", "--from", file)
    assert done.exit_code == 0, done.output
    assert f"unknown words, left out of 7 attributes: {lost} (7×); name others" in done.stdout
    spelling = text_file(tmp_path, f"word,replacement\n{lost},stand-in\n", "spelling.csv")
    done = run("toy", "--from", file, "--spelling", spelling, "--pooling", "sum")
    assert done.exit_code == 0 and "left out" not in done.stdout
    assert read_vectors(home.data / "TOY/vectors.npz", names).source["spelling"] == {lost: "stand-in"}


def test_the_command_names_the_caches_that_lack_the_vectors(
    run: Callable[..., Result], home: Home, make_cache: Callable[..., Path]
) -> None:
    cache = make_cache()
    (home.features / "toy-448-random.h5").write_bytes(b"no cache")
    path = home.data / "TOY/vectors.npz"
    done = run("toy")
    assert done.stdout.splitlines()[1:] == [f"next: msdn cache annotate {cache} --vectors {path}"]
    same = home.root / "same.npz"
    np.savez(same, vectors=make_annotations().attribute_vectors)
    assert run("toy", "--from", same).stdout.splitlines()[1:] == ["next: msdn train --dataset toy"]


def test_the_command_imports_published_pickles(
    run: Callable[..., Result], home: Home, tmp_path: Path
) -> None:
    table = np.random.RandomState(0).normal(size=(7, 3))
    pickled = tmp_path / "TOY_attribute.pkl"
    pickled.write_bytes(pickle.dumps(table, 3))
    (home.data / "TOY/attributes.txt").unlink()  # K is known from the class table all the same
    done = run("toy", "--from", pickled)
    assert done.exit_code == 0, done.output
    assert f"7 vectors of 3 numbers, imported from {pickled}" in done.stdout
    got = read_vectors(home.data / "TOY/vectors.npz", ())
    np.testing.assert_array_equal(got.values, table.astype(np.float32))
    assert got.source == {
        "file": pickled.name,
        "sha256": sha256(pickled.read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["flo"], 1, "the attributes of 'flo' have no names, .* models learn the vectors from scratch"),
        (["plumage"], 1, "the attribute vectors of 'plumage' are made with it"),
        (["cub"], 1, "neither the attribute names of 'cub' .* nor its class table"),
        (["toyy"], 2, "unknown dataset 'toyy'. Did you mean 'toy'"),
        (["toy", "--from", "none.txt"], 1, "none.txt: no such file$"),
        (["toy", "--from", "none.npz"], 1, "none.npz: no such file"),
        (["toy", "--from", "x.npz", "--pooling", "sum"], 2, "--pooling and --spelling change nothing"),
    ],
)
def test_wrong_wishes_end_with_a_sentence(
    run: Callable[..., Result], arguments: list[str], code: int, message: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == code, done.output
    with pytest.raises(DatasetError, match=message):
        raise DatasetError(" ".join(done.stderr.split()))


def test_missing_glove_and_missing_names_are_named(run: Callable[..., Result], home: Home) -> None:
    (home.data / "glove/glove.6B.300d.txt").unlink()
    assert "300d.txt: no such file; 'msdn data download glove' fetches it, or give" in run("toy").stderr
    (home.data / "TOY/attributes.txt").unlink()
    done = run("toy")
    assert done.exit_code == 1 and "the attribute names of 'toy' are missing" in done.stderr
    assert not (home.data / "TOY/vectors.npz").exists()
