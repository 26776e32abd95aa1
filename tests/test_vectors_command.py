"""Whose attribute vectors: each dataset's names and files, and `msdn data vectors`."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from click.testing import Result
from toy_cache import make_annotations
from toy_dataset import TOY, write_toy_annotations
from toy_words import text_file

from msdn.cache.home import Home
from msdn.extract.datasets import registry
from msdn.extract.datasets.proposed_splits import read_attribute_names, read_dataset
from msdn.extract.errors import DatasetError
from msdn.extract.vectors.build import build_for_dataset, build_vectors, find_target
from msdn.extract.vectors.file import read_vectors
from msdn.extract.vectors.words import split_name


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
    write_toy_annotations(tmp_path, make_annotations())
    found = read_dataset(TOY, tmp_path)
    np.testing.assert_array_equal(found.annotations.attribute_vectors, make_annotations().attribute_vectors)
    assert found.sources["vectors"]["file"] == "vectors.npz"
    for lacking in (None, "missing.npz"):
        found = read_dataset(replace(TOY, attribute_vectors=lacking), tmp_path)
        assert found.annotations.attribute_vectors is None and "vectors" not in found.sources


@pytest.fixture(autouse=True)
def toy(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy dataset's lists and a GloVe file in the home, but no images and no vectors."""
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    annotations = make_annotations()
    write_toy_annotations(home.data, annotations)
    (home.data / "TOY/vectors.npz").unlink()
    words = sorted({word for name in annotations.attribute_names for word in split_name(name)})
    lines = [f"{word} {number} 1\n" for number, word in enumerate(words, start=1)]
    (home.data / "glove").mkdir()
    text_file(home.data / "glove", "".join(lines), "glove.6B.300d.txt")


@pytest.fixture
def run(run_msdn: Callable[..., Result]) -> Callable[..., Result]:
    return partial(run_msdn, "data", "vectors")


def test_a_known_datasets_vectors_are_built_and_then_read_with_it(home: Home) -> None:
    path = build_for_dataset("toy", home)
    assert path == home.data / "TOY/vectors.npz"
    names = make_annotations().attribute_names
    expected = build_vectors(names, home.data / "glove/glove.6B.300d.txt")
    annotations = read_dataset(TOY, home.data).annotations
    np.testing.assert_array_equal(annotations.attribute_vectors, expected.values)
    assert read_vectors(path, names).source == expected.source


def test_an_own_folders_vectors_are_built(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "attributes.csv").write_text("class,wing: red,man-made\ncat,0,1\ndog,1,0\n")
    path = build_for_dataset(str(folder), home, text_file(tmp_path), "sum")
    assert path == folder / "vectors.npz"
    assert read_vectors(path, ("wing: red", "man-made")).values.tolist() == [[1, 1, 2], [0, 0, 1]]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_target("~/pets", home).path == path
    with pytest.raises(DatasetError, match=r"none/attributes.csv: no such file; your own dataset is"):
        build_for_dataset(str(tmp_path / "none"), home)


def test_the_command_builds_and_says_what_comes_next(run: Callable[..., Result], home: Home) -> None:
    done = run("toy")
    assert done.exit_code == 0, done.output
    path = home.data / "TOY/vectors.npz"
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"{path}: 7 vectors of 2 numbers, each the mean of its words in ")
    assert rest == [f"next: msdn extract --dataset toy --home {home.root}"]


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
    assert f"unknown words, left out of 7 attributes: {lost} (7×); give other words" in done.stdout
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
    assert run("toy", "--from", same).stdout.splitlines()[1:] == [
        f"next: msdn train --dataset toy --home {home.root}"
    ]


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
    assert (
        f"300d.txt: no such file; give another with --from FILE, or fetch it with: msdn data download glove --home "
        f"{home.root}\n" in run("toy").stderr
    )
    (home.data / "TOY/attributes.txt").unlink()
    done = run("toy")
    assert done.exit_code == 1 and "the attribute names of 'toy' are missing" in done.stderr
    assert not (home.data / "TOY/vectors.npz").exists()
