"""Downloads from a server that misbehaves: each ends right, or with one clear sentence and nothing in place."""

import hashlib
import shutil
import socket
from dataclasses import replace
from typing import Any

import flaky_server as flaky
import pytest
from flaky_server import FlakyServer
from toy_source import (
    NOISE,
    OTHER_ZIP,
    QUICK,
    ZIP,
    Usage,
    assert_not_there,
    assert_right,
    fetch,
    use,
)

from msdn.cache.home import Home
from msdn.cache.records import write_sealed
from msdn.extract.downloads.download import (
    DownloadSettings,
    downloads_folder,
    fetch_source,
    read_receipt,
    source_state,
)
from msdn.extract.downloads.sources import Source
from msdn.extract.errors import ArchiveError, DownloadError

pytest_plugins = ["download_fixtures"]


@pytest.mark.parametrize(
    "manners, ranges",
    [
        ([flaky.whole], 1),
        ([flaky.drop_after(50_000)], 5),
        ([flaky.drop_after(0), flaky.whole], 2),
        (
            [
                flaky.drop_and_ignore_ranges(70_000),
                flaky.drop_and_ignore_ranges(120_000),
                flaky.ignore_ranges,
            ],
            3,
        ),
        ([flaky.drop_after(90_000), flaky.send_other_part, flaky.whole], 3),
        ([flaky.drop_after(90_000), flaky.refuse_range, flaky.whole], 3),
        ([flaky.status(500), flaky.status(503), flaky.whole], 3),
        ([flaky.send_without_length], 1),
        ([flaky.break_a_chunk, flaky.whole], 2),
        ([flaky.fall_silent, flaky.whole], 2),
    ],
)
def test_a_download_ends_right(
    server: FlakyServer, toy: Source, home: Home, manners: list[flaky.Manner], ranges: int
) -> None:
    server.serve("/toy.zip", ZIP, *manners)
    assert fetch(home) == home.data / "toy/images"
    assert_right(home)
    assert len(server.requests) == ranges
    receipt = read_receipt(home, "toy")
    assert receipt.sha256 == hashlib.sha256(ZIP).hexdigest()
    assert (receipt.url, receipt.bytes, receipt.unpacked_files) == (toy.mirrors[0], len(ZIP), 2)


@pytest.mark.parametrize(
    "manner, sentence",
    [
        (flaky.status(404), "answers 404"),
        (flaky.status(500), "answers 500"),
        (flaky.web_page, "sends a web page instead of the file"),
        (flaky.drop_after(0), f"stopped after 0 of {len(ZIP)} bytes"),
        (flaky.drop_and_ignore_ranges(9_000), f"stopped after 9000 of {len(ZIP)} bytes"),
        (flaky.crawl, r"is too slow \(\d+ bytes a second\)"),
        (flaky.send_too_much, "sends more than the 200000 bytes expected"),
        (flaky.redirect("ftp://127.0.0.1/toy.zip"), "unknown url type: ftp"),
        (flaky.redirect("file:///etc/passwd"), "answers 302"),
        (flaky.redirect("/toy.zip"), "answers 302"),
    ],
)
def test_a_download_ends_with_a_sentence(
    server: FlakyServer,
    toy: Source,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    manner: flaky.Manner,
    sentence: str,
) -> None:
    use(monkeypatch, replace(toy, about=100_000))
    server.serve("/toy.zip", ZIP, manner)
    with pytest.raises(
        DownloadError,
        match=f"^toy.zip cannot be fetched: {toy.mirrors[0]} .*{sentence}.*repeat the command later$",
    ):
        fetch(home)
    assert_not_there(home)


def test_a_silent_server_and_a_closed_port_end_with_a_sentence(
    server: FlakyServer, toy: Source, home: Home
) -> None:
    server.serve("/toy.zip", ZIP, flaky.fall_silent)
    quick = DownloadSettings(mirror="http://127.0.0.1:1", fetch=replace(QUICK, timeout=0.2, retries=1))
    with pytest.raises(
        DownloadError, match=r"127.0.0.1:1/toy.zip cannot be reached .*refused.*stopped sending data"
    ):
        fetch_source("toy", home, quick)
    assert_not_there(home)


def test_without_a_network_nobody_waits(toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", find_nothing)
    patient = DownloadSettings(fetch=replace(QUICK, backoff=600))
    with pytest.raises(DownloadError, match="cannot be found: no network, or no such server"):
        fetch_source("toy", home, patient)


@pytest.mark.parametrize(
    "known, content, manner, sentence",
    [
        (
            {"size": len(ZIP)},
            ZIP,
            flaky.announce(-10),
            f"a file of {len(ZIP) - 10} bytes, expected {len(ZIP)}",
        ),
        (
            {"size": len(ZIP)},
            ZIP,
            flaky.announce(10),
            f"a file of {len(ZIP) + 10} bytes, expected {len(ZIP)}",
        ),
        ({"size": len(ZIP) + 1}, ZIP, flaky.send_without_length, f"sent {len(ZIP)} bytes, expected"),
        ({"checksum": ("md5", "0" * 32)}, ZIP, flaky.whole, "has MD5 [0-9a-f]{32}, expected 0{32}"),
        (
            {"checksum": ("sha256", "63fe2227")},
            ZIP,
            flaky.whole,
            "has SHA-256 [0-9a-f]{64}, expected 63fe2227",
        ),
        ({}, b"BM" + NOISE, flaky.whole, "does not send a .zip file"),
    ],
)
def test_a_wrong_file_is_refused(
    server: FlakyServer,
    toy: Source,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    known: dict,
    content: bytes,
    manner: flaky.Manner,
    sentence: str,
) -> None:
    use(monkeypatch, replace(toy, **known))
    server.serve("/toy.zip", content, manner)
    with pytest.raises(DownloadError, match=sentence):
        fetch(home)
    assert_not_there(home)


def test_a_file_cut_short_without_anyone_knowing_its_size_is_refused_and_removed(
    server: FlakyServer, toy: Source, home: Home
) -> None:
    server.serve("/toy.zip", ZIP, flaky.announce(-10), flaky.whole)
    with pytest.raises(ArchiveError, match=r"damaged or cut short.*it came from http.*was removed: repeat"):
        fetch(home)
    assert_not_there(home)
    assert source_state("toy", home).status == "missing"
    fetch(home)
    assert_right(home)


def test_a_redirected_download_resumes(server: FlakyServer, toy: Source, home: Home) -> None:
    server.serve("/toy.zip", b"", flaky.redirect("/there/toy.zip"))
    server.serve("/there/toy.zip", ZIP, flaky.drop_after(150_000), flaky.whole)
    fetch(home)
    assert_right(home)
    assert server.requests[2:] == [("/toy.zip", "bytes=150000-"), ("/there/toy.zip", "bytes=150000-")]


def test_mirrors_are_tried_in_order_and_the_next_one_begins_anew(
    server: FlakyServer, toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, replace(toy, mirrors=tuple(f"{server.address}/{n}/toy.zip" for n in "123")))
    server.serve("/1/toy.zip", ZIP, flaky.status(404))
    server.serve("/2/toy.zip", OTHER_ZIP, flaky.drop_and_ignore_ranges(40_000))
    server.serve("/3/toy.zip", ZIP)
    fetch(home)
    assert_right(home)
    assert [path for path, _ in server.requests] == ["/1/toy.zip", *["/2/toy.zip"] * 3, "/3/toy.zip"]
    assert server.ranges()[-1] is None


def test_the_mirror_that_an_earlier_attempt_began_with_comes_first(
    server: FlakyServer, toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, replace(toy, mirrors=tuple(f"{server.address}/{n}/toy.zip" for n in "12")))
    server.serve("/1/toy.zip", ZIP, flaky.status(404), flaky.whole)
    server.serve("/2/toy.zip", ZIP, flaky.drop_after(40_000), flaky.status(404), flaky.whole)
    with pytest.raises(DownloadError, match=r"1/toy.zip answers 404.*; http.*2/toy.zip answers 404"):
        fetch(home)
    state = source_state("toy", home)
    assert (state.status, state.bytes) == ("partial", 40_000)
    fetch(home)
    assert_right(home)
    assert server.requests[3:] == [("/2/toy.zip", "bytes=40000-")]


def test_a_file_that_changed_on_the_server_begins_anew(server: FlakyServer, toy: Source, home: Home) -> None:
    server.serve("/toy.zip", OTHER_ZIP, flaky.drop_after(40_000), flaky.status(404))
    with pytest.raises(DownloadError, match="404"):
        fetch(home)
    server.tag = '"version 2"'
    server.serve("/toy.zip", ZIP)
    fetch(home)
    assert_right(home)
    assert server.ranges()[-1] == "bytes=40000-"  # asked for, and answered with the whole new file


@pytest.mark.parametrize("size", [40_000, len(ZIP), len(ZIP) + 5])
def test_a_beginning_that_was_tampered_with_is_fetched_again(
    server: FlakyServer, toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    use(monkeypatch, replace(toy, checksum=("sha256", hashlib.sha256(ZIP).hexdigest())))
    server.serve("/toy.zip", ZIP, flaky.drop_after(40_000), flaky.status(404))
    with pytest.raises(DownloadError, match="404"):
        fetch(home)
    (downloads_folder(home) / "toy.zip.partial").write_bytes((b"tampered" * size)[:size])
    server.serve("/toy.zip", ZIP)
    fetch(home)
    assert_right(home)


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": "x"}', {"url": 3}, {"url": "x", "colour": 1}])
def test_a_damaged_note_begins_anew(server: FlakyServer, toy: Source, home: Home, note: Any) -> None:
    downloads_folder(home).mkdir(parents=True)
    (downloads_folder(home) / "toy.zip.partial").write_bytes(b"PK and so on")
    place = downloads_folder(home) / "toy.zip.json"
    if isinstance(note, str):
        place.write_text(note)
    else:
        write_sealed(place, note)
    server.serve("/toy.zip", ZIP)
    fetch(home)
    assert_right(home)
    assert server.ranges() == [None]


def test_free_space_is_checked_before_the_body_is_read(
    server: FlakyServer, toy: Source, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, replace(toy, room=600_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 400_000_000))
    server.serve("/toy.zip", ZIP)
    with pytest.raises(DownloadError, match=r"0.6 GB are needed for toy.zip .* only 0.4 GB are free"):
        fetch(home)
    assert_not_there(home)
    assert source_state("toy", home).status == "missing"
