"""A folder of one's own: what is read from it, whatever system its files come from."""

import csv
import random
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from own_data import ATTRIBUTES, CLASSES, write_folder, write_image

from msdn.cache.annotations import SPLIT_NAMES
from msdn.cache.csv_table import is_odd
from msdn.cache.home import Home
from msdn.cli import main
from msdn.extract.datasets.registry import open_dataset
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import find_mistakes, open_own_dataset, read_attributes_csv
from msdn.extract.own.mistakes import Mistake

VALUES = [[1, 0, 0.25, 1], [0, 1, 0, 1], [1, 0, 1, 0], [0.5, 0.5, 1, 0.75]]
LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/")
NAMES = st.text(LETTERS, min_size=1, max_size=20).map(lambda text: unicodedata.normalize("NFC", text.strip()))
CLASS_NAMES = st.lists(
    NAMES.filter(lambda name: name and not name.startswith(".") and len(name.encode()) < 200),
    min_size=3,
    max_size=7,
    unique_by=lambda name: unicodedata.normalize("NFC", name.casefold()).casefold(),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "birds")


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", "check", *map(str, arguments)], catch_exceptions=False)


def test_a_folder_becomes_a_dataset(folder: Path) -> None:
    dataset = open_dataset(str(folder), Home(folder / "unused"))
    a = dataset.annotations
    assert a.dataset == "birds" and a.class_names == CLASSES and a.attribute_vectors is None
    assert a.attribute_names == ("wing colour: red", "wing colour: blue", "size: small", "beak, long")
    assert a.image_paths == tuple(f"{name}/{number}.png" for name in CLASSES for number in (1, 2, 3))
    np.testing.assert_array_equal(a.labels, np.repeat(range(4), 3))
    np.testing.assert_array_equal(a.attributes, VALUES)
    assert all(dataset.image_path(row).is_file() for row in range(12))
    assert dataset.sources["folder"] == str(folder.resolve())
    assert (
        len(dataset.sources["attributes"]["sha256"]) == 64 and "SHA-256" in dataset.sources["splits"]["rule"]
    )


def test_classes_are_numbered_as_in_the_table(folder: Path) -> None:
    lines = ATTRIBUTES.splitlines()
    (folder / "attributes.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    a = open_own_dataset(folder).annotations
    assert a.class_names == CLASSES[::-1]
    assert {
        (path.split("/")[0], a.class_names[label])
        for path, label in zip(a.image_paths, a.labels, strict=True)
    } == {(name, name) for name in CLASSES}


@pytest.mark.parametrize(
    "text",
    [
        ATTRIBUTES.replace("\n", "\r\n"),
        ATTRIBUTES.replace("\n", "\r"),
        "\ufeff" + ATTRIBUTES,
        ATTRIBUTES.replace("\n", ",,\r\n") + ",,,,,,\r\n\r\n",
        ATTRIBUTES.replace(",", " , ").replace('" , ', '",').replace("beak ,  long", "beak, long"),
        ATTRIBUTES.replace("class", " Class ").replace("beak, long", "beak,\r\nlong"),
        "\n\n" + ATTRIBUTES.replace("0.25", "+2.5E-1").replace("0.75", ".75"),
    ],
    ids=["Windows", "old Mac", "byte order mark", "empty cells and lines", "spaces", "line break", "numbers"],
)
def test_tables_are_read_as_other_programs_write_them(folder: Path, text: str) -> None:
    (folder / "attributes.csv").write_bytes(text.encode())
    a = open_own_dataset(folder).annotations
    np.testing.assert_array_equal(a.attributes, VALUES)
    assert a.class_names == CLASSES and a.attribute_names[3] == "beak, long"


def test_images_are_found_in_inner_folders_and_behind_links(folder: Path, tmp_path: Path) -> None:
    for name in ("day 1/2.JPG", "day 1/a/b.webp", ".hidden.png", ".git/x", "Thumbs.db"):
        write_image(folder / "images/robin/x.png")
        (folder / "images/robin" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images/robin/x.png").rename(folder / "images/robin" / name)
    (folder / "images/.DS_Store").write_bytes(b"x")
    (folder / "images/wren").rename(tmp_path / "wrens")
    (folder / "images/wren").symlink_to(tmp_path / "wrens")
    (folder / "images/robin/4.png").symlink_to(tmp_path / "wrens/1.png")
    assert find_mistakes(folder) == []
    paths = open_own_dataset(folder).annotations.image_paths
    assert [path for path in paths if path.startswith("robin")] == [
        f"robin/{name}" for name in ("1.png", "2.png", "3.png", "4.png", "day 1/2.JPG", "day 1/a/b.webp")
    ]
    assert "wren/1.png" in paths


def test_accents_may_be_spelt_in_two_ways(folder: Path) -> None:
    (folder / "images/robin").rename(folder / "images" / unicodedata.normalize("NFD", "möwe"))
    (folder / "attributes.csv").write_text(ATTRIBUTES.replace("robin", "möwe"))
    assert "möwe" in open_own_dataset(folder).annotations.class_names


def test_vectors_are_taken_where_they_are(folder: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(folder / "vectors.npz", vectors=values)
    dataset = open_own_dataset(folder)
    np.testing.assert_array_equal(dataset.annotations.attribute_vectors, values)
    assert dataset.sources["vectors"]["file"] == "vectors.npz"
    assert "vectors     4 of 3 numbers" in check(folder).stdout


def test_check_shows_what_is_there(folder: Path) -> None:
    (folder / "attributes.csv").write_text(
        ATTRIBUTES.replace("size: small", "size: any").replace(",0.25,", ",1,").replace("0,1,0,1", "0,1,1,1")
    )
    shown = check(folder)
    assert shown.exit_code == 0 and shown.stderr == ""
    assert shown.stdout.splitlines()[:4] == [
        "dataset     birds",
        "images      12: 6 trainval (4 train, 2 val), 3 test_seen, 3 test_unseen",
        "classes     4: 3 seen, 1 unseen (robin)",
        "attributes  4 in groups: wing colour (2), size (1), no group (1)",
    ]
    assert "attribute 'size: any' is the same for all classes" in shown.stdout
    assert shown.stdout.endswith(f"msdn extract --dataset {folder}\n")


def test_check_knows_a_dataset_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toy_dataset import TOY, write_toy_dataset

    from msdn.extract.datasets import registry

    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    write_toy_dataset(tmp_path / "data")
    shown = check("toy", "--home", tmp_path)
    assert shown.exit_code == 0 and "msdn extract --dataset toy" in shown.stdout
    refused = check("toy", "--write-splits", "--home", tmp_path)
    assert refused.exit_code == 2 and "is only for your own folder" in refused.stderr


def test_rows_for_known_classes_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "attributes.csv"
    path.write_text(ATTRIBUTES)
    table = read_attributes_csv(path, CLASSES[::-1])
    assert table.class_names == CLASSES[::-1] and table.lines == (5, 4, 3, 2)
    np.testing.assert_array_equal(table.values, VALUES[::-1])
    with pytest.raises(
        DatasetError, match=r"(?s)2 mistakes:.*:5: there is no class 'wren'.*class 'owl' has no row"
    ):
        read_attributes_csv(path, (*CLASSES[:3], "owl"))


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(
            st.sampled_from(["class", "crane", "1", "0", ",", "\n", '"', " ", "nan", "é", ";"]), max_size=30
        ).map(lambda parts: f"class,{''.join(parts)}".encode()),
    )
)
def test_any_bytes_are_a_table_or_mistakes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    try:
        table = read_attributes_csv(path)
    except DatasetError as error:
        assert str(path) in str(error) and not is_odd(str(error).replace("\n", ""))
    else:
        assert np.isfinite(table.values).all()
        assert table.values.shape == (len(set(table.class_names)), len(set(table.attribute_names)))


@settings(max_examples=40, deadline=None)
@given(classes=CLASS_NAMES, data=st.data())
def test_a_good_folder_is_read_exactly(
    tmp_path_factory: pytest.TempPathFactory, classes: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("own")
    attributes = data.draw(
        st.lists(NAMES.filter(lambda name: name not in ("", "class")), min_size=2, max_size=4, unique=True)
    )
    angles = np.linspace(0, 1.5, len(classes))  # no class points where another does
    values = np.array([[np.cos(angle), np.sin(angle), *[0.0] * (len(attributes) - 2)] for angle in angles])
    for place in np.ndindex(len(classes), len(attributes) - 2):
        values[place[0], place[1] + 2] = data.draw(st.floats(-9, 9))
    counts = [data.draw(st.integers(1, 6)) for _ in classes]
    write_generated(folder, classes, attributes, values, counts)
    a = open_own_dataset(folder).annotations
    assert a.class_names == tuple(classes) and a.attribute_names == tuple(attributes)
    np.testing.assert_array_equal(a.attributes, values)
    np.testing.assert_array_equal(np.bincount(a.labels), counts)
    parts = [a.splits[name] for name in ("train", "val", "test_seen", "test_unseen")]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), range(sum(counts)))
    shutil.rmtree(folder / "images")
    write_generated(folder, classes, attributes, values, counts, shuffled=True)
    again = open_own_dataset(folder).annotations
    assert again.image_paths == a.image_paths
    assert all(np.array_equal(again.splits[name], a.splits[name]) for name in SPLIT_NAMES)


def write_generated(
    folder: Path,
    classes: list[str],
    attributes: list[str],
    values: np.ndarray,
    counts: list[int],
    shuffled: bool = False,
) -> None:
    with (folder / "attributes.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *attributes])
        writer.writerows([name, *row] for name, row in zip(classes, values.tolist(), strict=True))
    images = [(name, number) for name, count in zip(classes, counts, strict=True) for number in range(count)]
    if shuffled:
        random.Random(0).shuffle(images)
    for name, number in images:
        path = folder / "images" / name / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_mistakes_say_file_line_and_message() -> None:
    assert str(Mistake(Path("a.csv"), "is\nbad", 3)) == "a.csv:3: is\\nbad"
