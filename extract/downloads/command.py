"""`msdn data download`: fetches datasets and what training needs beside them."""

from typing import Any

import click

from msdn.cache.errors import WrongUsageError
from msdn.cache.home import Home, home_option
from msdn.extract.downloads.sources import SOURCES, plan_sources


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--mirror",
    metavar="URL",
    callback=lambda _context, _parameter, url: _check_mirror(url),
    help="A folder on a web server that holds the files under their own names; tried before the publishers.",
)
@click.option("--keep-archives", is_flag=True, help="Leave the archives in HOME/data/downloads.")
@click.option(
    "--force",
    is_flag=True,
    help="Fetch what is there already, and accept a file that differs from the one fetched before.",
)
@home_option
def download(home: Home, names: tuple[str, ...], **choices: Any) -> None:
    """Fetch datasets: cub, sun, awa2, flo; or their parts: xlsa17, glove, weights.

    A dataset comes with its splits, GloVe, and the backbone's weights. An interrupted download goes on where
    it stopped when the same command is repeated. Nothing looks complete before it was checked and unpacked.
    """
    from rich.console import Console

    from msdn.extract.datasets.registry import DATASETS
    from msdn.extract.downloads.download import DownloadSettings, require_room
    from msdn.extract.downloads.errors import DownloadError
    from msdn.extract.downloads.view import DownloadView

    sources = plan_sources(names)
    settings = DownloadSettings(**choices)
    require_room(sources, home, settings)
    view = DownloadView(Console(stderr=True))
    try:
        with view:
            failures = _fetch_all(sources, home, settings, view)
    except KeyboardInterrupt:
        view.say("interrupted; the same command goes on from here")
        raise
    _print_states(sources, home)
    if failures:
        raise DownloadError("\n".join(map(str, failures)))
    _build_vectors(names, home)
    for name in names:
        if name in DATASETS:
            click.echo(f"next: msdn extract --dataset {name}")


def _check_mirror(url: str | None) -> str | None:
    if url is not None and not url.lower().startswith(("http://", "https://")):
        raise WrongUsageError(f"--mirror {url}: expected an address that begins with http:// or https://")
    return url


def _fetch_all(sources: list[str], home: Home, settings: Any, view: Any) -> list[Exception]:
    """Fetch all that can be had: one dead server does not stand in the way of the others."""
    from msdn.extract.downloads.download import fetch_source
    from msdn.extract.downloads.errors import DownloadError
    from msdn.extract.downloads.state import source_state

    failures: list[Exception] = []
    for name in sources:
        status = source_state(name, home).status
        if settings.force or status in ("missing", "partial"):
            view.say(_announce(name))
            try:
                fetch_source(name, home, settings, view.report)
            except DownloadError as error:
                failures.append(error)
    return failures


def _announce(name: str) -> str:
    source = SOURCES[name]
    size = f"about {source.about / 1e6:,.0f} MB" if source.about else "size not known"
    return f"{source.file} ({size}; {source.licence})"


def _print_states(sources: list[str], home: Home) -> None:
    from msdn.extract.downloads.state import source_state

    words = {"present": "present, not verified (--force fetches it anew)", "partial": "not complete"}
    for name in sources:
        state = source_state(name, home)
        place = home.data / SOURCES[name].proof[0]
        click.echo(f"{name}: {words.get(state.status, state.status)}, {state.bytes / 1e6:,.1f} MB, {place}")


def _build_vectors(names: tuple[str, ...], home: Home) -> None:
    from msdn.extract.datasets.registry import DATASETS

    for name in names:
        file = DATASETS[name].attribute_vectors if name in DATASETS else None
        if file is not None and not (home.data / file).exists():
            from msdn.extract.vectors.build import build_for_dataset

            click.echo(f"word vectors of {name}: {build_for_dataset(name, home)}")
