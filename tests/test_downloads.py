"""Downloads that are killed, tampered with, repeated or forced: nothing looks complete that is not."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import flaky_server as flaky
import pytest
from click.testing import Result
from flaky_server import FlakyServer
from toy_source import (
    NOISE,
    OTHER_ZIP,
    QUICK,
    ZIP,
    assert_not_there,
    assert_right,
    fetch,
    make_zip,
    use,
)

from msdn.cache.files import FileLock, LockError, sha256_of
from msdn.cache.home import Home
from msdn.extract.downloads import download as steps
from msdn.extract.downloads.download import (
    DownloadSettings,
    downloads_folder,
    fetch_source,
    read_receipt,
    source_state,
    warn_of_change,
)
from msdn.extract.downloads.sources import Source
from msdn.extract.errors import ArchiveError, DownloadError

pytest_plugins = ["download_fixtures"]


def test_what_was_fetched_before_must_be_the_same_unless_forced(
    server: FlakyServer, toy: Source, home: Home
) -> None:
    server.serve("/toy.zip", ZIP)
    fetch(home)
    shutil.rmtree(home.data / "toy")
    assert source_state("toy", home).status == "missing"
    server.serve("/toy.zip", OTHER_ZIP)
    first, second = (hashlib.sha256(content).hexdigest() for content in (ZIP, OTHER_ZIP))
    with pytest.raises(DownloadError, match=f"has SHA-256 {second}, but .* had {first}; .*use --force"):
        fetch(home)
    assert_not_there(home)
    fetch(home, force=True)
    assert_right(home)
    assert read_receipt(home, "toy").sha256 == second


def test_what_is_complete_or_put_there_by_hand_is_not_fetched(
    server: FlakyServer, toy: Source, home: Home, run_msdn: Callable[..., Result]
) -> None:
    for name in ("toy/images/a.jpg", "toy/names.txt"):
        (home.data / name).parent.mkdir(parents=True, exist_ok=True)
        (home.data / name).write_bytes(b"mine")
    state = source_state("toy", home)
    assert (state.status, state.bytes) == ("present", 8)
    fetch(home)
    assert (
        "toy: present, not verified (--force fetches it again), 0.0 MB"
        in run_msdn("data", "download", "toy").stdout
    )
    assert (home.data / "toy/names.txt").read_bytes() == b"mine"
    server.serve("/toy.zip", ZIP)
    fetch(home, force=True)
    assert_right(home)
    fetch(home)
    assert len(server.requests) == 1
    (home.data / "toy/names.txt").write_bytes(b"changed")
    assert source_state("toy", home).status == "present"


def test_an_archive_put_there_by_hand_is_used(toy: Source, home: Home) -> None:
    downloads_folder(home).mkdir(parents=True)
    archive = downloads_folder(home) / "toy.zip"
    archive.write_bytes(ZIP[:-10])
    with pytest.raises(ArchiveError, match=f"cut short.*replace or remove {archive}"):
        fetch(home)
    archive.write_bytes(ZIP)
    fetch(home, keep_archives=True)
    assert archive.read_bytes() == ZIP
    archive.unlink()
    assert_right(home)


def test_an_archive_changed_after_it_came_is_refused(
    server: FlakyServer, toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.serve("/toy.zip", ZIP)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(steps, "unpack", fail)
        fetch(home)
    assert source_state("toy", home).status == "partial"
    (downloads_folder(home) / "toy.zip").write_bytes(OTHER_ZIP)
    with pytest.raises(
        DownloadError, match=r"toy.zip has SHA-256 .* but had .* when it was fetched; remove it and repeat"
    ):
        fetch(home)


def fail(*_: object) -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize("step", ["unpack", "place_tree", "write_receipt"])
def test_killed_while_unpacking_it_never_looks_complete_and_goes_on(
    server: FlakyServer, toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    server.serve("/toy.zip", ZIP)
    fetch(home, keep_archives=True)  # so that there is a receipt, and an older tree
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(steps, step, fail)
        fetch(home, force=True)
    assert (downloads_folder(home) / "toy.unpacking").is_dir()
    assert source_state("toy", home).status == "partial"
    fetch(home)
    assert_right(home)
    assert len(server.requests) == 2  # the archive was still there the third time


def test_an_archive_without_what_is_expected_is_refused(server: FlakyServer, toy: Source, home: Home) -> None:
    server.serve("/toy.zip", make_zip({"toy/images/a.jpg": b"x"}))
    with pytest.raises(
        ArchiveError, match=r"is not the file expected: it holds no toy/names.txt; it came from"
    ):
        fetch(home)
    assert_not_there(home)


def test_a_file_in_the_place_of_a_folder_is_named(server: FlakyServer, toy: Source, home: Home) -> None:
    home.data.mkdir(parents=True)
    (home.data / "toy").write_text("a file")
    server.serve("/toy.zip", ZIP)
    with pytest.raises(DownloadError, match="toy: is a file, but a folder belongs there; move it away"):
        fetch(home)
    (home.data / "toy").unlink()
    fetch(home)
    assert_right(home)


def test_two_downloads_of_one_file_do_not_collide(toy: Source, home: Home) -> None:
    downloads_folder(home).mkdir(parents=True)
    with (
        FileLock(downloads_folder(home) / "toy.zip.lock", "testing"),
        pytest.raises(LockError, match=r"downloading toy.zip already"),
    ):
        fetch(home)


def test_a_file_that_is_no_archive_is_placed_as_it_is(
    server: FlakyServer, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/toy.pth", NOISE, flaky.drop_after(90_000))
    checksum = ("sha256", hashlib.sha256(NOISE).hexdigest()[:8])
    use(monkeypatch, Source("toy.pth", (url,), ("weights/toy.pth",), checksum=checksum))
    assert fetch(home).read_bytes() == NOISE
    assert source_state("toy", home).status == "complete"
    assert [path.name for path in downloads_folder(home).iterdir()] == ["receipts"]
    fetch(home).write_bytes(NOISE[:-1])
    assert source_state("toy", home).status == "present"


def test_a_source_of_ones_own_is_fetched_with_the_same_checks(
    server: FlakyServer, quiet_disk: None, home: Home
) -> None:
    url = server.serve("/net.pth", NOISE, flaky.whole, flaky.drop_after(90_000))
    sha256 = hashlib.sha256(NOISE).hexdigest()
    wrong, right = (
        Source("net.pth", (url,), ("weights/net.pth",), checksum=("sha256", known))
        for known in ("01234567", sha256[:8])
    )
    settings = DownloadSettings(fetch=QUICK)
    with pytest.raises(DownloadError, match=f"{sha256}, expected 01234567"):
        fetch_source(wrong, home, settings)
    assert source_state(right, home).status == "missing"
    assert fetch_source(right, home, settings).read_bytes() == NOISE
    assert source_state(right, home).status == "complete"
    requests = len(server.requests)
    assert fetch_source(right, home, settings) == home.data / "weights/net.pth"
    assert len(server.requests) == requests
    (home.data / "weights/net.pth").write_bytes(b"changed")
    assert source_state(right, home).status == "present"


PROGRAM = """
import sys
from msdn.cli import main
from msdn.extract.downloads.sources import PLANS, SOURCES, Source
SOURCES["toy"] = Source("toy.zip", (sys.argv[1],), ("toy/images", "toy/names.txt"),
                        ((r"toy/(?:images/.+|names[.]txt)", r"\\g<0>"),), room=300_000)
PLANS["toy"] = ("toy",)
main(["data", "download", "toy", "--home", sys.argv[2]])
"""


def test_killed_it_resumes(server: FlakyServer, toy: Source, home: Home) -> None:
    url = server.serve("/toy.zip", ZIP, flaky.take_time)
    command = [sys.executable, "-c", PROGRAM, url, str(home.root)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    partial = downloads_folder(home) / "toy.zip.partial"
    deadline = time.monotonic() + 20
    while not partial.exists() or partial.stat().st_size < 40_000:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = partial.stat().st_size
    assert kept < len(ZIP)
    assert source_state("toy", home).status == "partial"
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert server.ranges() == [None, f"bytes={kept}-"]
    assert second.stdout.startswith("toy: complete, 0.2 MB")
    assert_right(home)


def test_a_fetched_file_that_changed_since_is_named(
    server: FlakyServer, toy: Source, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    server.serve("/toy.zip", ZIP)
    fetch(home)
    names = home.data / "toy/names.txt"
    warn_of_change(names, sha256_of(names), home)
    warn_of_change(home.data / "toy/mine.txt", "0" * 64, home)
    assert not caplog.records
    names.write_bytes(b"First\nsecond\n")  # of the same size
    warn_of_change(names, sha256_of(names), home)
    assert f"{names}: not the file that was published" in caplog.text and "--force" in caplog.text


def test_a_file_with_another_checksum_than_the_published_one_is_named(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    put = home.data / "weights/resnet101-63fe2227.pth"
    warn_of_change(put, "63fe2227" + "0" * 56, home)
    assert not caplog.records
    warn_of_change(put, "0" * 64, home)
    assert str(put) in caplog.text and "expected 63fe2227" in caplog.text


@pytest.mark.parametrize("step", ["unpacked", "archive", "note"])
def test_killed_while_it_removes_it_goes_on_removing(
    server: FlakyServer, toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    server.serve("/toy.zip", ZIP)
    note = downloads_folder(home) / "toy.zip.json"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        if step == "note":
            patch.setattr(steps.shutil, "rmtree", fail)
        elif step == "archive":
            patch.setattr(steps, "remove_download", lambda path: (path.unlink(), fail()))
        else:
            patch.setattr(steps, "remove_download", fail)
        fetch(home)
    assert note.exists() == (step != "note")
    assert source_state("toy", home).status == "complete"
    fetch(home)
    assert_right(home)
    assert sorted(path.name for path in downloads_folder(home).iterdir()) == ["receipts"]


def test_an_archive_that_was_to_stay_stays(server: FlakyServer, toy: Source, home: Home) -> None:
    server.serve("/toy.zip", ZIP)
    fetch(home, keep_archives=True)
    fetch(home)
    assert {path.name for path in downloads_folder(home).iterdir()} == {"receipts", "toy.zip", "toy.zip.json"}


def test_a_note_that_was_left_alone_goes(
    server: FlakyServer, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/toy.pth", NOISE)
    use(monkeypatch, Source("toy.pth", (url,), ("weights/toy.pth",)))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(steps, "remove_download", fail)
        fetch(home)
    fetch(home)
    assert [path.name for path in downloads_folder(home).iterdir()] == ["receipts"]
