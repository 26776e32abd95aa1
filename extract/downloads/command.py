"""`msdn data download`: fetches datasets and what training needs beside them, and shows how far it is."""

import logging
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from msdn.cache.errors import WrongUsageError
from msdn.cache.home import Home, command_line, home_option
from msdn.terminal import has_bar, json_option, make_bar, note_console, print_json, say, wrap

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from msdn.extract.downloads.download import DownloadSettings

WORDS = {"present": "present, not verified (--force fetches it again)", "partial": "not complete"}


def _check_mirror(_context: click.Context, _parameter: click.Parameter, url: str | None) -> str | None:
    if url is not None and not url.lower().startswith(("http://", "https://")):
        raise WrongUsageError(f"--mirror {url}: expected an address that starts with http:// or https://")
    return url


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--mirror",
    metavar="URL",
    callback=_check_mirror,
    help="A folder on a web server that holds the files under their own names; tried before the publishers.",
)
@click.option("--keep-archives", is_flag=True, help="Keep the archives in HOME/data/downloads.")
@click.option(
    "--force",
    is_flag=True,
    help="Fetch again what is already there, and accept a file that differs from the one fetched before.",
)
@json_option
@home_option
def download(home: Home, names: tuple[str, ...], as_json: bool, **choices: Any) -> None:
    """Fetch datasets (cub, sun, awa2, flo), or files that several of them share (xlsa17, glove, weights).

    A dataset comes with its splits, GloVe, and the backbone's weights. After an interruption, repeat the same
    command to continue. A file counts as complete only after it is checked and unpacked.
    """
    from msdn.extract.datasets.registry import DATASETS
    from msdn.extract.downloads.download import DownloadSettings, require_room, source_state
    from msdn.extract.downloads.sources import SOURCES, plan_sources
    from msdn.extract.errors import DownloadError

    sources = plan_sources(names)
    settings = DownloadSettings(**choices)
    require_room(sources, home, settings)
    with DownloadView(note_console()) as view:
        failures = _fetch_all(sources, home, settings, view)
    tell = say if as_json else click.echo
    facts = []
    for name in sources:
        state, place = source_state(name, home), home.data / SOURCES[name].proof[0]
        facts.append({"name": name, "status": state.status, "bytes": state.bytes, "path": str(place)})
        tell(f"{name}: {WORDS.get(state.status, state.status)}, {state.bytes / 1e6:,.1f} MB, {place}")
    if as_json:
        print_json({"ok": not failures, "sources": facts})
    if failures:
        raise DownloadError("\n".join(map(str, failures)))
    datasets = [DATASETS[name] for name in names if name in DATASETS]
    for spec in datasets:
        if spec.attribute_vectors is not None and not (home.data / spec.attribute_vectors).exists():
            from msdn.extract.vectors.build import build_for_dataset

            tell(f"word vectors of {spec.name}: {build_for_dataset(spec.name, home)}")
    for spec in datasets:
        tell(f"next: {command_line('extract', '--dataset', spec.name, home=home)}")


def _fetch_all(
    names: Sequence[str], home: Home, settings: "DownloadSettings", view: "DownloadView"
) -> list[Exception]:
    """Fetch all that can be had: one dead server does not stand in the way of the others."""
    from msdn.extract.downloads.download import fetch_source, has_leftovers, source_state
    from msdn.extract.downloads.sources import SOURCES
    from msdn.extract.errors import DownloadError

    failures: list[Exception] = []
    for name in names:
        if source_state(name, home).is_here and not settings.force:
            if has_leftovers(name, home):
                fetch_source(name, home, settings, view.report)
            continue
        source = SOURCES[name]
        size = f"about {source.about / 1e6:,.0f} MB" if source.about else "size not known"
        view.say(f"{source.file} ({size}; {source.licence})")
        try:
            fetch_source(name, home, settings, view.report)
        except DownloadError as error:
            failures.append(
                DownloadError(f"{error}, or name a web folder that holds the file with --mirror URL")
            )
    return failures


class DownloadView(logging.Handler):
    """Shows downloads on stderr: a bar on a terminal, a line now and then elsewhere, and what they log."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        from msdn.extract.pipeline.progress import QUIET_SECONDS

        super().__init__(logging.INFO)
        self._console = console
        self._logger = logging.getLogger("msdn.extract.downloads")
        columns = DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        self._bar = make_bar(console, *columns, what=31, room=38)
        self._tasks: dict[str, TaskID] = {}
        self._pause = QUIET_SECONDS
        self._line = ("", 0, 0.0)  # what the last lines were about, where and when it began
        self._said = ("", 0)
        self._last_line = monotonic()

    def __enter__(self) -> "DownloadView":
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
        if kind is KeyboardInterrupt:
            self.say("interrupted; repeat the command to continue")

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a download logs; warnings are shown as those of every command."""
        if record.levelno < logging.WARNING:
            self.say(record.getMessage())

    def say(self, text: str) -> None:
        """Print a line."""
        for line in wrap(text, self._console.width) if self._console.is_terminal else [text]:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def report(self, what: str, done: int, total: int | None) -> None:
        """Show how far something has come."""
        if has_bar(self._console):
            self._move_bar(what, done, total)
        elif what != self._line[0]:
            self._line = (what, done, monotonic())
        elif (what, done) != self._said and (done == total or monotonic() - self._last_line > self._pause):
            self._said, self._last_line = (what, done), monotonic()
            rate = (done - self._line[1]) / (monotonic() - self._line[2] + 1e-9)
            self.say(describe(what, done, total, rate))

    def _move_bar(self, what: str, done: int, total: int | None) -> None:
        if what not in self._tasks:
            for task in self._tasks.values():
                self._bar.remove_task(task)
            self._tasks = {what: self._bar.add_task(what, total=total, completed=done)}
        self._bar.update(self._tasks[what], completed=done, total=total)


def describe(what: str, done: int, total: int | None, rate: float) -> str:
    """One line: how much of how much, how fast, and how long it will take."""
    if total is None:
        return f"{what} {done / 1e6:.1f} MB  {rate / 1e6:.1f} MB/s"
    minutes, seconds = divmod(int(min((total - done) / max(rate, 1.0), 359_999)), 60)
    left = f"{minutes}:{seconds:02d} to go"
    return f"{what} {done / 1e6:.1f}/{total / 1e6:.1f} MB  {rate / 1e6:.1f} MB/s  {left}"
