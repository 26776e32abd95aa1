"""Brings one file from the first mirror that has it: resumed, retried, measured, checked, never half."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msdn.extract.downloads.errors import DownloadError
from msdn.extract.downloads.files import Report
from msdn.extract.downloads.partial import Note, PartialFile
from msdn.extract.downloads.request import MirrorError, PassingError, RangeError, Reply, open_reply
from msdn.extract.downloads.sources import Source

logger = logging.getLogger(__name__)
MAGIC = {".zip": b"PK", ".tgz": b"\x1f\x8b", ".gz": b"\x1f\x8b"}
UNANNOUNCED = 2**31  # bytes accepted where neither the server nor the table says how many will come


@dataclass(frozen=True)
class FetchSettings:
    """How patient a download is.

    Attributes:
        timeout: seconds that a server may stay silent.
        retries: further attempts at a mirror that, in a row, may bring nothing new.
        progress: bytes beyond the furthest so far that count as something new.
        backoff: seconds before the first retry, doubled for each further one.
        least_rate: bytes a second below which a mirror is given up ...
        window: ... when it stays below for so many seconds.
    """

    timeout: float = 30.0
    retries: int = 4
    progress: int = 2**20
    backoff: float = 1.0
    least_rate: float = 1024.0
    window: float = 60.0


class ChecksumError(Exception):
    """A file came whole but is another one."""


@dataclass(frozen=True)
class Fetch:
    """One file to bring to `final`; `check` returns its SHA-256 or raises `ChecksumError`."""

    source: Source
    final: Path
    check: Callable[[Path], str]
    report: Report
    settings: FetchSettings

    def run(self, urls: Sequence[str]) -> None:
        """Try the mirrors in order, the one that an earlier attempt began with first."""
        partial = PartialFile(self.final)
        failures: list[str] = []
        for url in sorted(urls, key=lambda url: url != partial.note.url):
            try:
                self._fetch_patiently(url, partial)
                return
            except MirrorError as error:
                logger.warning("%s %s", url, error)
                failures.append(f"{url} {error}")
        raise DownloadError(
            f"{self.source.file} cannot be had: {'; '.join(failures)}; repeat the command later, or name a "
            "web folder that holds the file: 'msdn data download ... --mirror URL'"
        )

    def _fetch_patiently(self, url: str, partial: PartialFile) -> None:
        failed, furthest = 0, partial.size
        while True:
            try:
                self._fetch_once(url, partial)
                return
            except PassingError as error:
                has_gained = partial.size >= furthest + self.settings.progress
                failed, furthest = (1 if has_gained else failed + 1), max(furthest, partial.size)
                if failed > self.settings.retries:
                    raise
                logger.info("%s %s; trying again", url, error)
                time.sleep(self.settings.backoff * 2 ** (failed - 1))

    def _fetch_once(self, url: str, partial: PartialFile) -> None:
        start = partial.resumable(url, is_checked=self.source.checksum is not None)
        if not start or start != partial.note.total:
            try:
                note = partial.note
                with open_reply(url, start, note.validator, note.total, self.settings.timeout) as reply:
                    self._receive(url, reply, partial)
            except RangeError:
                partial.discard()
                raise
        try:
            sha256 = self.check(partial.path)
        except ChecksumError as error:
            partial.discard()
            raise (PassingError if start else MirrorError)(
                str(error)
            ) from error  # the old part may be at fault
        partial.finish(sha256)

    def _receive(self, url: str, reply: Reply, partial: PartialFile) -> None:
        limit = self._limit(reply)
        self._check_free_space((reply.total or self.source.about or 0) - reply.start)
        chunk = reply.read()
        if not reply.start:
            self._check_beginning(chunk)
            partial.begin(Note(url, reply.validator, reply.total))
        meter = RateMeter(self.settings)
        with partial.append() as file:
            done = reply.start
            while chunk:
                done += len(chunk)
                if done > limit:
                    raise MirrorError(f"sends more than the {limit} bytes expected")
                file.write(chunk)
                self.report("fetching", done, reply.total)
                meter.count(len(chunk))
                chunk = reply.read()
        if reply.total is not None and done < reply.total:
            raise PassingError(f"broke off after {done} of {reply.total} bytes")
        if self.source.size not in (None, done):
            raise MirrorError(f"sent {done} bytes, expected {self.source.size}")

    def _limit(self, reply: Reply) -> int:
        size = self.source.size
        if size is not None and reply.total not in (None, size):
            raise MirrorError(f"has a file of {reply.total} bytes, expected {size}")
        return reply.total or size or 2 * (self.source.about or UNANNOUNCED)

    def _check_beginning(self, chunk: bytes) -> None:
        magic = MAGIC.get(self.final.suffix, b"")
        if chunk[: len(magic)] != magic[: len(chunk)]:
            raise MirrorError(f"sends something else than a {self.final.suffix} file")

    def _check_free_space(self, to_come: int) -> None:
        needed = to_come + self.source.room
        free = shutil.disk_usage(self.final.parent).free
        if needed > free:
            raise DownloadError(
                f"{self.final.parent}: {self.source.file} needs {needed / 1e9:.2f} GB (with what is unpacked from it), "
                f"but only {free / 1e9:.2f} GB are free; make room or choose another place with --home"
            )


class RateMeter:
    """Gives a mirror up that crawls."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._bytes = 0

    def count(self, n: int) -> None:
        """Add `n` bytes; raise at the end of a window that brought too few."""
        self._bytes += n
        elapsed = time.monotonic() - self._began
        if elapsed < self._settings.window:
            return
        if self._bytes < self._settings.least_rate * elapsed:
            raise MirrorError(f"crawls ({self._bytes / elapsed:.0f} bytes a second)")
        self._began, self._bytes = time.monotonic(), 0
