"""Brings one source from its publisher to its place: fetched, checked, unpacked, moved, remembered."""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from msdn.cache.files import FileLock, flush_folder, flush_tree, make_folder, sha256_of
from msdn.cache.home import Home, command_line
from msdn.extract.downloads.fetch import (
    CHUNK,
    ChecksumError,
    Fetch,
    FetchSettings,
    Report,
    check_room,
    ignore_report,
    note_path,
    partial_path,
    read_note,
    read_record,
    remove_download,
    write_record,
)
from msdn.extract.downloads.sources import SOURCES, Source, least_plan
from msdn.extract.downloads.unpack import unpack
from msdn.extract.errors import ArchiveError, DownloadError

log = logging.getLogger(__name__)
ALGORITHMS = {"md5": "MD5", "sha256": "SHA-256"}
Status = Literal["missing", "partial", "present", "complete"]


@dataclass(frozen=True)
class DownloadSettings:
    """What the user chooses."""

    mirror: str | None = None  # a folder that holds the files under their publishers' names; tried first
    keep_archives: bool = False  # leave an archive in `data/downloads` after it was unpacked
    force: bool = False  # fetch what is there already, and accept a file that differs from the one before
    fetch: FetchSettings = field(default_factory=FetchSettings)


@dataclass(frozen=True)
class SourceState:
    """How much of a source is on disk, and its size there.

    It may be missing; partial (begun, the same command goes on); present (put there by hand or changed since,
    not verified); complete (fetched, checked and unpacked).
    """

    status: Status
    bytes: int

    @property
    def is_here(self) -> bool:
        """Whether it can be used."""
        return self.status in ("present", "complete")


@dataclass(frozen=True)
class Receipt:
    """One source, fetched; what no code reads (url, known_checksum, unpacked_files) is there for people."""

    url: str
    bytes: int
    sha256: str
    known_checksum: str | None  # what was compared with a checksum known before; None where none is
    date: str  # when it was unpacked, ISO 8601
    unpacked_files: int
    unpacked_bytes: int
    proof: dict = field(
        default_factory=dict
    )  # the source's proof paths, with the size of those that are files
    is_complete: bool = True  # False while it is being replaced
    digests: dict = field(default_factory=dict)  # the SHA-256 of the proof paths that are files


def downloads_folder(home: Home) -> Path:
    """Where files on their way, and the receipts of those that arrived, lie."""
    return home.data / "downloads"


def _staging_folder(home: Home, name: str) -> Path:
    return downloads_folder(home) / f"{name}.unpacking"


def _receipt_path(home: Home, name: str) -> Path:
    return downloads_folder(home) / "receipts" / f"{name}.json"


def read_receipt(home: Home, name: str) -> Receipt | None:
    """Return a source's receipt, or None where there is none that can be read."""
    return read_record(_receipt_path(home, name), Receipt)


def write_receipt(home: Home, name: str, receipt: Receipt) -> None:
    """Write a source's receipt."""
    path = _receipt_path(home, name)
    make_folder(path.parent)
    write_record(path, receipt)


def warn_of_change(path: Path, sha256: str, home: Home) -> None:
    """Say it where a file that was fetched, or whose checksum is known, is not what it was; it may be the user's own.

    Args:
        path: the file that was read.
        sha256: of its bytes.
        home: where the receipts of fetched files lie.
    """
    for name, source in SOURCES.items():
        places = {home.data / proof: proof for proof in source.proof}
        if path not in places and (source.rules or path.name != source.file):
            continue
        receipt = read_receipt(home, name)
        expected = receipt.digests.get(places.get(path)) if receipt else None
        if expected is None and not source.rules and source.checksum and source.checksum[0] == "sha256":
            expected = source.checksum[1]
        if isinstance(expected, str) and not sha256.startswith(expected):
            again = command_line("data", "download", least_plan(name), "--force", home=home)
            log.warning(
                "%s: not the file that was published (SHA-256 %s, expected %s): damaged, or replaced; to fetch it "
                "again: %s",
                path,
                sha256[:12],
                expected[:12],
                again,
            )


def source_state(source: str | Source, home: Home) -> SourceState:
    """Return what of a source, known by name or not, is on disk, without reading large files."""
    name, source = _look_up(source)
    archive = downloads_folder(home) / source.file
    proof, receipt = measure_proof(source, home.data), read_receipt(home, name)
    is_there, is_unpacking = len(proof) == len(source.proof), _staging_folder(home, name).is_dir()
    if is_there and receipt is not None and receipt.is_complete and receipt.proof == proof:
        return SourceState("complete", receipt.unpacked_bytes)
    if is_there and not is_unpacking:
        return SourceState("present", sum(measure(home.data / path) for path in source.proof))
    begun = measure(archive) + measure(partial_path(archive))
    return SourceState("partial" if begun or is_unpacking else "missing", begun)


def has_leftovers(source: str | Source, home: Home) -> bool:
    """Whether a process ended after a source was complete, while it removed what was of no more use."""
    name, source = _look_up(source)
    archive = downloads_folder(home) / source.file
    is_note_alone = note_path(archive).exists() and not (archive.exists() or partial_path(archive).exists())
    is_left = is_note_alone or _staging_folder(home, name).exists()
    return is_left and source_state(source, home).status == "complete"


def measure_proof(source: Source, folder: Path) -> dict[str, int | None]:
    """Return the proof paths that are in `folder`, with the size of those that are files."""
    found: dict[str, int | None] = {}
    for proof in source.proof:
        path = folder / proof
        if path.is_file():
            found[proof] = path.stat().st_size
        elif path.is_dir() and any(path.iterdir()):
            found[proof] = None
    return found


def measure(path: Path) -> int:
    """Return the size of a file, or of all files in a folder; 0 where there is neither."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def fetch_source(
    source: str | Source,
    home: Home,
    settings: DownloadSettings = DownloadSettings(),
    report: Report = ignore_report,
) -> Path:
    """Bring a source, one of `SOURCES` by its name or any other, to its place unless it is there.

    Return its first proof path.
    """
    name, source = _look_up(source)
    folder = downloads_folder(home)
    make_folder(folder)
    with FileLock(folder / f"{source.file}.lock", f"downloading {source.file}"):
        state, download = source_state(source, home), _Download(name, source, home, settings, report)
        if settings.force or not state.is_here:
            download.run()
        elif has_leftovers(source, home):
            download.clear()
    return home.data / source.proof[0]


def _look_up(source: str | Source) -> tuple[str, Source]:
    """Return a source with the name that its receipt has; one that no table knows is named as its file."""
    if isinstance(source, str):
        return source, SOURCES[source]
    return next((name for name, known in SOURCES.items() if known == source), source.file), source


def require_room(names: Sequence[str], home: Home, settings: DownloadSettings) -> None:
    """Raise before anything is fetched if the disk cannot hold what `names` still need."""
    states = {name: source_state(name, home) for name in names}
    wanted = [name for name in names if settings.force or not states[name].is_here]
    archives = [max((SOURCES[name].about or 0) - states[name].bytes, 0) for name in wanted]
    at_once = sum(archives) if settings.keep_archives else max(archives, default=0)
    needed = at_once + sum(SOURCES[name].room or SOURCES[name].about or 0 for name in wanted)
    folder = next(parent for parent in (home.data, *home.data.absolute().parents) if parent.is_dir())
    check_room(folder, ", ".join(wanted), needed)


class _Download:
    """One source on its way."""

    def __init__(
        self, name: str, source: Source, home: Home, settings: DownloadSettings, report: Report
    ) -> None:
        self._name, self._source, self._home, self._settings = name, source, home, settings
        self._archive = downloads_folder(home) / source.file
        self._receipt = read_receipt(home, name)  # of the file that was fetched before
        self._report: Report = lambda what, done, total: report(f"{what} {source.file}", done, total)

    def run(self) -> None:
        if self._settings.force and self._came_from() and self._archive.exists():
            remove_download(self._archive)
        sha256 = self._check_archive() if self._archive.exists() else self._fetch()
        if self._source.rules:
            self._unpack(sha256)
        else:
            self._place_as_it_is(sha256)
        self.clear()

    def clear(self) -> None:
        """Remove what is of no use once all is in place; the folder that it was unpacked into goes last."""
        if not self._source.rules or not self._settings.keep_archives:
            remove_download(self._archive)
        staging = _staging_folder(self._home, self._name)
        if staging.exists():
            shutil.rmtree(staging)

    def _fetch(self) -> str:
        urls, mirror = self._source.mirrors, self._settings.mirror
        if mirror:
            urls = (f"{mirror.rstrip('/')}/{self._source.file}", *urls)
        fetch = Fetch(self._source, self._archive, self._check, self._report, self._settings.fetch)
        return fetch.run(urls)

    def _check_archive(self) -> str:
        """Check a file that an earlier run left, or that the user put there."""
        try:
            sha256 = self._check(self._archive)
            noted = read_note(self._archive).sha256
            if noted not in (None, sha256):
                raise ChecksumError(f"has SHA-256 {sha256}, but had {noted} when it was fetched")
        except ChecksumError as error:
            raise DownloadError(f"{self._archive} {error}; remove it and repeat the command") from error
        return sha256

    def _check(self, path: Path) -> str:
        """Return the file's SHA-256, after comparing it with what is known or was seen the last time."""
        algorithm, expected = self._source.checksum or ("sha256", "")
        digests = self._hash(path, {algorithm, "sha256"})
        sha256, before = digests["sha256"], self._receipt
        if not digests[algorithm].startswith(expected):
            kind = ALGORITHMS[algorithm]
            raise ChecksumError(f"has {kind} {digests[algorithm]}, expected {expected}")
        if before is not None and before.sha256 != sha256 and not self._settings.force:
            raise ChecksumError(
                f"has SHA-256 {sha256}, but the file fetched on {before.date[:10]} had {before.sha256}; "
                "if you know that the publisher replaced it, use --force"
            )
        return sha256

    def _hash(self, path: Path, algorithms: set[str]) -> dict[str, str]:
        """Return a file's hexadecimal digests, all of them in one pass."""
        digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                for digest in digests.values():
                    digest.update(chunk)
                done += len(chunk)
                self._report("checking", done, total)
        return {name: digest.hexdigest() for name, digest in digests.items()}

    def _unpack(self, sha256: str) -> None:
        staging = _staging_folder(self._home, self._name)
        if self._receipt is not None:  # no longer in place; its checksum stays known
            write_record(_receipt_path(self._home, self._name), replace(self._receipt, is_complete=False))
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir()
        try:
            count = unpack(self._archive, self._source, staging, self._report)
            proof = measure_proof(self._source, staging)
            digests = {path: sha256_of(staging / path) for path, size in proof.items() if size is not None}
            missing = [path for path in self._source.proof if path not in proof]
            if missing:
                raise ArchiveError(f"{self._source.file} is not the file expected: it holds no {missing[0]}")
        except ArchiveError as error:
            shutil.rmtree(staging)
            raise ArchiveError(f"{error}; {self._dismiss_archive()}") from error
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        flush_tree(staging)  # whoever finds the receipt finds the files' content
        place_tree(staging, self._home.data)
        self._write_receipt(sha256, count, proof, digests)

    def _place_as_it_is(self, sha256: str) -> None:
        """Move the file itself; the receipt comes first, it counts only where the file is."""
        goal, size = self._home.data / self._source.proof[0], self._archive.stat().st_size
        place = self._source.proof[0]
        self._write_receipt(sha256, (1, size), {place: size}, {place: sha256})
        make_folder(goal.parent)
        self._archive.replace(goal)
        flush_folder(goal.parent)

    def _dismiss_archive(self) -> str:
        """Remove a useless file that was fetched, leave one that the user put there; say which."""
        url = self._came_from()
        if not url:
            return f"replace or remove {self._archive}"
        remove_download(self._archive)
        again = "repeat the command, or name another place with --mirror URL"
        return f"it came from {url} and was removed: {again}"

    def _came_from(self) -> str:
        """The archive's address, or nothing where the user put it there: only a whole file's note has a checksum."""
        note = read_note(self._archive)
        return note.url if note.sha256 else ""

    def _write_receipt(
        self, sha256: str, count: tuple[int, int], proof: dict[str, int | None], digests: dict[str, str]
    ) -> None:
        receipt = Receipt(
            url=self._came_from() or "put there by hand",
            bytes=self._archive.stat().st_size,
            sha256=sha256,
            known_checksum=self._source.checksum and " ".join(self._source.checksum),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            unpacked_files=count[0],
            unpacked_bytes=count[1],
            proof=proof,
            digests=digests,
        )
        write_receipt(self._home, self._name, receipt)


def place_tree(tree: Path, goal: Path) -> None:
    """Move everything in `tree` into `goal`; each step is a rename, and files of the same name are replaced."""
    make_folder(goal)
    for entry in sorted(tree.iterdir()):
        place = goal / entry.name
        if entry.is_dir() and place.is_dir():
            place_tree(entry, place)
        elif place.is_dir() or (entry.is_dir() and place.exists()):
            kinds = ("folder", "file") if place.is_dir() else ("file", "folder")
            advice = "move it away and repeat the command"
            raise DownloadError(f"{place}: is a {kinds[0]}, but a {kinds[1]} belongs there; {advice}")
        else:
            entry.replace(place)
    flush_folder(goal)
