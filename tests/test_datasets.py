"""Readers of the published annotation files, with every quirk those files have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from toy_cache import make_annotations
from toy_dataset import TOY, write_toy_annotations, write_toy_dataset

from msdn.cache.annotations import AnnotationError
from msdn.cache.errors import UnknownNameError
from msdn.cache.files import sha256_of
from msdn.cache.home import Home
from msdn.extract.datasets import registry
from msdn.extract.datasets.proposed_splits import (
    cut_image_root,
    divide_trainval,
    read_attribute_names,
    read_dataset,
)
from msdn.extract.datasets.registry import find_spec, open_dataset
from msdn.extract.datasets.spec import Source
from msdn.extract.downloads.download import Receipt, write_receipt
from msdn.extract.downloads.sources import PLANS, SOURCES
from msdn.extract.errors import DatasetError


def rewrite(data: Path, file: str, **changes: object) -> None:
    """Change variables of a .mat file; None removes one."""
    path = data / "xlsa17/data/TOY" / file
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    scipy.io.savemat(path, {k: v for k, v in (content | changes).items() if v is not None})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_toy_annotations(tmp_path, make_annotations())
    return tmp_path


def write_attributes(data: Path, text: str) -> None:
    (data / "TOY").mkdir(exist_ok=True)
    (data / "TOY/attributes.txt").write_text(text)


def test_annotations_come_out_as_they_went_in(data: Path) -> None:
    expected, got = make_annotations(), read_dataset(TOY, data).annotations
    assert got.image_paths == expected.image_paths  # in spite of prefix and double slash
    np.testing.assert_array_equal(got.labels, expected.labels)  # in spite of uint8
    np.testing.assert_allclose(got.attributes, expected.attributes)
    assert got.class_names == expected.class_names
    for name, rows in expected.splits.items():
        np.testing.assert_array_equal(got.splits[name], rows)


@pytest.mark.parametrize(
    "path, expected",
    [
        ("/BS/a/data/CUB_200_2011/CUB_200_2011/images/001.Bird/a.jpg", "001.Bird/a.jpg"),
        ("/BS/x/Animals_with_Attributes2//JPEGImages/antelope/antelope_1.jpg", "antelope/antelope_1.jpg"),
        ("/home/images/SUN/images//a/abbey/sun.jpg", "a/abbey/sun.jpg"),
        ("images/a.jpg", "a.jpg"),
        (r"C:\data\images\b\a.jpg", "b/a.jpg"),
        ("/no/such/myimages/a.jpg", "/no/such/myimages/a.jpg"),
    ],
)
def test_paths_are_anchored_on_the_last_image_folder(path: str, expected: str) -> None:
    assert cut_image_root(path) == expected


def test_class_names_fall_back_on_folders(data: Path) -> None:
    rewrite(data, "att_splits.mat", allclasses_names=None)
    assert read_dataset(TOY, data).annotations.class_names == make_annotations().class_names


def test_negative_attributes_are_kept_raw(data: Path) -> None:
    attributes = make_annotations().attributes.T.copy()
    attributes[2, 1] = -1
    rewrite(data, "att_splits.mat", original_att=attributes)
    assert read_dataset(TOY, data).annotations.attributes[1, 2] == -1


def test_validation_classes_as_published_or_every_third() -> None:
    labels = np.repeat(np.arange(6), 2)
    trainval = np.arange(12)
    published = divide_trainval(trainval, labels, np.array([0, 1, 4, 5, 6]), np.array([2, 3, 8, 9, 10, 11]))
    assert np.unique(labels[published["val"]]).tolist() == [1, 4, 5]
    for unsound in ((None, None), (np.array([0, 2]), np.array([2, 4])), (np.array([99]), np.array([0]))):
        derived = divide_trainval(trainval, labels, *unsound)
        assert np.unique(labels[derived["val"]]).tolist() == [2, 5]
        assert np.array_equal(np.union1d(derived["train"], derived["val"]), trainval)


def test_version_1_of_the_splits_is_refused(data: Path) -> None:
    splits = make_annotations().splits
    rewrite(data, "att_splits.mat", test_seen_loc=splits["trainval"][:3, None] + 1.0)
    with pytest.raises(DatasetError, match="3 training images are test images too; this is version 1"):
        read_dataset(TOY, data)


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("res101.mat", {"labels": None}, "'labels' is missing"),
        ("att_splits.mat", {"trainval_loc": None}, "'trainval_loc' is missing"),
        (
            "att_splits.mat",
            {"test_unseen_loc": np.array([[99.0]])},
            "points at image 99, but there are 30",
        ),
        (
            "att_splits.mat",
            {"original_att": np.ones((7, 5))},
            "but att_splits.mat has attributes of 5 classes",
        ),
        ("res101.mat", {"labels": np.ones((3, 1))}, "3 labels for 30 images"),
        ("res101.mat", {"labels": np.zeros((30, 1))}, "labels run from 0 to 0, but"),
    ],
)
def test_contradictory_files_are_refused(data: Path, file: str, change: dict, message: str) -> None:
    rewrite(data, file, **change)
    with pytest.raises((DatasetError, AnnotationError), match=message):
        read_dataset(TOY, data)


def test_counts_of_a_known_dataset_are_checked(data: Path) -> None:
    with pytest.raises(DatasetError, match=r"att_splits.mat .*: holds 16 trainval, but 'toy' has 17"):
        read_dataset(replace(TOY, counts={"trainval": 17}), data)
    read_dataset(replace(TOY, counts={"trainval": 16, "classes": 6, "attributes": 7}), data)
    for what, got in (("classes", 6), ("attributes", 7)):
        with pytest.raises(DatasetError, match=f"{got} {what}, but 'toy' has 50"):
            read_dataset(replace(TOY, counts={what: 50}), data)


@pytest.mark.parametrize("file", ["att_splits.mat", "res101.mat"])
def test_a_mat_file_cut_short_anywhere_gives_a_sentence(data: Path, file: str) -> None:
    path = data / "xlsa17/data/TOY" / file
    whole = path.read_bytes()
    for length in range(0, len(whole) - 8, 61):
        path.write_bytes(whole[:length])
        with pytest.raises((DatasetError, AnnotationError), match=r"\w+"):
            read_dataset(TOY, data)


def test_attribute_names_read_as_people_say_them(data: Path) -> None:
    write_attributes(data, "1 has_wing_color::red\n2 has_bill_shape::curved_(up_or_down)\n\n3 size: small\n")
    names = read_attribute_names(data, ("none.txt", "TOY/attributes.txt"), 3)
    assert names == ("wing color: red", "bill shape: curved (up or down)", "size: small")
    assert read_attribute_names(data, ("none.txt",), 3) == ()
    with pytest.raises(DatasetError, match="names 3 attributes, the class table has 4"):
        read_attribute_names(data, ("TOY/attributes.txt",), 4)


def test_unknown_and_missing_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown dataset 'plumages'. Did you mean 'plumage'\? Known: awa2, cub, flo"
    ):
        find_spec("plumages")
    with pytest.raises(
        DatasetError, match=r"dataset 'cub' is not in .*/data: .*CUB_200_2011/images is missing"
    ):
        open_dataset("cub", Home(tmp_path))
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    write_toy_dataset(tmp_path / "data")
    dataset = open_dataset("toy", Home(tmp_path))
    assert all(dataset.image_path(row).is_file() for row in range(30))


def test_a_dataset_that_ships_as_code_is_made_on_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def make(folder: Path, on_progress: object) -> None:
        made.append(folder)
        write_toy_dataset(folder.parents[2])

    monkeypatch.setattr("toy_dataset.make_it", make, raising=False)
    monkeypatch.setitem(registry.DATASETS, "toy", replace(TOY, make="toy_dataset:make_it"))
    for _ in range(2):
        open_dataset("toy", Home(tmp_path))
    assert made == [tmp_path / "data/xlsa17/data/TOY"]


def test_lists_that_are_not_those_that_were_fetched_are_named(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home, place = Home(data.parent / "home"), "xlsa17/data/TOY/att_splits.mat"
    data.rename(home.root.mkdir() or home.data)
    (home.data / TOY.images).mkdir()
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setitem(SOURCES, "lists", Source("lists.zip", (), (place,), rules=((".*", ""),)))
    monkeypatch.setitem(PLANS, "lists", ("lists",))
    for digest, is_named in ((sha256_of(home.data / place), False), ("0" * 64, True)):
        receipt = Receipt("url", 1, "0", None, "today", 1, 1, {place: 1}, digests={place: digest})
        write_receipt(home, "lists", receipt)
        found = open_dataset("toy", home)
        assert (f"{home.data / place}: not the file that was published" in caplog.text) == is_named
    assert found.sources["attribute_names"]["sha256"] == sha256_of(home.data / "TOY/attributes.txt")
