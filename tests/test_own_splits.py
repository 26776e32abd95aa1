"""Splits of one's own data: from splits.csv in its two forms, and by the rule."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from own_data import CLASSES, SPLIT_OF, image_splits, write_folder

from msdn.cache.annotations import SPLIT_NAMES, Annotations
from msdn.cli import main
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import open_own_dataset
from msdn.extract.own.splits import Images, divide_by_rule, read_splits_csv

PATHS = tuple(f"{name}/{image}.png" for name in CLASSES for image in (1, 2, 3))
LABELS = np.repeat(np.arange(4), 3)
BY_CLASS = "class,split\nwren,seen\nrobin, Unseen\nheron,seen\ncrane,unseen\n"


def read(path: Path, text: str) -> dict[str, np.ndarray]:
    path.write_text(text)
    return read_splits_csv(path, PATHS, LABELS, CLASSES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "splits.csv"


def named(splits: dict[str, np.ndarray]) -> dict[str, list[str]]:
    return {name: [PATHS[row] for row in rows] for name, rows in splits.items()}


def test_images_are_put_where_the_file_says(path: Path) -> None:
    got = named(read(path, image_splits()))
    assert got["test_unseen"] == [f"crane/{image}.png" for image in (1, 2, 3)]
    assert got["test_seen"] == [f"{name}/3.png" for name in CLASSES[1:]]
    for part in ("train", "val"):
        assert {name.split("/")[0] for name in got[part]} == {
            n for n, split in SPLIT_OF.items() if split == part
        }
    assert got["trainval"] == sorted(got["train"] + got["val"])


def test_paths_may_be_written_as_on_windows_or_from_the_folder_above(path: Path) -> None:
    expected = named(read(path, image_splits()))
    windows = image_splits().replace("/", "\\").replace("\n", "\r\n")
    assert named(read(path, windows)) == expected
    assert (
        named(read(path, image_splits().replace(".png", ".png ").replace("\nwren", "\nimages/wren")))
        == expected
    )


def test_trainval_is_divided_by_class(path: Path) -> None:
    text = image_splits().replace(",train\n", ",trainval\n").replace(",val\n", ",trainval\n")
    got = named(read(path, text))
    assert set(got["trainval"]) == {f"{name}/{image}.png" for name in CLASSES[1:] for image in (1, 2)}
    assert got["val"] == ["wren/1.png", "wren/2.png"]  # every third seen class


def test_classes_are_seen_or_unseen(path: Path) -> None:
    got = named(read(path, BY_CLASS))
    assert got["test_unseen"] == list(PATHS[:3] + PATHS[6:9])
    assert len(got["test_seen"]) == 2 and len(got["trainval"]) == 4


def test_errors_name_the_file_and_line(path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"splits\.csv:3: '' is not a split of class rows; expected seen, unseen"
    ):
        read(path, BY_CLASS.replace(" Unseen", ""))
    with pytest.raises(DatasetError, match=r"^2 mistakes:\n.*csv:1.: there is no image 'x'\S*"):
        read(path, image_splits() + "x,train\ny,train\n")


def test_the_rule_can_be_followed_by_hand(tmp_path: Path) -> None:
    a = open_own_dataset(write_folder(tmp_path / "birds")).annotations

    def order(name: str) -> str:
        return sha256(name.encode()).hexdigest()

    unseen = sorted(CLASSES, key=order)[:1]
    tests = [
        sorted(PATHS[at : at + 3], key=order)[0] for at in (0, 3, 6, 9) if CLASSES[at // 3] not in unseen
    ]
    assert [a.class_names[label] for label in a.unseen_classes] == unseen
    assert [a.image_paths[row] for row in a.splits["test_seen"]] == tests


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(3, 40), images=st.integers(1, 30), gone=st.integers(0, 1000))
def test_one_class_or_image_more_changes_little(classes: int, images: int, gone: int) -> None:
    unseen, tests = divide(classes, images)
    assert len(unseen) == max(round(classes / 5), 1)
    assert len(tests) == (classes - len(unseen)) * (max(round(images / 5), 1) if images > 1 else 0)
    fewer_unseen, _ = divide(classes, images, {f"c{gone % classes}/"})
    assert classes == 3 or len((unseen ^ fewer_unseen) - {f"c{gone % classes}"}) <= 1
    image = f"c{gone % classes}/{gone % images}."
    same_unseen, fewer_tests = divide(classes, images, {image} if images > 1 else set())
    assert same_unseen == unseen and len(tests ^ fewer_tests) <= 2


def divide(classes: int, images: int, without: set[str] = frozenset()) -> tuple[set[str], set[str]]:
    paths = [f"c{label}/{image}.jpg" for label in range(classes) for image in range(images)]
    kept = [path for path in paths if not any(path.startswith(start) for start in without)]
    names = sorted({path.split("/")[0] for path in kept})
    labels = np.array([names.index(path.split("/")[0]) for path in kept])
    splits = divide_by_rule(Images(kept, labels, names))
    return {names[label] for label in labels[splits["test_unseen"]]}, {
        kept[row] for row in splits["test_seen"]
    }


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([b"image,split\n", b"class,split\n", b""]),
    st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.tuples(
                st.sampled_from([*PATHS, *CLASSES, "x", ""]),
                st.sampled_from([*SPLIT_NAMES, "seen", "unseen", "é"]),
            ),
            max_size=16,
        ).map(lambda rows: "\n".join(map(",".join, rows)).encode()),
    ),
)
def test_any_bytes_are_splits_or_mistakes(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, body: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-splits.csv"
    path.write_bytes(header + body)
    try:
        splits = read_splits_csv(path, PATHS, LABELS, CLASSES)
    except DatasetError as error:
        assert str(path) in str(error)
    else:
        check_division(splits)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["train", "val", "test_unseen", "trainval"]), min_size=4, max_size=4), st.data()
)
def test_what_is_accepted_is_a_sound_division(
    tmp_path_factory: pytest.TempPathFactory, of_class: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "sound.csv"
    split_of = [of_class[label] for label in LABELS]
    for row in range(len(PATHS)):
        if split_of[row] != "test_unseen" and data.draw(st.booleans()):
            split_of[row] = "test_seen"
    path.write_text("image,split\n" + "".join(f"{p},{s}\n" for p, s in zip(PATHS, split_of, strict=True)))
    try:
        splits = read_splits_csv(path, PATHS, LABELS, CLASSES)
    except DatasetError:
        return
    check_division(splits)
    for name in ("train", "val", "test_seen", "test_unseen"):
        rows = [row for row, split in enumerate(split_of) if split == name]
        assert "trainval" in split_of or rows == splits[name].tolist()


def check_division(splits: dict[str, np.ndarray]) -> None:
    """Whatever was accepted is what a cache accepts, too."""
    from msdn.cache.annotations import check_annotations

    check_annotations(Annotations("any", PATHS, LABELS, CLASSES, np.eye(4), (), None, splits))
    parts = np.concatenate([splits[name] for name in ("train", "val", "test_seen", "test_unseen")])
    np.testing.assert_array_equal(np.sort(parts), range(12))


def test_a_written_division_is_read_back_and_stays(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "birds")
    before = open_own_dataset(folder).annotations.splits
    runner = CliRunner()
    shown = runner.invoke(main, ["data", "check", str(folder), "--write-splits"], catch_exceptions=False)
    assert shown.exit_code == 0 and "splits      splits.csv" in shown.stdout
    assert (folder / "splits.csv").read_text().startswith("image,split\ncrane/1.png,")
    dataset = open_own_dataset(folder)
    assert all(np.array_equal(before[name], dataset.annotations.splits[name]) for name in SPLIT_NAMES)
    assert dataset.sources["splits"]["file"] == "splits.csv"
    refused = runner.invoke(main, ["data", "check", str(folder), "--write-splits"])
    assert refused.exit_code == 1 and "already exists" in refused.stderr
