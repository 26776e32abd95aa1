"""Images in tars, as WebDataset keeps them: read in place, to the features of the same images in folders."""

import gzip
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from own_data import CLASSES, image_splits, write_folder
from PIL import Image

import msdn
from msdn.cache import FeatureCache
from msdn.extract.datasets.registry import open_dataset
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import find_mistakes, open_own_dataset
from msdn.extract.tars import is_image_file, open_tar, read_member

BACKBONE = """
from torch import nn
from msdn.extract.backbones import Backbone

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 7, stride=8), nn.AdaptiveAvgPool2d(7))

BACKBONE = Backbone(build=build, layer="1")
"""
PNG = io.BytesIO()
Image.new("RGB", (8, 8)).save(PNG, "png")


def pack(tar: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w", format=form) as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return tar


def move_into_tars(folder: Path, style: str) -> Path:
    """Put the images of a folder into one tar for each number, and take the class folders away."""
    images = folder / "images"
    for number in (1, 2, 3):
        files: dict[str, bytes] = {}
        for label, name in enumerate(CLASSES):
            content = (images / name / f"{number}.png").read_bytes()
            key = f"{name}/{number}" if style == "folders" else f"{label:05}"
            key = f"./train/{key}" if style == "deep" else key
            files[f"{key}.png"] = content
            if style in ("cls", "deep"):
                files[f"{key}.cls"] = str(label).encode()
                files[f"{key}.txt"] = b"a caption that says nothing"
            if style == "txt":
                files[f"{key}.txt"] = f"{name}\n".encode()
            if style == "json":
                files[f"{key}.json"] = json.dumps({"width": 8, "label": name if label else 0}).encode()
        pack(images / f"{number}.tar", files)
    for name in CLASSES:
        for image in (images / name).iterdir():
            image.unlink()
        (images / name).rmdir()
    return folder


@pytest.mark.parametrize("style", ["folders", "cls", "txt", "json", "deep"])
def test_a_sample_says_its_class_in_every_usual_way(tmp_path: Path, style: str) -> None:
    folder = move_into_tars(write_folder(tmp_path / "birds"), style)
    assert find_mistakes(folder) == []
    a = open_own_dataset(folder).annotations
    assert a.class_names == CLASSES and len(a.image_paths) == 12
    assert np.bincount(a.labels).tolist() == [3, 3, 3, 3]
    assert a.image_paths[0].startswith("1.tar/")
    dataset = open_dataset(str(folder), msdn.cache.Home(tmp_path))
    assert all(is_image_file(dataset.image_path(row)) for row in range(12))
    assert not is_image_file(folder / "images/1.tar/nothing.png")


def test_features_of_images_in_tars_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(BACKBONE)
    found = []
    for name in ("birds", "tarred"):
        folder = write_folder(tmp_path / name)
        if name == "birds":
            (folder / "splits.csv").write_text(image_splits())
        else:
            lines = image_splits().splitlines()
            move_into_tars(folder, "folders")
            through = [f"{line.split('/')[1][0]}.tar/{line}" for line in lines[1:]]
            (folder / "splits.csv").write_text("\n".join([lines[0], *through]) + "\n")
        done = msdn.extract(
            folder,
            backbone=str(tmp_path / "own.py"),
            weights="random:1",
            device="cpu",
            home=tmp_path / "home",
        )
        with FeatureCache(done.path) as cache:
            names = [path.split(".tar/")[-1] for path in cache.annotations.image_paths]
            found.append(cache.read_rows(np.argsort(names)))
    assert len(found[0]) == 12 and np.array_equal(found[0], found[1])


def test_long_names_and_every_form_of_tar_are_read(tmp_path: Path) -> None:
    name = "robin/" + "x" * 180 + ".jpg"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        tar = pack(tmp_path / f"{form}.tar", {name: b"some bytes", "robin/ä.jpg": b"more"}, form)
        assert open_tar(tar).members.keys() == {name, "robin/ä.jpg"}
        assert read_member(tar, name) == b"some bytes" and read_member(tar, "robin/ä.jpg") == b"more"


def test_a_tar_written_again_is_indexed_again(tmp_path: Path) -> None:
    tar = pack(tmp_path / "a.tar", {"1.jpg": b"old"})
    assert read_member(tar, "1.jpg") == b"old"
    pack(tar, {"0.jpg": b"first", "1.jpg": b"new" * 9000})
    assert read_member(tar, "1.jpg") == b"new" * 9000


@pytest.mark.parametrize(
    "change, named",
    [
        (gzip.compress, "is compressed.*gunzip"),
        (lambda content: content[:1200], "cut short"),
        (
            lambda content: content[: content.rindex(b"last") + 508],
            "cut short",
        ),  # the end mark alone is missing
        (lambda content: b"nonsense" * 300, "not a tar file|cut short"),
        (lambda content: b"", "not a tar file|cut short"),
        (lambda content: content[:1600] + b"x" * 500 + content[2100:], "not a tar file|cut short"),
    ],
)
def test_a_tar_that_cannot_be_read_ends_in_a_sentence(tmp_path: Path, change, named: str) -> None:
    folder = write_folder(tmp_path / "birds")
    tar = pack(folder / "images/a.tar", {"robin/7.jpg": b"x" * 700, "robin/8.jpg": b"last"})
    tar.write_bytes(change(tar.read_bytes()))
    with pytest.raises(DatasetError, match=rf"a.tar: .*({named})"):
        open_own_dataset(folder)


@pytest.mark.parametrize(
    "files, named",
    [
        ({"7.jpg": b"x"}, r"7.jpg says no class \(a folder"),
        ({"7.jpg": b"x", "7.cls": b"9"}, "has a class that is not in attributes.csv: '9'"),
        ({"7.jpg": b"x", "7.json": b"{"}, "7.jpg has a .json that is no JSON"),
        ({"7.cls": b"1", "8.cls": b"1"}, "7 is no image, and no image has its key, and so 1 more"),
        ({"owl/7.png": PNG.getvalue()}, "attributes.csv has no row for class 'owl'"),
        ({"robin/7.jpg": b"x"}, "named as an image but is not one"),
        ({"robin/7.jpg": b""}, "image file is empty"),
    ],
)
def test_what_is_wrong_in_a_tar_is_named(tmp_path: Path, files: dict[str, bytes], named: str) -> None:
    folder = write_folder(tmp_path / "birds")
    pack(folder / "images/a.tar", files)
    said = "\n".join(map(str, find_mistakes(folder)))
    assert re.search(named, said), said
    assert len(said.splitlines()) == 1
