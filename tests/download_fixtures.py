"""Fixtures of the download tests: a flaky server, a small source that it offers."""

import os
from collections.abc import Iterator

import pytest
from flaky_server import FlakyServer
from toy_source import use

from msdn.extract.downloads.sources import Source


@pytest.fixture
def quiet_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with FlakyServer() as server:
        yield server


@pytest.fixture
def toy(server: FlakyServer, quiet_disk: None, monkeypatch: pytest.MonkeyPatch) -> Source:
    source = Source(
        file="toy.zip",
        mirrors=(server.address + "/toy.zip",),
        proof=("toy/images", "toy/names.txt"),
        rules=((r"toy/(?:images/.+|names\.txt)", r"\g<0>"),),
        room=300_000,
    )
    return use(monkeypatch, source)
