"""Brings one source from its publisher to its place: fetched, checked, unpacked, moved, remembered."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from msdn.cache.files import FileLock, flush_folder
from msdn.cache.home import Home
from msdn.extract.downloads.errors import ArchiveError, DownloadError
from msdn.extract.downloads.fetch import ChecksumError, Fetch, FetchSettings
from msdn.extract.downloads.files import Report, hash_file, ignore_report
from msdn.extract.downloads.partial import read_note, remove_download
from msdn.extract.downloads.place import place_tree
from msdn.extract.downloads.receipts import (
    Receipt,
    measure_proof,
    read_receipt,
    withdraw_receipt,
    write_receipt,
)
from msdn.extract.downloads.sources import SOURCES, Source
from msdn.extract.downloads.state import downloads_folder, source_state, staging_folder
from msdn.extract.downloads.unpack import unpack

ALGORITHMS = {"md5": "MD5", "sha256": "SHA-256"}


@dataclass(frozen=True)
class DownloadSettings:
    """What the user chooses.

    Attributes:
        mirror: address of a folder that holds the files under their publishers' names; tried first.
        keep_archives: leave an archive in `data/downloads` after it was unpacked.
        force: fetch what is there already, and accept a file that differs from the one fetched before.
        fetch: how patient to be.
    """

    mirror: str | None = None
    keep_archives: bool = False
    force: bool = False
    fetch: FetchSettings = field(default_factory=FetchSettings)


def fetch_source(
    name: str,
    home: Home,
    settings: DownloadSettings = DownloadSettings(),
    report: Report = ignore_report,
) -> Path:
    """Bring a source to its place unless it is there, and return its first proof path."""
    downloads_folder(home).mkdir(parents=True, exist_ok=True)
    source = SOURCES[name]
    with FileLock(downloads_folder(home) / f"{source.file}.lock", f"downloading {source.file}"):
        if settings.force or source_state(name, home).status not in ("complete", "present"):
            _Download(name, source, home, settings, report).run()
    return home.data / source.proof[0]


def require_room(names: Sequence[str], home: Home, settings: DownloadSettings) -> None:
    """Raise before anything is fetched if the disk cannot hold what `names` still need."""
    states = {name: source_state(name, home) for name in names}
    wanted = [name for name in names if settings.force or states[name].status in ("missing", "partial")]
    archives = [max((SOURCES[name].about or 0) - states[name].bytes, 0) for name in wanted]
    at_once = sum(archives) if settings.keep_archives else max(archives, default=0)
    needed = at_once + sum(SOURCES[name].room or SOURCES[name].about or 0 for name in wanted)
    folder = next(parent for parent in (home.data, *home.data.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{home.data}: {', '.join(wanted)} need about {needed / 1e9:.1f} GB while they are fetched and unpacked, "
            f"but only {free / 1e9:.1f} GB are free; make room or choose another place with --home"
        )


@dataclass(frozen=True)
class _Download:
    name: str
    source: Source
    home: Home
    settings: DownloadSettings
    report: Report

    @property
    def archive(self) -> Path:
        return downloads_folder(self.home) / self.source.file

    def run(self) -> None:
        if self.settings.force and self._came_from() and self.archive.exists():
            remove_download(self.archive)
        sha256 = self._check_archive() if self.archive.exists() else self._fetch()
        if self.source.is_archive:
            self._unpack(sha256)
        else:
            self._place_as_it_is(sha256)

    def _fetch(self) -> str:
        urls = self.source.mirrors
        if self.settings.mirror:
            urls = (f"{self.settings.mirror.rstrip('/')}/{self.source.file}", *urls)
        Fetch(self.source, self.archive, self._check, self._report, self.settings.fetch).run(urls)
        return read_note(self.archive).sha256 or ""

    def _check_archive(self) -> str:
        """Check a file that an earlier run left, or that the user put there."""
        try:
            sha256 = self._check(self.archive)
            noted = read_note(self.archive).sha256
            if noted not in (None, sha256):
                raise ChecksumError(f"has SHA-256 {sha256}, but came with {noted}")
        except ChecksumError as error:
            raise DownloadError(f"{self.archive} {error}; remove it and repeat the command") from error
        return sha256

    def _check(self, path: Path) -> str:
        """Return the file's SHA-256, after comparing it with what is known or was seen the last time."""
        algorithm, expected = self.source.checksum or ("sha256", "")
        digests = hash_file(path, {algorithm, "sha256"}, self._report)
        if not digests[algorithm].startswith(expected):
            raise ChecksumError(
                f"has {ALGORITHMS[algorithm]} {digests[algorithm]}, but {expected} is known for {self.source.file}"
            )
        receipt = read_receipt(downloads_folder(self.home), self.name)
        if receipt is not None and receipt.sha256 != digests["sha256"] and not self.settings.force:
            raise ChecksumError(
                f"has SHA-256 {digests['sha256']}, but the file fetched on {receipt.date[:10]} had {receipt.sha256}; "
                "where the publisher is known to have replaced it, --force accepts it"
            )
        return digests["sha256"]

    def _unpack(self, sha256: str) -> None:
        downloads, staging = downloads_folder(self.home), staging_folder(self.home, self.name)
        withdraw_receipt(downloads, self.name)
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir()
        try:
            count = unpack(self.archive, self.source, staging, self._report)
            proof = self._prove(staging)
        except ArchiveError as error:
            shutil.rmtree(staging)
            raise ArchiveError(f"{error}; {self._dismiss_archive()}") from error
        receipt = self._receipt(sha256, count, proof)
        os.sync()  # one for all files: whoever finds the receipt finds their content
        place_tree(staging, self.home.data)
        flush_folder(self.home.data)
        write_receipt(downloads, self.name, receipt)
        shutil.rmtree(staging)
        if not self.settings.keep_archives:
            remove_download(self.archive)

    def _place_as_it_is(self, sha256: str) -> None:
        """Move the file itself; the receipt comes first, it counts only where the file is."""
        goal = self.home.data / self.source.proof[0]
        size = self.archive.stat().st_size
        receipt = self._receipt(sha256, (1, size), {self.source.proof[0]: size})
        write_receipt(downloads_folder(self.home), self.name, receipt)
        goal.parent.mkdir(parents=True, exist_ok=True)
        self.archive.replace(goal)
        flush_folder(goal.parent)
        remove_download(self.archive)

    def _prove(self, staging: Path) -> dict[str, int | None]:
        proof = measure_proof(self.source, staging)
        missing = [path for path in self.source.proof if path not in proof]
        if missing:
            raise ArchiveError(f"{self.source.file} is not the file expected: it holds no {missing[0]}")
        return proof

    def _dismiss_archive(self) -> str:
        """Remove a useless file that was fetched, leave one that the user put there; say which."""
        url = self._came_from()
        if not url:
            return f"replace or remove {self.archive}"
        remove_download(self.archive)
        return (
            f"it came from {url} and was removed: repeat the command, or name another place with --mirror URL"
        )

    def _came_from(self) -> str:
        """The archive's address, or nothing where the user put it there: only `finish` notes a checksum."""
        note = read_note(self.archive)
        return note.url if note.sha256 else ""

    def _receipt(self, sha256: str, count: tuple[int, int], proof: dict[str, int | None]) -> Receipt:
        return Receipt(
            url=self._came_from() or "put there by hand",
            bytes=self.archive.stat().st_size,
            sha256=sha256,
            known_checksum=self.source.checksum and " ".join(self.source.checksum),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            unpacked_files=count[0],
            unpacked_bytes=count[1],
            proof=proof,
        )

    def _report(self, what: str, done: int, total: int | None) -> None:
        self.report(f"{what} {self.source.file}", done, total)
