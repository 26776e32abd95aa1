"""One photo or one class more is not another dataset: rows are added, and the others keep their bytes."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click import ClickException
from own_data import write_folder, write_image
from PIL import Image
from toy_extraction import SETTINGS, StoppedError, draw, interrupt_after, notes_of

from msdn.cache import FeatureCache, files
from msdn.cache.annotations import Annotations
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.cache.partial import partial_path
from msdn.cache.reader import find_damaged_rows
from msdn.cli import main
from msdn.extract.errors import ExtractError
from msdn.extract.own.folder import open_own_dataset
from msdn.extract.pipeline import extraction, growing
from msdn.extract.pipeline.extraction import Extraction, extract
from msdn.extract.pipeline.repeating import Repeater
from msdn.extract.pipeline.settings import ExtractSettings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(extraction, "load_network", draw)
    folder = write_folder(tmp_path / "birds")
    for number, path in enumerate(sorted((folder / "images").rglob("*.png"))):
        pixels = np.random.RandomState(number).randint(0, 255, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return Home(tmp_path / "home")


OWN = replace(SETTINGS, backbone="resnet18", batch_size=1)


@pytest.fixture
def settings(home: Home) -> ExtractSettings:
    return replace(OWN, dataset=str(home.root.parent / "birds"), batch_size=4)


def add_images(home: Home) -> set[str]:
    """One image more of a class, and a class more; both sort before what there is."""
    folder = home.root.parent / "birds"
    for name in ("crane/0.png", "auk/1.png", "auk/2.png"):
        write_image(folder / "images" / name, 200)
    with (folder / "attributes.csv").open("a") as file:
        file.write("auk,0.2,1,1,0\n")
    return {"crane/0.png", "auk/1.png", "auk/2.png"}


def rows_by_path(path: Path) -> dict[str, bytes]:
    with FeatureCache(path) as cache:
        assert not list(find_damaged_rows(cache.header))
        rows = cache.read_rows(np.arange(cache.shape[0]))
        return {name: row.tobytes() for name, row in zip(cache.annotations.image_paths, rows, strict=True)}


def by_path(a: Annotations) -> dict[str, tuple[str, frozenset[str]]]:
    """Class and splits of every image."""
    splits = {name: set(rows.tolist()) for name, rows in a.splits.items()}
    return {
        path: (a.class_names[a.labels[row]], frozenset(name for name in splits if row in splits[name]))
        for row, path in enumerate(a.image_paths)
    }


def test_new_images_come_behind_the_others(home: Home, settings: ExtractSettings) -> None:
    before = extract(settings, home)
    old, names = rows_by_path(before.path), read_header(before.path).annotations.image_paths
    statistics = read_header(before.path).backbone_state
    fingerprint = read_header(before.path).fingerprint
    new = add_images(home)
    done, notes = notes_of(settings, home)
    assert (done.added, done.progress.computed, done.was_complete) == (3, 3, False)
    assert "3 new images" in notes and "other 12" in notes
    header = read_header(done.path)
    assert header.annotations.image_paths[:12] == names and set(header.annotations.image_paths[12:]) == new
    rows = rows_by_path(done.path)
    assert {name: rows[name] for name in old} == old and len(rows) == 15
    fresh = open_own_dataset(Path(settings.dataset)).annotations
    assert by_path(header.annotations) == by_path(fresh)
    assert header.annotations.class_names == fresh.class_names
    assert header.fingerprint != fingerprint
    (kept,) = header.provenance["grown"]
    assert (kept["rows"], kept["fingerprint"]) == (12, fingerprint)
    assert statistics and all(np.array_equal(statistics[n], header.backbone_state[n]) for n in statistics)
    assert [path.name for path in home.features.iterdir()] == [done.path.name]


def test_afterwards_it_is_complete_and_can_grow_again_and_be_annotated(
    home: Home, settings: ExtractSettings
) -> None:
    extract(settings, home)
    add_images(home)
    grown = extract(settings, home)
    assert extract(settings, home).was_complete
    old = rows_by_path(grown.path)
    write_image(Path(settings.dataset) / "images/wren/0.png", 90)
    done = extract(settings, home)
    assert (done.added, done.progress.computed) == (1, 1)
    assert {name: row for name, row in rows_by_path(done.path).items() if name in old} == old
    assert [part["rows"] for part in read_header(done.path).provenance["grown"]] == [12, 15]
    table = Path(settings.dataset) / "attributes.csv"
    table.write_text(table.read_text().replace("robin,1,0", "robin,1,0.5"))
    main(["cache", "annotate", str(done.path), "--dataset", settings.dataset], standalone_mode=False)
    a = read_header(done.path).annotations
    assert a.attributes[a.class_names.index("robin"), 1] == 0.5 and extract(settings, home).was_complete


def test_the_new_rows_are_those_of_a_network_with_the_old_statistics(
    home: Home, settings: ExtractSettings
) -> None:
    """Of a batch that they would share with rows that are there, they have their own places."""
    extract(settings, home)
    add_images(home)
    rows = rows_by_path(extract(settings, home).path)
    again = replace(settings, out=home.root / "b.h5")
    shutil.rmtree(Path(settings.dataset) / "images/auk")
    (Path(settings.dataset) / "images/crane/0.png").rename(home.root / "0.png")
    extract(again, home)
    shutil.copy(home.root / "0.png", Path(settings.dataset) / "images/crane/0.png")
    one = rows_by_path(extract(again, home).path)
    assert one["crane/0.png"] == rows["crane/0.png"]


def test_killed_at_any_instant_the_old_cache_stays_and_the_same_command_goes_on(
    home: Home, settings: ExtractSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, batch_size=1)
    path = extract(settings, home).path
    old = path.read_bytes()
    add_images(home)
    with monkeypatch.context() as patched, pytest.raises(StoppedError):
        patched.setattr(files, "flush_folder", stop)
        extract(settings, home)
    assert path.read_bytes() == old and partial_path(path).exists()
    partial_path(path).unlink()
    with monkeypatch.context() as patched, pytest.raises(StoppedError):
        patched.setattr(growing, "copy_rows", stop)
        extract(settings, home)
    assert path.read_bytes() == old and not partial_path(path).exists()
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(1))
    assert path.read_bytes() == old
    done = extract(settings, home)
    assert (done.added, done.progress.computed) == (3, 2) and len(rows_by_path(path)) == 15
    assert [file.name for file in home.features.iterdir()] == [path.name]


def stop(*_: object, **__: object) -> None:
    raise StoppedError


KILLED = """
import os, signal, sys
from pathlib import Path
from test_extraction_grows import OWN
from dataclasses import replace
from msdn.cache.home import Home
from msdn.extract.pipeline.extraction import extract
folder, home, kill_at = sys.argv[1:]
calls = 0
def count(function):
    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return counted
for name in ("pwrite", "fsync", "replace", "rename", "unlink", "copy_file_range"):
    setattr(os, name, count(getattr(os, name)))
Path.replace = count(Path.replace)
extract(replace(OWN, dataset=folder), Home(Path(home)))
print(calls)
"""


def grow_until(call: int, folder: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Extract in a process that is killed before its so-manieth call that writes, flushes or renames."""
    program = f"import sys; sys.path[:0] = {sys.path!r}\n{KILLED}"
    command = [sys.executable, "-c", program, folder, str(home), str(call)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sigkill_while_it_grows_costs_nothing(home: Home) -> None:
    folder = str(home.root.parent / "birds")
    settings = replace(OWN, dataset=folder)
    path = extract(settings, home).path
    old = path.read_bytes()
    whole = Home(home.root.with_name("whole"))
    shutil.copytree(home.root, whole.root)
    add_images(home)
    counted = grow_until(0, folder, whole.root)
    assert counted.returncode == 0, counted.stderr
    calls = int(counted.stdout)
    assert calls > 20, "the copy, and data, marks and flushes of three rows"
    for call in (1, calls // 2, calls - 6):  # each goes on where the last one was killed
        assert grow_until(call, folder, home.root).returncode == -signal.SIGKILL, call
        assert path.read_bytes() == old
    done = extract(settings, home)
    assert done.added == 3 and done.progress.computed < 3
    assert path.read_bytes() == (whole.features / path.name).read_bytes()
    assert [file.name for file in home.features.iterdir()] == [path.name]


def test_an_unfinished_cache_grows_too(home: Home, settings: ExtractSettings) -> None:
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(1))
    add_images(home)
    done: Extraction = extract(settings, home)
    assert done.progress.computed == 11 and len(rows_by_path(done.path)) == 15


def test_images_that_are_gone_are_refused(home: Home, settings: ExtractSettings) -> None:
    path = extract(settings, home).path
    before = path.read_bytes()
    add_images(home)
    (Path(settings.dataset) / "images/robin/2.png").unlink()
    with pytest.raises(ExtractError, match=r"1 image is gone, 'robin/2.png'.*--restart"):
        extract(settings, home)
    with pytest.raises(ClickException, match="other images"):
        main(["cache", "annotate", str(path), "--dataset", settings.dataset], standalone_mode=False)
    assert path.read_bytes() == before
    assert extract(replace(settings, restart=True), home).progress.computed == 14


def test_own_images_are_turned_upright_unless_told(home: Home, settings: ExtractSettings) -> None:
    path = extract(settings, home).path
    recipe, statistics = read_header(path).provenance, read_header(path).backbone_state
    assert "turned upright by EXIF" in recipe["transform"]
    repeater = Repeater(
        recipe, statistics, home, torch.device("cpu"), map="regions", dtype=np.dtype(np.float16)
    )
    assert repeater.plan.preparation.upright, "images to be predicted are turned as those trained on"
    with pytest.raises(ExtractError, match=r"turned upright by EXIF.*now .*no EXIF rotation"):
        extract(replace(settings, exif="keep"), home)


def spoil(settings: ExtractSettings, name: str = "robin/2.png") -> Path:
    image = Path(settings.dataset) / "images" / name
    image.write_text("broken")
    return image


def test_a_bad_image_that_is_moved_away_needs_no_restart(home: Home, settings: ExtractSettings) -> None:
    whole = rows_by_path(extract(replace(settings, out=home.root.parent / "whole.h5"), home).path)
    image = spoil(settings)
    with pytest.raises(
        ExtractError, match=r"1 image cannot be used(?s:.*)robin/2.png(?s:.*)replace or remove"
    ):
        extract(settings, home)
    image.unlink()
    done, notes = notes_of(settings, home)
    assert list(done.masked.values()) == ["removed"] and done.progress.computed == 0
    assert "splits changed" not in notes and extract(settings, home).was_complete
    header = read_header(done.path)
    (row,) = header.masked_rows
    assert header.annotations.image_paths[row] == "robin/2.png" and header.mask_reasons[row] == "removed"
    found = rows_by_path_but_masked(done.path)
    assert found == {name: row for name, row in whole.items() if name != "robin/2.png"}


def rows_by_path_but_masked(path: Path) -> dict[str, bytes]:
    with FeatureCache(path) as cache:
        good = np.setdiff1d(np.arange(cache.shape[0]), cache.masked_rows)
        names = cache.annotations.image_paths
        return {names[n]: row.tobytes() for n, row in zip(good, cache.read_rows(good), strict=True)}


def test_a_masked_image_that_is_removed_needs_no_restart(home: Home, settings: ExtractSettings) -> None:
    image = spoil(settings)
    path = extract(replace(settings, bad_images="mask"), home).path
    old = rows_by_path_but_masked(path)
    image.unlink()
    assert extract(settings, home).was_complete
    main(["cache", "annotate", str(path), "--dataset", settings.dataset], standalone_mode=False)
    header = read_header(path)
    assert all(header.masked_rows[0] not in rows for rows in header.annotations.splits.values())
    add_images(home)
    done = extract(settings, home)
    assert done.added == 3 and list(done.masked.values()) == ["removed"]
    found = rows_by_path_but_masked(path)
    assert {name: found[name] for name in old} == old and len(found) == 14


def test_growing_does_not_stop_at_what_is_masked_already(home: Home, settings: ExtractSettings) -> None:
    image = spoil(settings)
    extract(replace(settings, bad_images="mask"), home)
    add_images(home)
    spoil(settings, "wren/1.png")  # has features: not looked at again
    done = extract(settings, home)
    assert done.added == 3 and [Path(path).name for path in done.masked] == ["2.png"]
    write_image(image, 90)
    write_image(Path(settings.dataset) / "images/wren/9.png", 80)
    assert not extract(settings, home).masked, "tried again, and good now"
    spoil(settings, "wren/10.png")
    with pytest.raises(ExtractError, match=r"wren/10.png: not an image"):
        extract(settings, home)
