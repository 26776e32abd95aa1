"""An import that cannot go on: every cause keeps its own sentence, and nobody else's file is touched."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_cache import begin_cache, make_annotations
from toy_dataset import TOY
from toy_published import run, write_foreign

from msdn.cache.annotations import Annotations
from msdn.cache.files import FileLock
from msdn.cache.header import read_header
from msdn.cache.layout import MAIN
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.structure import create_structure
from msdn.extract.datasets import registry


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setenv("MSDN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_foreign(tmp_path / "f.hdf5")


@pytest.fixture
def begun(source: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unfinished file of an import of `source` that was stopped at once."""
    with monkeypatch.context() as patched:
        patched.setattr(PartialCache, "write_rows", interrupt)
        assert run("cache", "import", source, "--dataset", "toy").exit_code == 130
    return partial_path(home / "features/toy-3x3-imported.h5")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def other_class_names(a: Annotations) -> Annotations:
    return replace(a, class_names=tuple(reversed(a.class_names)))


def other_images(a: Annotations) -> Annotations:
    return replace(a, image_paths=tuple(reversed(a.image_paths)))


@pytest.mark.parametrize(
    "change, provenance", [(other_class_names, {}), (other_images, {}), (lambda a: a, {"image_size": 448})]
)
def test_an_unfinished_file_begun_otherwise_is_refused(
    begun: Path, source: Path, change: Callable[[Annotations], Annotations], provenance: dict
) -> None:
    header = read_header(begun)
    maps = [*header.maps.values()]
    create_structure(begun, change(header.annotations), maps, header.provenance | provenance, {})
    before = begun.read_bytes()
    result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 1, result.output
    assert (
        f"{begun}: was started with other options or files; --restart replaces it, --out names another"
        in result.stderr
    )
    assert begun.read_bytes() == before
    assert run("cache", "import", source, "--dataset", "toy", "--restart").exit_code == 0


def test_an_unfinished_extraction_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    begin_cache(out, make_annotations(), {MAIN: np.empty((30, 3, 3, 16), np.float16)})
    before = partial_path(out).read_bytes()
    result = run("cache", "import", source, "--dataset", "toy", "--out", out)
    assert (
        result.exit_code == 1 and "a.h5.partial: was started with other options or files" in result.stderr
    ), result.output
    assert partial_path(out).read_bytes() == before


def test_files_that_are_no_caches_are_never_replaced(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    partial_path(out).write_text("years of work")
    result = run("cache", "import", source, "--dataset", "toy", "--out", out, "--restart")
    assert result.exit_code == 1 and "a.h5.partial: exists and is not a cache" in result.stderr, result.output
    assert partial_path(out).read_text() == "years of work"


def test_an_unfinished_import_goes_on(begun: Path, source: Path) -> None:
    before = begun.stat().st_ino
    result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).stat().st_ino == before


def test_a_second_import_at_the_same_time_is_refused(source: Path, home: Path) -> None:
    (home / "features").mkdir(parents=True)
    with FileLock(home / "features/toy-3x3-imported.h5.lock", "writing"):
        result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 1
    assert f"process {os.getpid()} on" in result.stderr and "is writing" in result.stderr
    assert "wait for it or stop it" in result.stderr and "damaged" not in result.stderr
    assert run("cache", "import", source, "--dataset", "toy").exit_code == 0


def test_a_disk_that_fills_up_keeps_its_own_sentence(
    source: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(PartialCache, "write_rows", fill_up)
        result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 1
    assert result.stderr.strip() == "Error: the disk is full; make room and repeat the command"
    assert [path.name for path in (home / "features").iterdir()] == ["toy-3x3-imported.h5.partial"]
    assert run("cache", "import", source, "--dataset", "toy").exit_code == 0


def test_damaged_features_name_the_file(source: Path, home: Path) -> None:
    with h5py.File(source) as file:
        chunk = file["feature_map"].id.get_chunk_info(40)
    with source.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"x" * chunk.size)
    result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 1 and f"{source}: damaged, or not a published feature file" in result.stderr
    assert not list(home.glob("features/*.h5"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trainval_loc": np.array([1, 30])}, "its lists name row 30, but rows run from 0 to 29"),
        ({"test_seen_loc": np.array([-1, 3])}, "its lists name row -1, but rows run from 0 to 29"),
        ({"test_unseen_loc": np.array([1e300])}, "'test_unseen_loc' holds values that are not whole numbers"),
        ({"labels": np.full(30, np.inf)}, "'labels' holds values that are not whole numbers"),
        ({"original_att": 3.0}, "attributes have shape (), expected a table"),
        ({"w2v_att": np.ones(7)}, "attribute vectors have shape (7,), expected a table [7, D]"),
    ],
)
def test_lists_that_cannot_be_are_refused(tmp_path: Path, home: Path, changes: dict, message: str) -> None:
    result = run("cache", "import", write_foreign(tmp_path / "f.hdf5", **changes), "--dataset", "toy")
    assert result.exit_code == 1 and message in result.stderr, result.output
    assert not list(home.glob("features/*"))
