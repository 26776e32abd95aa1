"""A small archive that can be fetched, and checks of what became of it."""

import io
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path
from random import Random

import pytest

from msdn.cache.home import Home
from msdn.extract.downloads.download import DownloadSettings, downloads_folder, fetch_source, source_state
from msdn.extract.downloads.fetch import FetchSettings
from msdn.extract.downloads.sources import PLANS, SOURCES, Source

QUICK = FetchSettings(timeout=1.0, retries=2, progress=1000, backoff=0.001, least_rate=1000, window=0.2)
NOISE = Random(0).randbytes(200_000)
MEMBERS = {"toy/images/a.jpg": NOISE, "toy/names.txt": b"first\nsecond\n", "toy/README": b"hello"}
Usage = namedtuple("Usage", "total used free")


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


ZIP = make_zip(MEMBERS)
OTHER_ZIP = make_zip(MEMBERS | {"toy/README": b"changed"})


def use(monkeypatch: pytest.MonkeyPatch, source: Source) -> Source:
    monkeypatch.setitem(SOURCES, "toy", source)
    monkeypatch.setitem(PLANS, "toy", ("toy",))
    return source


def fetch(home: Home, **settings: object) -> Path:
    return fetch_source("toy", home, DownloadSettings(fetch=QUICK, **settings))


def assert_right(home: Home) -> None:
    assert (home.data / "toy/images/a.jpg").read_bytes() == NOISE
    assert (home.data / "toy/names.txt").read_bytes() == MEMBERS["toy/names.txt"]
    assert not (home.data / "toy/README").exists()
    assert source_state("toy", home).status == "complete"
    assert sorted(path.name for path in home.data.iterdir()) == ["downloads", "toy"]
    assert [path.name for path in downloads_folder(home).iterdir()] == ["receipts"]


def assert_not_there(home: Home) -> None:
    assert source_state("toy", home).status in ("missing", "partial")
    assert [path.name for path in home.data.iterdir()] == ["downloads"]
    assert not list(downloads_folder(home).glob("*.lock"))


def make_tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
