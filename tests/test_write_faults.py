"""Writes that fail inside the HDF5 library, or lie: a sentence, nothing left, and the same command goes on."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from toy_cache import make_annotations

from msdn.cache import FeatureCache, copying
from msdn.cache.annotate import replace_annotations
from msdn.cache.errors import CacheError
from msdn.cache.header import read_header
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.structure import create_structure
from msdn.cli import main

FAULTS = (errno.EIO, errno.ENOSPC, errno.EFBIG)
WAYS = pytest.mark.parametrize("options", [(), ("--compress",)], ids=["plain", "compressed"])
WRITE = os.pwrite


class Writes:
    """Counts what goes through `os.pwrite`, and lets one of these calls do something else."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count, self._at, self._instead = 0, -1, WRITE
        patch.setattr(os, "pwrite", self._write)

    def spoil(self, number: int, instead: Callable[[int, bytes, int], int]) -> None:
        self.count, self._at, self._instead = 0, number, instead

    def _write(self, fd: int, data: bytes, offset: int) -> int:
        self.count += 1
        return (self._instead if self.count == self._at else WRITE)(fd, data, offset)


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def lying(_fd: int, data: bytes, _offset: int) -> int:
    """Say that all is written, and write nothing."""
    return len(data)


def interrupted(*_: object) -> int:
    raise KeyboardInterrupt


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


def read_everything(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, one: found.update({name: one[()].tobytes()} if "Dataset" in str(one) else {})
        )
    return found


def export(*words: object) -> Result:
    return CliRunner().invoke(main, ["cache", "export", *map(str, words)], prog_name="msdn")


@WAYS
def test_an_export_whose_write_fails_leaves_nothing_and_says_why(
    make_cache: Callable[..., Path], tmp_path: Path, writes: Writes, options: tuple[str, ...]
) -> None:
    cache, out = make_cache(), tmp_path / "out.hdf5"
    writes.spoil(-1, WRITE)
    assert export(cache, out, *options).exit_code == 0
    whole, calls = out.read_bytes(), writes.count
    assert calls > 30, "a write for each image, and the structure"
    for number in range(1, calls + 1, 3):
        out.unlink(missing_ok=True)
        writes.spoil(number, failing(FAULTS[number % 3]))
        done = export(cache, out, *options)
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit), (number, done.exception)
        assert f"Error: {out}: the " in done.stderr and "Traceback" not in done.stderr
        assert not list(tmp_path.glob("out*"))
    writes.spoil(-1, WRITE)
    assert export(cache, out, *options).exit_code == 0 and len(out.read_bytes()) == len(whole)


@WAYS
def test_an_interrupt_inside_the_library_ends_as_everywhere(
    make_cache: Callable[..., Path], tmp_path: Path, writes: Writes, options: tuple[str, ...]
) -> None:
    cache, out = make_cache(), tmp_path / "out.hdf5"
    writes.spoil(20, interrupted)
    assert export(cache, out, *options).exit_code == 130
    assert not list(tmp_path.glob("out*"))


@WAYS
def test_what_a_disk_loses_is_found_by_reading_it_back(
    make_cache: Callable[..., Path], tmp_path: Path, writes: Writes, options: tuple[str, ...]
) -> None:
    cache, out = make_cache(), tmp_path / "out.hdf5"
    writes.spoil(-1, WRITE)
    assert export(cache, out, *options).exit_code == 0
    calls, whole, found = writes.count, read_everything(out), 0
    for number in range(1, calls + 1, 2):
        out.unlink(missing_ok=True)
        writes.spoil(number, lying)
        done = export(cache, out, *options)
        if done.exit_code:
            assert f"Error: {out}: what was read back" in done.stderr, (number, done.output)
            assert not list(tmp_path.glob("out*"))
            found += 1
        else:  # the same place was written again later
            assert read_everything(out) == whole, number
    assert found >= 15, "each image at least"


def test_an_unfinished_extraction_beside_an_export_stays(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    cache, out = make_cache(), tmp_path / "out.h5"
    unfinished = tmp_path / "out.h5.partial"
    unfinished.write_bytes(cache.read_bytes())
    assert export(cache, out).exit_code == 0
    assert unfinished.read_bytes() == cache.read_bytes()


def test_the_second_of_two_exports_to_one_place_is_refused(
    make_cache: Callable[..., Path], tmp_path: Path, writes: Writes
) -> None:
    cache, out = make_cache(), tmp_path / "out.h5"

    def export_first(fd: int, data: bytes, offset: int) -> int:
        writes.spoil(-1, WRITE)
        assert export(cache, out).exit_code == 0
        return WRITE(fd, data, offset)

    writes.spoil(20, export_first)
    done = export(cache, out)
    assert done.exit_code == 1 and f"{out}: already exists" in done.stderr
    with h5py.File(out) as file:
        assert (
            np.isfinite(file["feature_map"][()]).all() and file["feature_map"][()].any(axis=(1, 2, 3)).all()
        )
    assert [path.name for path in tmp_path.glob("out*")] == ["out.h5"]


@WAYS
def test_beyond_the_size_that_the_shell_allows(
    make_cache: Callable[..., Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    cache, out = make_cache(grid=7, channels=64), tmp_path / "out.h5"
    command = [sys.executable, "-m", "msdn", "cache", "export", str(cache), str(out), *options]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)),
    )
    assert done.returncode == 1 and done.stdout == "", done
    assert done.stderr.startswith(f"Error: {out}: the file grew") and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with hardly any room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_compressed_onto_a_full_disk(make_cache: Callable[..., Path], full_disk: Path) -> None:
    cache, out = make_cache(grid=7, channels=64), full_disk / "out.h5"
    command = [sys.executable, "-m", "msdn", "cache", "export", str(cache), str(out), "--compress"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith(f"Error: {out}: the disk is full"), done
    assert done.stderr.count("\n") == 1 and not list(full_disk.iterdir())


def test_a_cache_is_created_whole_or_not_at_all(tmp_path: Path, writes: Writes) -> None:
    path = tmp_path / "a.h5.partial"

    def create() -> None:
        spec = MapSpec(MAIN, 3, 3, 16, np.dtype(np.float16), False)
        create_structure(path, make_annotations(), [spec], {"weights": {"kind": "random"}}, {})

    create()
    calls = writes.count
    for number in range(1, calls + 1):
        path.unlink()
        writes.spoil(number, failing(FAULTS[number % 3]))
        with pytest.raises(OSError, match=r"a\.h5\.partial"):
            create()
        assert not list(tmp_path.iterdir())
        create()
        assert len(read_header(path).states) == 30
    path.unlink()
    for number in range(1, calls + 1):
        writes.spoil(number, lying)
        try:
            create()
        except CacheError as error:
            assert "read back" in str(error) and not list(tmp_path.iterdir())
        else:  # what was lost was zeros, or was written once more later
            read_header(path)
            path.unlink()


@pytest.mark.parametrize("number", FAULTS)
def test_a_copy_that_fails_says_why(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = make_cache()
    before = path.read_bytes()
    monkeypatch.setattr(os, "copy_file_range", failing(number))
    with pytest.raises(OSError, match=rf"Errno {number}.*{path.name}'"):
        replace_annotations(path, make_annotations(seed=4), {})
    assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]


def test_a_copy_in_many_short_steps_is_right(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_cache()
    with FeatureCache(path) as cache:
        before = cache.read_rows(np.arange(30))
    copy = os.copy_file_range
    steps: list[int] = []

    def copy_little(source: int, sink: int, count: int, start: int, target: int) -> int:
        steps.append(count)
        if len(steps) % 3 == 0:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return copy(source, sink, min(count, 1000), start, target)

    monkeypatch.setattr(os, "copy_file_range", copy_little)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: WRITE(fd, data[:700], offset))
    replace_annotations(path, make_annotations(seed=4), {})
    with FeatureCache(path) as cache:
        np.testing.assert_array_equal(cache.read_rows(np.arange(30)), before)
    assert len(steps) > 10


def test_a_copy_that_is_not_right_is_refused(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_cache()
    before = path.read_bytes()
    monkeypatch.setattr(copying, "_copy_in_kernel", lambda source, start, sink, target, count: count)
    with pytest.raises(CacheError, match=r"a copy there differs from .*check the disk"):
        replace_annotations(path, make_annotations(seed=4), {})
    assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]


def test_a_damaged_row_is_not_copied(make_cache: Callable[..., Path]) -> None:
    path = make_cache()
    with path.open("r+b") as file:
        file.seek(read_header(path).places["features"].end - 3)
        file.write(b"xxx")
    before = path.read_bytes()
    with pytest.raises(CacheError, match=r"row 29 \(class_5/29\.jpg\) does not match its checksum"):
        replace_annotations(path, make_annotations(seed=4), {})
    assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]
