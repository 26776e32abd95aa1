"""One good folder, changed in one way at a time: every mistake gets its own message, with its file and line."""

import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from own_data import ATTRIBUTES, image_splits, write_folder, write_image

from msdn.cli import main
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import find_mistakes, open_own_dataset
from msdn.extract.own.mistakes import Mistake

Change = Callable[[Path], object]
CSV, SPLITS, ROBIN = "attributes.csv", "splits.csv", "images/robin"
HEADER = ATTRIBUTES.splitlines(keepends=True)[0]
CHUNKS = ((13, b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), (0, b"IDAT"))
HUGE = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk)) for size, chunk in CHUNKS
)
BY_CLASS = "class,split\ncrane,unseen\nheron,seen\nrobin,seen\nwren,seen\n"


def edit(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        assert ATTRIBUTES.count(old) == 1, "the change must hit one place"
        write(CSV, ATTRIBUTES.replace(old, new))(folder)

    return change


def write(file: str, content: str | bytes) -> Change:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / file).write_bytes(data)


def splits(content: str) -> Change:
    return write(SPLITS, content)


def image(path: str) -> Change:
    return lambda folder: write_image(folder / path)


def mkdir(path: str) -> Change:
    return lambda folder: (folder / path).mkdir()


def link(path: str, target: str) -> Change:
    return lambda folder: (folder / path).symlink_to(target)


def remove(name: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def vectors(**arrays: np.ndarray) -> Change:
    return lambda folder: np.savez(folder / "vectors.npz", **arrays)


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


MISTAKES: list[
    tuple[Change, str, int | None, str]
] = [  # what is done, and the file, line and message it gives
    # attributes.csv as a file
    (remove(CSV), CSV, None, "there is no such file; make it"),
    (both(remove(CSV), mkdir(CSV)), CSV, None, "is a folder or device, expected a file"),
    (write(CSV, "\n \n,,\n"), CSV, None, "is empty, expected a header row that starts with 'class'"),
    (write(CSV, HEADER), CSV, 1, "has a header but no rows"),
    (edit(HEADER, ""), CSV, 1, "the first cell is 'crane', expected a header"),
    (write(CSV, "class\ncrane\n"), CSV, 1, "no cell after 'class'"),
    (write(CSV, ATTRIBUTES.replace(",", ";")), CSV, 1, "separated by semicolons"),
    (write(CSV, "\nclass\ta\tb\n"), CSV, 2, "separated by tabs"),
    (write(CSV, ATTRIBUTES.encode("utf-16")), CSV, 1, "is UTF-16"),
    (write(CSV, ATTRIBUTES.replace("heron", "hèron").encode("latin-1")), CSV, 3, "byte 0xE8 is not UTF-8"),
    (edit("0,1,0,1", "0,1,\0,1"), CSV, 3, "zero byte"),
    (edit("robin,1", '"robin,1'), CSV, 4, "starts here cannot be read"),
    (edit("robin,1", f"robin,{'1' * 140_000}"), CSV, 4, "field larger than field limit"),
    # its header and rows
    (
        edit("colour: blue", "colour: red"),
        CSV,
        1,
        "'wing colour: red' is the name of both column 2 and column 3",
    ),
    (edit("size: small", " "), CSV, 1, "cell 4 of the header is empty"),
    (edit("size: small", "size\x07"), CSV, 1, "cell 4 of the header, .*odd characters"),
    (edit("heron,0,1,0,1", "heron,0,1,0"), CSV, 3, "has 4 cells, the header 5"),
    (edit("heron,0,1,0,1", "heron,0,1,0,1,7"), CSV, 3, "has 6 cells, the header 5"),
    (
        edit("0.5,0.5", "0.5,perhaps"),
        CSV,
        5,
        "column 'wing colour: blue': 'perhaps' is neither a number nor yes",
    ),
    (edit("0.5,0.5", "never,ever"), CSV, 5, "'never' is neither a number.*and 1 more cells"),
    (edit("0.25", "1_000"), CSV, 2, "'1_000' is neither a number nor yes or no"),
    (edit("heron,0,1,0,1", "heron,0,,0,1"), CSV, 3, "the cell is empty"),
    (edit("0.25", '"0,25"'), CSV, 2, "decimal comma; write '0.25'"),
    (edit("0.25", "25 %"), CSV, 2, "'25 %' has a percent sign"),
    (edit("0.25", "NaN"), CSV, 2, "'NaN' is not a finite number"),
    (edit("0.25", "-inf"), CSV, 2, "'-inf' is not a finite number"),
    (edit("0.25", "1e999"), CSV, 2, "'1e999' is too large"),
    (edit("heron,0,1,0,1", "heron,0,0,0,0"), CSV, 3, "'heron' has only zeros"),
    (
        edit("heron,0,1,0,1", "heron,3,0,0.75,3"),
        CSV,
        3,
        r"'heron' cannot be told apart from 'crane' \(line 2\)",
    ),
    (both(edit("robin,", ","), remove(ROBIN)), CSV, 4, "the row names no class"),
    (edit("wren,0.5", "wren,1,0,0,0\nwren,0.5"), CSV, 6, "class 'wren' has a row in line 5 already"),
    # classes and images
    (image("images/owl/1.png"), "images/owl", None, "no row for class 'owl'"),
    (remove("images"), "images", None, "no such folder; put the images into"),
    (both(remove("images"), mkdir("images")), "images", None, "holds no class folder"),
    (both(remove("images"), mkdir("images"), mkdir(ROBIN)), "images", None, "no image in any class folder"),
    (
        both(remove(ROBIN), remove("images/wren")),
        "images",
        None,
        "there are 2 classes with images, at least 3",
    ),
    (image("images/4.png"), "images/4.png", None, "is outside the class folders"),
    (image("images/ owl/1.png"), "images/ owl", None, "has odd characters, or spaces"),
    (link("images/owl", "nowhere"), "images/owl", None, "is a link to a folder that is not there"),
    (image(f"{ROBIN}/\x1b1.png"), f"{ROBIN}/\x1b1.png", None, "the file's name has odd characters"),
    (image(f"{ROBIN}/1.PNG"), f"{ROBIN}/1.png", None, "differ from '1.PNG'; rename one"),
    (link(f"{ROBIN}/4.png", "nowhere"), f"{ROBIN}/4.png", None, "is a link to a file that is not there"),
    (link(f"{ROBIN}/more", "../wren"), f"{ROBIN}/more", None, "link to a folder, which is not followed"),
    (write(f"{ROBIN}/1.png", ""), f"{ROBIN}/1.png", None, "the image file is empty"),
    (write(f"{ROBIN}/1.png", "no picture"), f"{ROBIN}/1.png", None, "is named as an image but is not one"),
    (write(f"{ROBIN}/jpg", "x"), f"{ROBIN}/jpg", None, "does not have the ending of an image"),
    (
        lambda folder: os.mkfifo(folder / ROBIN / "4.png"),
        f"{ROBIN}/4.png",
        None,
        "is neither a file nor a folder",
    ),
    (write(f"{ROBIN}/1.png", HUGE), f"{ROBIN}/1.png", None, "the image cannot be opened .*pixels"),
    # splits.csv that lists classes
    (splits("klass,split\n"), SPLITS, 1, "expected the header 'image,split' or 'class,split'"),
    (splits("class,kind\ncrane,unseen\n"), SPLITS, 1, "continues with 'kind', expected 'split'"),
    (splits(BY_CLASS + "owl,seen\n"), SPLITS, 6, "there is no class 'owl'"),
    (splits(BY_CLASS + "wren,seen\n"), SPLITS, 6, "class 'wren' is already in line 5"),
    (splits(BY_CLASS.replace("unseen", "test")), SPLITS, 2, "'test' is not a split of class rows"),
    (splits(BY_CLASS.replace("wren,seen\n", "")), SPLITS, None, "1 of 4 classes have no row, first 'wren'"),
    (splits(BY_CLASS.replace("unseen", "seen")), SPLITS, None, "no class is unseen"),
    (splits(BY_CLASS.replace(",seen", ",unseen", 2)), SPLITS, None, "1 classes have training images"),
    # splits.csv that lists images
    (splits(image_splits() + "wren/9.png,train\n"), SPLITS, 14, "there is no image 'wren/9.png'"),
    (
        splits(image_splits() + "./wren/1.png,train\n"),
        SPLITS,
        14,
        "image './wren/1.png' is already in line 11",
    ),
    (splits(image_splits(heron_1="test")), SPLITS, 5, "'test' is not a split of image rows"),
    (splits(image_splits(wren_2="")), SPLITS, None, "1 of 12 images have no row, first 'wren/2.png'"),
    (splits(image_splits(crane_2="val")), SPLITS, 2, "'test_unseen' here and in 'val' in line 3"),
    (splits(image_splits(robin_2="val")), SPLITS, 9, "'val' here and in 'train' in line 8"),
    (
        splits(image_splits(heron_1="test_seen", heron_2="test_seen").replace("train", "trainval")),
        SPLITS,
        5,
        "class 'heron' is in 'test_seen', but none of",
    ),
    (
        splits(image_splits(wren_1="trainval", wren_2="trainval")),
        SPLITS,
        11,
        "'trainval' here but 'train' in line 8",
    ),
    (splits(image_splits(heron_1="train", heron_2="train")), SPLITS, 5, "there is 'train' but not the other"),
    (link(SPLITS, "nowhere"), SPLITS, None, "leads to a file that is not there; put"),
    (write("Split.csv", BY_CLASS), "Split.csv", None, "is not read; name it 'splits.csv'"),
    # vectors.npz
    (vectors(vectors=np.ones((3, 5))), "vectors.npz", None, "^3 vectors, but the dataset has 4 attributes"),
    (write("vectors.npz", "x"), "vectors.npz", None, "^attribute vectors cannot be read"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "birds")


def test_the_good_folder_has_no_mistakes(folder: Path) -> None:
    assert find_mistakes(folder) == []


@pytest.mark.parametrize(
    ("change", "file", "line", "message"), MISTAKES, ids=[case[3][:40] for case in MISTAKES]
)
def test_every_mistake_is_named(
    folder: Path, change: Change, file: str, line: int | None, message: str
) -> None:
    change(folder)
    (mistake,) = find_mistakes(folder)
    assert (mistake.file, mistake.line) == (folder / file, line)
    assert re.search(message, mistake.message)
    place = f"{folder / file}:{line}: " if line else f"{folder / file}: "
    assert str(mistake).startswith(place.replace("\x1b", "\\x1b"))


def test_no_two_mistakes_share_a_message(tmp_path: Path) -> None:
    said = []
    for number, (change, *_) in enumerate(MISTAKES):
        folder = write_folder(tmp_path / f"folder {number}")
        change(folder)
        said += [mistake.message for mistake in find_mistakes(folder)]
    assert len(set(said)) == len(said) == len(MISTAKES)


def test_a_folder_named_as_a_known_dataset_is_refused(tmp_path: Path) -> None:
    (mistake,) = find_mistakes(write_folder(tmp_path / "CUB"))
    assert "another dataset named 'CUB'; rename the folder" in mistake.message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert find_mistakes(tmp_path / "none") == [Mistake(tmp_path / "none", "there is no such folder")]


def test_all_mistakes_are_found_at_once_and_none_follows_from_another(folder: Path) -> None:
    for change in (
        edit("robin,1,0", "robin,one,0"),
        remove("images/heron"),
        image("images/owl/1.png"),
        write(f"{ROBIN}/2.png", ""),
        splits("class,split\ncrane,unseen\nrobin,sen\nwren,seen\nheron,seen\nowl,seen\n"),
    ):
        change(folder)
    places = [(str(mistake.file.relative_to(folder)), mistake.line) for mistake in find_mistakes(folder)]
    assert places == [(CSV, 4), ("images/owl", None), (SPLITS, 3), (f"{ROBIN}/2.png", None)]


def test_a_folder_that_cannot_be_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse_inner(path: str | Path) -> object:
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    image(f"{ROBIN}/inner/1.png")(folder)
    monkeypatch.setattr(os, "scandir", refuse_inner)
    expected = Mistake(folder / ROBIN / "inner", "the folder cannot be opened (Permission denied)")
    assert find_mistakes(folder) == [expected]


def test_a_near_name_is_asked_for(folder: Path) -> None:
    (folder / ROBIN).rename(folder / "images/Robin")
    without_row, without_folder = sorted(
        find_mistakes(folder), key=lambda mistake: mistake.line is None, reverse=True
    )
    assert without_folder.message == "class 'robin' has no folder images/robin; is 'Robin' meant?"
    assert without_row.file == folder / "images/Robin"


def test_opening_names_ten_mistakes_and_counts_all(folder: Path) -> None:
    for number in range(12):
        write(f"{ROBIN}/{number}.txt", "x")(folder)
    with pytest.raises(
        DatasetError,
        match=r"^12 mistakes:(\n  .*){10}\n  and 2 more\nTo list all of them: msdn data check .*birds$",
    ):
        open_own_dataset(folder)


def test_opening_leaves_pictures_that_cannot_be_read_to_the_extraction(folder: Path) -> None:
    write(f"{ROBIN}/1.png", "")(folder)
    assert "robin/1.png" in open_own_dataset(folder).annotations.image_paths


def test_names_that_are_not_utf_8_are_printed_escaped(folder: Path) -> None:
    image(f"{ROBIN}/gr\udcfcn.png")(folder)
    image(f"{ROBIN}/\x1b[31m.png")(folder)
    shown = CliRunner().invoke(main, ["data", "check", str(folder)])
    assert shown.exit_code == 1 and "2 mistakes in" in shown.stderr
    assert "gr\\udcfcn.png: the file's name has odd" in shown.stdout and "\\x1b[31m.png" in shown.stdout


def test_check_prints_each_mistake_and_fails(folder: Path) -> None:
    edit("crane,1,0,0.25,1\nheron,0,1,0,1\nrobin,1", "crane,1,0,x,1\nheron,0,1,0,1\nrobin,y")(folder)
    shown = CliRunner().invoke(main, ["data", "check", str(folder)])
    assert shown.exit_code == 1 and shown.stderr.strip().endswith("fix what is named above and check again")
    assert [line.split(": ")[0] for line in shown.stdout.splitlines()] == [
        f"{folder / CSV}:{n}" for n in (2, 4)
    ]


def test_a_known_dataset_that_is_not_there(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["data", "check", "cub", "--home", str(tmp_path)])
    assert shown.exit_code == 1 and "dataset 'cub' is not in" in shown.stderr
    unknown = CliRunner().invoke(main, ["data", "check", "bird"])
    assert unknown.exit_code == 2 and "or the path of " in unknown.stderr


def test_a_slash_in_a_class_is_explained(folder: Path) -> None:
    table = folder / CSV
    table.write_text(table.read_text().replace("robin,", "<b>robin</b>,"))
    (folder / ROBIN).rename(folder / "images/b")
    (folder / "images/<b>robin<").mkdir()
    (folder / "images/b").rename(folder / "images/<b>robin</b>")
    (mistake,) = find_mistakes(folder)
    assert "'<b>robin</b>'" in mistake.message and "'/'" in mistake.message and "rename" in mistake.message
