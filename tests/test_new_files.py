"""Files are whole or not there: unique names while they are written, nothing left, nothing of others touched."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from msdn.cache import files
from msdn.cache.errors import CacheError
from msdn.cache.files import (
    UNFINISHED,
    FileLock,
    LockError,
    check_new,
    create_file,
    create_folder,
    make_folder,
    new_file,
    replace_file,
)

OLD, NEW = b"old", b"new content"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def fail(number: int) -> Callable[..., None]:
    def raise_error(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return raise_error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_failed_write_leaves_the_old_file_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path.write_bytes(OLD)
    with monkeypatch.context() as patch, pytest.raises(OSError, match=rf"\[Errno {number}\].*/a\.csv'"):
        if call == "fsync":
            patch.setattr(os, "fsync", fail(number))
        else:
            patch.setattr(Path, "write_bytes", fail(number))
        replace_file(path, NEW)
    assert path.read_bytes() == OLD and names(path.parent) == [path.name]
    replace_file(path, NEW)
    assert path.read_bytes() == NEW


def test_data_is_flushed_before_the_name_and_the_name_before_the_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    flush, replace, link = os.fsync, os.replace, os.link
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(str(Path(f"/proc/self/fd/{fd}").readlink())), flush(fd))
    )
    monkeypatch.setattr(os, "replace", lambda *given: (calls.append("name"), replace(*given)))
    monkeypatch.setattr(os, "link", lambda *given, **how: (calls.append("name"), link(*given, **how)))
    for write in (lambda: create_file(path, NEW, "--out"), lambda: replace_file(path, OLD)):
        calls.clear()
        write()
        assert len(calls) == 3 and calls[0].endswith(UNFINISHED), calls
        assert calls[1:] == ["name", str(path.parent)]


def test_a_file_or_link_of_a_similar_name_is_not_touched(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(OLD)
    path.with_name("a.csv.partial").symlink_to(other)
    replace_file(path, NEW)
    assert other.read_bytes() == OLD and names(path.parent) == ["a.csv", "a.csv.partial", "other"]


@pytest.mark.parametrize("has_links", [True, False])
def test_what_appears_meanwhile_is_not_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", fail(errno.EPERM))
    with pytest.raises(FileExistsError), new_file(path, replaces=False) as beside:
        beside.write_bytes(NEW)
        path.write_bytes(OLD)
    assert path.read_bytes() == OLD and names(path.parent) == [path.name]
    with pytest.raises(CacheError, match=r"a\.csv: exists already.*another --csv"):
        create_file(path, NEW, "--csv")
    path.unlink()
    create_file(path, NEW, "--csv")
    assert path.read_bytes() == NEW and names(path.parent) == [path.name]


def test_a_new_file_whose_name_is_not_flushed_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "flush_folder", fail(errno.EIO))
    with pytest.raises(OSError, match="Errno 5"):
        create_file(path, NEW, "--out")
    assert names(path.parent) == []


def test_a_killed_writers_file_goes_and_a_living_ones_stays(path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom msdn.cache.files import new_file\n"
        "with new_file(Path(sys.argv[1])) as beside:\n    beside.write_bytes(b'part')\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -9
    assert len(names(path.parent)) == 1 and not path.exists()
    with new_file(path) as first, new_file(path) as second:
        assert names(path.parent) == sorted([first.name, second.name])
        first.write_bytes(OLD)
        second.write_bytes(NEW)
    assert path.read_bytes() == OLD and names(path.parent) == [path.name]


def test_a_name_may_be_as_long_as_the_system_allows(path: Path) -> None:
    for name in ("x" * 255, "字" * 85):
        replace_file(path.with_name(name), NEW)
        assert path.with_name(name).read_bytes() == NEW


def test_folders_are_flushed_into_those_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(files, "flush_folder", flushed.append)
    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir() and flushed == [tmp_path, tmp_path / "a"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file/c")


@pytest.mark.parametrize("refuse", [check_new, lambda path, option: create_file(path, NEW, option)])
def test_what_a_killed_writer_left_goes_also_where_its_file_is_whole(
    path: Path, refuse: Callable[[Path, str], None]
) -> None:
    path.write_bytes(OLD)
    path.with_name(f"a.csv.01234567{UNFINISHED}").hardlink_to(path)  # killed between link and unlink
    with pytest.raises(CacheError, match=r"a\.csv: exists already"):
        refuse(path, "--csv")
    assert path.read_bytes() == OLD and names(path.parent) == [path.name]


def test_a_folder_gets_its_name_when_all_files_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"a": OLD, "b": NEW}
    calls: list[str] = []
    flush, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(Path(f"/proc/self/fd/{fd}").readlink().name), flush(fd))
    )
    monkeypatch.setattr(os, "rename", lambda *given: (calls.append("name"), rename(*given)))
    (tmp_path / "run").mkdir()
    assert create_folder(tmp_path / "run", contents) == tmp_path / "run-2"
    assert {name: (tmp_path / "run-2" / name).read_bytes() for name in contents} == contents
    assert calls[:2] == ["a", "b"] and calls[2].endswith(UNFINISHED)
    assert calls[3:] == ["name", tmp_path.name] and names(tmp_path) == ["run", "run-2"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_folder_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, fail(errno.EIO))
    with pytest.raises(OSError, match="Errno 5"):
        create_folder(tmp_path / "run", {"a": OLD})
    assert names(tmp_path) == []


def test_a_killed_makers_folder_goes_and_a_living_ones_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom msdn.cache import files\n"
        "files.flush_folder = lambda _: os.kill(os.getpid(), 9)\n"
        "files.create_folder(Path(sys.argv[1]), {'a': b'part'})"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path / "run"], check=False).returncode == -9
    killed = names(tmp_path)
    assert len(killed) == 1 and killed[0].endswith(UNFINISHED)
    flush, seen = files.flush_folder, list[list[str]]()

    def make_another(folder: Path) -> None:
        if not seen:
            seen.append(names(tmp_path))
            create_folder(tmp_path / "second", {"a": NEW})
        flush(folder)

    monkeypatch.setattr(files, "flush_folder", make_another)
    create_folder(tmp_path / "first", {"a": OLD})
    assert len(seen[0]) == 1 and seen[0] != killed and names(tmp_path) == ["first", "second"]


def test_a_lock_whose_holder_was_killed_while_it_wrote_is_taken_over(path: Path) -> None:
    said = b"process 4321 on a-machine"
    for length in range(len(said) + 1):
        path.write_bytes(said[:length])
        with FileLock(path, "testing"):
            pass
        assert not path.exists()
    for other in (b"process", b"process 12", b"notes"):
        path.write_bytes(other + b" of others")
        with pytest.raises(LockError, match=r"a\.csv: exists and is no lock"), FileLock(path, "testing"):
            pass
        assert path.read_bytes() == other + b" of others"
