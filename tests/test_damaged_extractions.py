"""Rows that an extraction or an import wrote and the disk lost: found when it goes on, made again byte for byte."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from own_data import write_folder, write_image
from toy_cache import zero_rows
from toy_dataset import TOY
from toy_extraction import SETTINGS, StoppedError, interrupt_after, make_home, notes_of
from toy_published import run, write_foreign

from msdn.cache import CacheError, FeatureCache
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.cache.layout import DONE
from msdn.cache.merging import merge_parts
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.parts import divide
from msdn.extract.datasets import registry
from msdn.extract.errors import DatasetError
from msdn.extract.pipeline.extraction import extract
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.extract.pipeline.worker import Worker

SMALL = replace(SETTINGS, backbone="resnet18", image_size=32)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return make_home(tmp_path, monkeypatch)


@pytest.fixture
def settings(home: Home) -> ExtractSettings:
    return replace(SMALL, out=home.root / "f.h5")


def whole(home: Home) -> bytes:
    """What one extraction without damage leaves."""
    return extract(replace(SMALL, out=home.root / "whole.h5"), home).path.read_bytes()


def test_a_resume_makes_damaged_rows_again(home: Home, settings: ExtractSettings) -> None:
    expected, partial = whole(home), partial_path(home.root / "f.h5")
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(4))
    done = np.flatnonzero(read_header(partial).states == DONE)
    lost = done[[0, 3, -1]]
    zero_rows(partial, lost)
    with pytest.raises(StoppedError):  # killed once more: what was found is not forgotten
        extract(settings, home, interrupt_after(1))
    left = int((read_header(partial).states != DONE).sum())
    again, notes = notes_of(settings, home)
    assert again.progress.computed == left and again.path.read_bytes() == expected
    zero_rows(again.path, lost)
    again.path.rename(partial)  # complete but for its name
    again, notes = notes_of(settings, home)
    assert f"{partial}: 3 rows were damaged and are extracted again, first row 0 (class_0/0.jpg)" in notes
    assert again.progress.computed == 3 and again.path.read_bytes() == expected


def test_damaged_rows_of_a_finished_cache_are_made_again_alone(home: Home, settings: ExtractSettings) -> None:
    expected = whole(home)
    path = extract(settings, home).path
    zero_rows(path, np.array([12]))
    with (
        FeatureCache(path) as cache,
        pytest.raises(CacheError, match=r"row 12 .*'msdn extract'.*--retry-bad"),
    ):
        cache.read_rows(np.array([12]))
    done, notes = notes_of(replace(settings, retry_bad=True), home)
    assert "1 row was damaged and is extracted again, first row 12 (class_2/12.jpg)" in notes
    assert done.progress.computed == 1 and path.read_bytes() == expected
    assert extract(replace(settings, retry_bad=True), home).was_complete


def test_a_damaged_row_whose_image_is_gone_keeps_the_cache(home: Home, settings: ExtractSettings) -> None:
    path = extract(settings, home).path
    with pytest.raises(StoppedError):
        extract(replace(settings, restart=True), home, interrupt_after(4))
    partial = partial_path(path)
    zero_rows(partial, np.array([0]))
    (home.data / "TOY/images/class_0/0.jpg").unlink()
    before = partial.read_bytes()
    with pytest.raises(DatasetError, match=r"class_0/0\.jpg"):
        extract(settings, home)
    assert partial.read_bytes() == before


def test_rows_taken_over_by_a_larger_dataset_are_checked(tmp_path: Path, home: Home) -> None:
    folder = write_folder(tmp_path / "birds")
    settings = replace(SMALL, dataset=str(folder))
    path = extract(settings, home).path
    good = read_header(path).checksums
    zero_rows(path, np.array([5]))
    write_image(folder / "images/crane/0.png", 200)
    done, notes = notes_of(settings, home)
    assert "1 row was damaged and is extracted again, first row 5 " in notes
    assert done.added == 1 and done.progress.computed == 2
    np.testing.assert_array_equal(read_header(path).checksums[: len(good)], good)
    with FeatureCache(path) as cache:
        cache.read_rows(np.arange(len(good) + 1))


def test_damaged_rows_of_a_finished_shard_are_made_again(home: Home, settings: ExtractSettings) -> None:
    expected = whole(home)
    one = replace(settings, worker=Worker(0, 1, 0, "--shard"))
    extract(one, home)
    shard = divide(home.root / "f.h5", 30, 4)[5].path
    zero_rows(shard, np.array([2]))
    with pytest.raises(CacheError, match=r"shard-0005-of-0008: row 2 \(class_4/22.jpg\).*--retry-bad"):
        merge_parts(home.root / "f.h5")
    assert extract(replace(one, retry_bad=True), home).progress.computed == 1
    merge_parts(home.root / "f.h5")
    assert (home.root / "f.h5").read_bytes() == expected


def test_an_import_that_goes_on_makes_damaged_rows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    source = write_foreign(tmp_path / "published.hdf5")
    words = ("cache", "import", source, "--dataset", "toy", "--home", tmp_path)
    out = tmp_path / "a.h5"
    assert run(*words, "--out", out).exit_code == 0
    expected = out.read_bytes()
    out.rename(partial_path(out))
    zero_rows(partial_path(out), np.array([3, 17]))
    written = []
    write = PartialCache.write_rows
    monkeypatch.setattr(
        PartialCache, "write_rows", lambda self, rows, maps: written.extend(rows) or write(self, rows, maps)
    )
    assert run(*words, "--out", out).exit_code == 0
    assert written == [3, 17] and out.read_bytes() == expected
    assert "2 rows" in caplog.text and "first row 3" in caplog.text
    zero_rows(out, np.array([3]))
    with (
        FeatureCache(out) as cache,
        pytest.raises(CacheError, match=r"import the file again, with --restart"),
    ):
        cache.read_rows(np.array([3]))
