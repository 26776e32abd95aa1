"""Plumage: what the drawn dataset promises of its classes, splits, pixels and files."""

import csv
import logging
from collections.abc import Iterable
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from msdn.extract.plumage import write
from msdn.extract.plumage.birds import (
    COLORS,
    GROUPS,
    PARTS,
    list_attributes,
    list_classes,
    make_attribute_vectors,
    make_word_vector,
    rate_strengths,
)
from msdn.extract.plumage.draw import (
    IMAGE_SIDE,
    PIXELS_SHA256,
    PLUMAGE_VERSION,
    draw_bird,
)
from msdn.extract.plumage.write import (
    list_pictures,
    name_picture,
    split_pictures,
    write_plumage,
    write_tables,
)

SAMPLE_SHA256 = "7d5ceb3cc10516ea10d163a5a95363d92d4826ae685e552d9d7b463b87752a87"  # image 0 of every class
FEW_PICTURES = [(0, 0), (0, 1), (47, 29)]


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "list_pictures", lambda: iter(FEW_PICTURES))


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    write_tables(tmp_path)
    return tmp_path


def hash_pixels(pictures: Iterable[tuple[int, int]]) -> str:
    digests = (sha256(draw_bird(*picture)[0].tobytes()).digest() for picture in pictures)
    return sha256(b"".join(digests)).hexdigest()


def count_roles() -> dict[str, int]:
    roles = [bird.role for bird in list_classes()]
    return {role: roles.count(role) for role in sorted(set(roles))}


def test_there_are_48_classes_of_three_roles() -> None:
    assert count_roles() == {"train": 26, "val": 10, "unseen": 12}
    assert len({bird.name for bird in list_classes()}) == 48


def test_attributes_are_named_like_cubs() -> None:
    names = list_attributes()
    assert len(names) == len(set(names)) >= 60
    assert len(COLORS) == 8
    assert len(PARTS) >= 6
    assert {"wing color: red", "wing pattern: striped", "bill shape: hooked", "size: small"} <= set(names)


def test_no_two_classes_are_alike() -> None:
    for one, other in combinations(list_classes(), 2):
        shared = sum(one.forms[0][group] == other.forms[0][group] for group in GROUPS)
        assert shared <= 4, f"{one.name} and {other.name} share {shared} of {len(GROUPS)} groups"


def test_every_value_of_an_unseen_class_occurs_in_train_classes() -> None:
    worn = {role: set() for role in count_roles()}
    for bird in list_classes():
        worn[bird.role] |= {(group, form[group]) for form in bird.forms for group in GROUPS}
    assert worn["unseen"] <= worn["train"]
    assert worn["val"] <= worn["train"]


def test_strengths_are_continuous_and_some_classes_have_two_forms() -> None:
    strengths = rate_strengths()
    assert strengths.shape == (48, len(list_attributes()))
    assert strengths.min() >= 0
    assert strengths.max() <= 100
    two_forms = [c for c, bird in enumerate(list_classes()) if len(bird.forms) == 2]
    assert 8 <= len(two_forms) <= 32
    assert all(np.any((strengths[c] > 20) & (strengths[c] < 80)) for c in two_forms)


def test_the_forms_drawn_follow_their_shares() -> None:
    bird = next(bird for bird in list_classes() if len(bird.forms) == 2)
    picked = [bird.pick_form(percentile) for percentile in range(100)]
    assert picked.count(bird.forms[0]) == bird.shares[0] == 100 - bird.shares[1]


def test_words_share_their_vectors() -> None:
    names, vectors = list_attributes(), make_attribute_vectors()
    wing_red, wing_blue, tail_red, tail_blue = (
        vectors[names.index(f"{part} color: {color}")]
        for part in ("wing", "tail")
        for color in ("red", "blue")
    )
    np.testing.assert_allclose(wing_red - wing_blue, tail_red - tail_blue, atol=1e-5)
    assert vectors.dtype == np.float32
    assert not np.array_equal(make_word_vector("red"), make_word_vector("blue"))


def test_splits_are_disjoint_and_cover_everything() -> None:
    splits = split_pictures()
    parts = [splits[name] for name in ("trainval_loc", "test_seen_loc", "test_unseen_loc")]
    assert sorted(np.concatenate(parts)) == list(range(1, 48 * 30 + 1))
    trainval = np.union1d(splits["train_loc"], splits["val_loc"])
    np.testing.assert_array_equal(trainval, splits["trainval_loc"])
    assert len(splits["test_seen_loc"]) * 4 == len(splits["trainval_loc"])


def test_train_and_validation_split_by_class() -> None:
    labels = np.array([class_index for class_index, _ in list_pictures()])
    classes = {name: set(labels[rows - 1]) for name, rows in split_pictures().items()}
    assert {name: len(found) for name, found in classes.items()} == {
        "trainval_loc": 36,
        "train_loc": 26,
        "val_loc": 10,
        "test_seen_loc": 36,
        "test_unseen_loc": 12,
    }
    assert not classes["train_loc"] & classes["val_loc"]
    assert not classes["trainval_loc"] & classes["test_unseen_loc"]
    assert classes["trainval_loc"] == classes["test_seen_loc"]


def test_the_same_picture_is_drawn_twice() -> None:
    first, parts = draw_bird(5, 7)
    draw_bird(6, 7)
    again, same_parts = draw_bird(5, 7)
    assert first.tobytes() == again.tobytes() and parts == same_parts
    assert first.size == (IMAGE_SIDE, IMAGE_SIDE)
    assert first.mode == "RGB"


def test_pictures_of_a_class_differ() -> None:
    assert len({draw_bird(3, i)[0].tobytes() for i in range(6)}) == 6


def test_sampled_pixels_are_the_frozen_ones() -> None:
    assert hash_pixels((c, 0) for c in range(48)) == SAMPLE_SHA256


def test_boxes_lie_on_the_parts_they_name() -> None:
    for image_index in range(6):  # some of them are mirrored
        _, parts = draw_bird(2, image_index)
        assert tuple(parts) == PARTS
        assert all(
            0 <= x0 < x1 <= IMAGE_SIDE and 0 <= y0 < y1 <= IMAGE_SIDE for x0, y0, x1, y1 in parts.values()
        )
        bill, head, tail = (parts[part][0] + parts[part][2] for part in ("bill", "head", "tail"))
        assert bill < head < tail or bill > head > tail


@pytest.mark.slow
def test_all_pixels_are_the_frozen_ones() -> None:
    assert hash_pixels(list_pictures()) == PIXELS_SHA256


def test_tables_look_like_xlsa17(tables: Path) -> None:
    count, classes, attributes = 48 * 30, 48, len(list_attributes())
    res101, splits = loadmat(tables / "res101.mat"), loadmat(tables / "att_splits.mat")
    assert res101["labels"].shape == (count, 1)
    assert (res101["labels"].min(), res101["labels"].max()) == (1, classes)
    assert res101["image_files"].shape == (count, 1)
    assert res101["image_files"].dtype == object
    assert res101["image_files"][-1, 0][0].endswith(f"images/{name_picture(47, 29)}")
    assert splits["att"].shape == splits["original_att"].shape == (attributes, classes)
    np.testing.assert_allclose(np.linalg.norm(splits["att"], axis=0), 1)
    assert splits["allclasses_names"].shape == (classes, 1)
    assert splits["allclasses_names"][0, 0][0] == f"001.{list_classes()[0].name}"
    for name in split_pictures():
        assert splits[name].shape[1] == 1
        assert splits[name].dtype == np.float64
        assert splits[name].min() >= 1


def test_attribute_files_agree(tables: Path) -> None:
    lines = (tables / "attributes.txt").read_text().splitlines()
    assert lines[0] == "1 bill color: red"
    assert len(lines) == len(list_attributes())
    with np.load(tables / "attribute_vectors.npz") as vectors:
        assert list(vectors["names"]) == list_attributes()
        assert vectors["vectors"].dtype == np.float32
        assert vectors["vectors"].shape[0] == len(lines)
        assert "synthetic" in str(vectors["source"])
    readme = (tables / "README.txt").read_text()
    assert "SYNTHETIC" in readme
    assert f"version {PLUMAGE_VERSION}" in readme


def test_tables_are_the_same_bytes_every_time(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = tmp_path_factory.mktemp("again")
    write_tables(again)
    for path in tables.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


@pytest.mark.usefixtures("few_pictures")
def test_writing_gives_pictures_parts_and_progress(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int]] = []
    with caplog.at_level(logging.WARNING):
        write_plumage(tmp_path / "plumage", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert "figures cannot be compared" in caplog.text
    with (tmp_path / "plumage/parts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * len(PARTS)
    assert list(rows[0]) == ["image", "part", "x0", "y0", "x1", "y1"]
    with Image.open(tmp_path / "plumage" / "images" / name_picture(0, 0)) as image:
        drawn = np.asarray(draw_bird(0, 0)[0], dtype=int)
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image, dtype=int) - drawn).mean() < 8
    assert [path.name for path in tmp_path.iterdir()] == ["plumage"]


@pytest.mark.usefixtures("few_pictures")
def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_plumage(tmp_path / "plumage", interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_pictures")
def test_a_killed_runs_leftover_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".plumage.drawing"
    (leftover / "images").mkdir(parents=True)
    write_plumage(tmp_path / "plumage")
    assert [path.name for path in tmp_path.iterdir()] == ["plumage"]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not empty, expected a new folder"):
        write_plumage(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
