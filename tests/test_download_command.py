"""`msdn data download`: what it says, and where published archives land."""

import io
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from click.testing import Result
from flaky_server import FlakyServer
from rich.console import Console
from toy_source import (
    QUICK,
    ZIP,
    Usage,
    assert_right,
    make_tar,
    make_zip,
)

from msdn.cache.home import Home
from msdn.extract.downloads import download as steps
from msdn.extract.downloads.command import DownloadView, describe
from msdn.extract.downloads.download import DownloadSettings, fetch_source, source_state
from msdn.extract.downloads.sources import PLANS, SOURCES, Source, plan_sources
from msdn.extract.downloads.unpack import SLACK

pytest_plugins = ["download_fixtures"]


def test_the_command_fetches_what_it_can_and_names_what_it_cannot(
    server: FlakyServer,
    toy: Source,
    home: Home,
    run_msdn: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.serve("/toy.zip", ZIP)
    gone = replace(toy, file="gone.zip", mirrors=(f"{server.address}/gone.zip",), proof=("gone",))
    monkeypatch.setitem(SOURCES, "gone", gone)
    monkeypatch.setitem(PLANS, "both", ("gone", "toy"))
    result = run_msdn("data", "download", "both")
    assert result.exit_code == 1
    assert "Error: gone.zip cannot be fetched: " in result.stderr
    assert "gone.zip answers 404" in result.stderr
    assert "gone: missing" in result.stdout
    assert "toy: complete, 0.2 MB" in result.stdout
    assert_right(home)


def test_the_command_tries_the_users_mirror_first(
    server: FlakyServer, toy: Source, home: Home, run_msdn: Callable[..., Result]
) -> None:
    server.serve("/lab/toy.zip", ZIP)
    result = run_msdn("data", "download", "toy", "--mirror", f"{server.address}/lab/")
    assert result.exit_code == 0, result.output
    assert [path for path, _ in server.requests] == ["/lab/toy.zip"]
    assert "toy.zip (size not known; no licence stated)" in result.stderr
    assert "next:" not in result.stdout  # a part alone cannot be extracted


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["cbu"], "unknown download 'cbu'. Did you mean 'cub'?"),
        (["cub", "--mirror", "ftp://lab"], "--mirror ftp://lab: expected an address that starts with http"),
        ([], "Missing argument 'NAME...'"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(
    home: Home, run_msdn: Callable[..., Result], arguments: list[str], sentence: str
) -> None:
    result = run_msdn("data", "download", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_the_command_refuses_to_begin_on_a_disk_that_is_too_small(
    home: Home, run_msdn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 10**10, 5 * 10**9))
    result = run_msdn("data", "download", "awa2")
    assert result.exit_code == 1
    assert "28.8 GB are needed for awa2-images, xlsa17, glove, weights" in result.stderr
    assert not home.root.exists()


def test_an_interrupted_command_says_how_to_go_on(
    server: FlakyServer,
    toy: Source,
    home: Home,
    run_msdn: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    server.serve("/toy.zip", ZIP)
    monkeypatch.setattr(steps, "unpack", interrupt)
    result = run_msdn("data", "download", "toy")
    assert result.exit_code == 130
    assert "interrupted; repeat the command to continue" in result.stderr
    assert source_state("toy", home).status == "partial"


def test_word_vectors_are_built_after_a_dataset(
    server: FlakyServer,
    toy: Source,
    home: Home,
    run_msdn: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from msdn.extract.vectors import build

    server.serve("/toy.zip", ZIP)
    monkeypatch.setitem(PLANS, "cub", ("toy",))
    monkeypatch.setattr(build, "build_for_dataset", lambda name, home: home.data / "vectors" / f"{name}.npz")
    result = run_msdn("data", "download", "cub")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1:] == [
        f"word vectors of cub: {home.data}/vectors/cub.npz",
        f"next: msdn extract --dataset cub --home {home.root}",
    ]


def test_progress_is_lines_without_a_terminal_and_a_bar_with_one() -> None:
    lines, bar = io.StringIO(), io.StringIO()
    with DownloadView(Console(file=lines)) as view:
        for done in (0, 500_000, 1_000_000, 1_000_000):
            view.report("fetching x", done, 1_000_000)
        logging.getLogger("msdn.extract.downloads.fetch").info("mirror %s", "[1]")
    first, second = lines.getvalue().splitlines()
    assert first.startswith("fetching x 1.0/1.0 MB  ") and first.endswith(" MB/s  0:00 to go")
    assert second == "mirror [1]"
    with DownloadView(Console(file=bar, force_terminal=True, width=100)) as view:
        view.report("fetching x", 250_000, 1_000_000)
    assert "fetching x" in bar.getvalue() and "0.2/1.0 MB" in bar.getvalue()
    assert describe("x", 10**6, None, 5e5) == "x 1.0 MB  0.5 MB/s"
    assert describe("x", 10**6, 10**8, 5e5) == "x 1.0/100.0 MB  0.5 MB/s  3:18 to go"


def test_plans_name_each_source_once() -> None:
    assert plan_sources(("cub", "glove", "sun")) == [
        "cub-images",
        "xlsa17",
        "glove",
        "weights",
        "sun-images",
        "sun-attributes",
    ]
    assert {source for plan in PLANS.values() for source in plan} == set(SOURCES)


PUBLISHED = {
    "cub-images": ["CUB_200_2011/images/001.A/a.jpg", "CUB_200_2011/images.txt", "attributes.txt"],
    "sun-images": ["images/a/abbey/sun_aaa.jpg"],
    "sun-attributes": ["SUNAttributeDB/attributes.mat", "SUNAttributeDB/images.mat", "SUNAttributeDB/._x"],
    "awa2-images": [
        "Animals_with_Attributes2/JPEGImages/antelope/antelope_10001.jpg",
        "Animals_with_Attributes2/predicates.txt",
        "Animals_with_Attributes2/classes.txt",
    ],
    "flo-images": ["jpg/image_00001.jpg"],
    "flo-lists": [
        "cvpr18xian/data/FLO/res101.mat",
        "cvpr18xian/data/FLO/att_splits.mat",
        "cvpr18xian/README",
    ],
    "xlsa17": [
        *(
            f"xlsa17/data/{name}/{file}"
            for name in ("CUB", "SUN", "AWA2")
            for file in ("res101.mat", "att_splits.mat")
        ),
        "xlsa17/data/APY/res101.mat",
        "xlsa17/data/AWA1/res101.mat",
    ],
    "glove": ["glove.6B.50d.txt", "glove.6B.300d.txt"],
}
PLACES = {
    "cub-images": [
        "CUB_200_2011/attributes.txt",
        "CUB_200_2011/images.txt",
        "CUB_200_2011/images/001.A/a.jpg",
    ],
    "sun-images": ["SUN/images/a/abbey/sun_aaa.jpg"],
    "sun-attributes": ["SUN/SUNAttributeDB/attributes.mat", "SUN/SUNAttributeDB/images.mat"],
    "awa2-images": sorted(PUBLISHED["awa2-images"]),
    "flo-images": ["FLO/jpg/image_00001.jpg"],
    "flo-lists": ["xlsa17/data/FLO/att_splits.mat", "xlsa17/data/FLO/res101.mat"],
    "xlsa17": sorted(PUBLISHED["xlsa17"][:6]),
    "glove": ["glove/glove.6B.300d.txt"],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_archives_land_where_the_readers_look(
    home: Home, server: FlakyServer, quiet_disk: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make = make_zip if SOURCES[name].file.endswith(".zip") else make_tar
    url = server.serve("/file", make({f"./{member}": b"content" for member in PUBLISHED[name]}))
    monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], mirrors=(url,), size=None, checksum=None))
    fetch_source(name, home, DownloadSettings(fetch=QUICK))
    assert source_state(name, home).status == "complete"
    files = [path for path in home.data.rglob("*") if path.is_file() and "downloads" not in path.parts]
    assert sorted(str(path.relative_to(home.data)) for path in files) == PLACES[name]


def test_the_table_is_sound() -> None:
    assert set(PUBLISHED) == {name for name, source in SOURCES.items() if source.rules}
    for source in SOURCES.values():
        assert source.mirrors and all(url.startswith(("http://", "https://")) for url in source.mirrors)
        assert source.room or not source.rules
    assert SLACK * SOURCES["glove"].room > 1_037_962_819
