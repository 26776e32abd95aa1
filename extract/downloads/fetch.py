"""Brings one file from the first mirror that has it: resumed, retried, measured, checked, never half."""

import json
import logging
import os
import re
import shutil
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError

from msdn import __version__
from msdn.cache.files import replace_file
from msdn.cache.structure import flush_folder
from msdn.extract.datasets.spec import Source
from msdn.extract.errors import DownloadError

logger = logging.getLogger(__name__)
PASSING_CODES = (408, 425, 429, 500, 502, 503, 504)
MAGIC = {".zip": b"PK", ".tgz": b"\x1f\x8b", ".gz": b"\x1f\x8b"}
UNANNOUNCED = 2**31  # bytes accepted where neither the server nor the table says how many will come
CHUNK = 2**18

Record = TypeVar("Record")
Report = Callable[[str, int, int | None], None]  # what is being done, bytes done, bytes in all where known


def ignore_report(what: str, done: int, total: int | None) -> None:
    """Show nothing."""


class ChecksumError(Exception):
    """A file came whole but is another one."""


class MirrorError(Exception):
    """This address will not do: the next one is tried."""


class PassingError(MirrorError):
    """This address may do if asked again."""


class RangeError(PassingError):
    """What has come so far does not fit what the server has now."""


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

    def _fetch_patiently(self, url: str, partial: "PartialFile") -> None:
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

    def _fetch_once(self, url: str, partial: "PartialFile") -> None:
        start = partial.resumable(url, is_checked=self.source.checksum is not None)
        if not start or start != partial.note.total:
            try:
                with closing(open_reply(url, start, partial.note, self.settings.timeout)) as reply:
                    self._receive(url, reply, partial)
            except RangeError:
                partial.discard()
                raise
        try:
            sha256 = self.check(partial.path)
        except ChecksumError as error:
            partial.discard()
            kind = PassingError if start else MirrorError  # the old part may be at fault
            raise kind(str(error)) from error
        partial.finish(sha256)

    def _receive(self, url: str, reply: "Reply", partial: "PartialFile") -> None:
        limit = self._limit(reply)
        self._check_free_space((reply.total or self.source.about or 0) - reply.start)
        chunk = reply.read()
        if not reply.start:
            magic = MAGIC.get(self.final.suffix, b"")
            if chunk[: len(magic)] != magic[: len(chunk)]:
                raise MirrorError(f"sends something else than a {self.final.suffix} file")
            partial.begin(Note(url, reply.validator, reply.total))
        meter = RateMeter(self.settings)
        with partial.path.open("ab") as file:
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

    def _limit(self, reply: "Reply") -> int:
        size = self.source.size
        if size is not None and reply.total not in (None, size):
            raise MirrorError(f"has a file of {reply.total} bytes, expected {size}")
        return reply.total or size or 2 * (self.source.about or UNANNOUNCED)

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
        self._began, self._bytes = time.monotonic(), 0

    def count(self, n: int) -> None:
        """Add `n` bytes; raise at the end of a window that brought too few."""
        self._bytes += n
        elapsed = time.monotonic() - self._began
        if elapsed < self._settings.window:
            return
        if self._bytes < self._settings.least_rate * elapsed:
            raise MirrorError(f"crawls ({self._bytes / elapsed:.0f} bytes a second)")
        self._began, self._bytes = time.monotonic(), 0


@dataclass(frozen=True)
class Note:
    """Where a file comes from; `sha256` is there once it has come whole."""

    url: str = ""
    validator: str | None = None  # the server's ETag or date: a resumed file must still have it
    total: int | None = None
    sha256: str | None = None


class PartialFile:
    """The beginning of a file, which grows until it can be given its final name; a note of its origin beside it."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = partial_path(final)
        self.note = read_note(final)

    @property
    def size(self) -> int:
        """Bytes that have come so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def resumable(self, url: str, is_checked: bool) -> int:
        """Bytes that need not come again from `url`.

        Without a server's mark of the version, only a known checksum tells whether the halves fit.
        """
        fits = self.note.url == url and (self.note.validator is not None or is_checked)
        return self.size if fits and self.size <= (self.note.total or 0) else 0

    def begin(self, note: Note) -> None:
        """Start anew: no old bytes may ever lie beside the new note."""
        self.path.write_bytes(b"")
        self._take_note(note)

    def discard(self) -> None:
        """Forget what has come."""
        remove_download(self._final)
        self.note = Note()

    def finish(self, sha256: str) -> None:
        """Give the complete file its final name."""
        self._take_note(replace(self.note, sha256=sha256))
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self._final)
        flush_folder(self._final.parent)

    def _take_note(self, note: Note) -> None:
        self.note = note
        write_record(_note_path(self._final), note)


def partial_path(final: Path) -> Path:
    """Where the bytes of a file lie until all have come."""
    return final.with_name(final.name + ".partial")


def _note_path(final: Path) -> Path:
    return final.with_name(final.name + ".json")


def read_note(final: Path) -> Note:
    """Return what is known of a file on its way or arrived; an empty note where there is none."""
    return read_record(_note_path(final), Note) or Note()


def remove_download(final: Path) -> None:
    """Remove a file, its beginning, and the note of where it came from."""
    for path in (final, partial_path(final), _note_path(final)):
        path.unlink(missing_ok=True)


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as JSON; a crash leaves the old content or the new, never a part."""
    replace_file(path, json.dumps(asdict(record), indent=2).encode())


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Return what `write_record` wrote, or None where the file is missing or holds something else."""
    try:
        record = kind(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None
    fits = all(isinstance(getattr(record, field.name), field.type) for field in fields(record))  # type: ignore
    return record if fits else None


@dataclass
class Reply:
    """A server's answer that may be read: bytes of the file from `start` on."""

    response: HTTPResponse
    start: int
    total: int | None
    validator: str | None

    def close(self) -> None:
        """Hang up."""
        self.response.close()

    def read(self) -> bytes:
        """Return the bytes that are there by now, at least one, or none at the end."""
        try:
            return self.response.read1(CHUNK)
        except TimeoutError as error:
            raise PassingError("sends nothing any more") from error
        except (OSError, HTTPException) as error:
            raise PassingError(f"the connection broke ({type(error).__name__})") from error


def open_reply(url: str, start: int, note: Note, timeout: float) -> Reply:
    """Ask for `url` from byte `start` on, and judge the answer; `note` is what the first answer said."""
    if not url.lower().startswith(("http://", "https://")):
        raise MirrorError("is no http or https address")
    headers = {"User-Agent": f"msdn/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if note.validator:
            headers["If-Range"] = note.validator
    response = _open(url, headers, timeout)
    try:
        return _judge(response, start, note.total)
    except BaseException:
        response.close()
        raise


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    try:
        request = urllib.request.Request(url, headers=headers)
        response: HTTPResponse = _build_opener().open(request, timeout=timeout)
        return response
    except HTTPError as error:
        with error:
            raise _explain_code(error.code, error.reason, "Range" in headers) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _explain_failure(error) from error


def _build_opener() -> urllib.request.OpenerDirector:
    """Open http and https only, after redirects too: urllib's own opener also knows ftp, file and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _explain_code(code: int, reason: str, is_rest: bool) -> MirrorError:
    if code == 416 and is_rest:
        return RangeError("has no more bytes than came already")
    what = f"answers {code} ({' '.join(reason.split())[:100]})"
    return PassingError(what) if code in PASSING_CODES else MirrorError(what)


def _explain_failure(error: Exception) -> MirrorError:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return MirrorError(f"has no valid certificate ({reason.verify_message})")
    if isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_NONAME:
        return MirrorError("cannot be found: no network, or no such server")
    if isinstance(reason, TimeoutError):
        return PassingError("does not answer")
    if isinstance(reason, OSError | HTTPException):
        return PassingError(f"cannot be reached ({getattr(reason, 'strerror', '') or type(reason).__name__})")
    return MirrorError(f"cannot be asked for ({reason})")  # a scheme that is not served, a malformed address


def _judge(response: HTTPResponse, start: int, total: int | None) -> Reply:
    if response.headers.get_content_type() == "text/html":
        raise MirrorError("sends a web page instead of the file")
    tag = response.headers.get("ETag")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    if response.status == 200:  # all of it: asked for, or the server knows no ranges, or the file has changed
        length = response.headers.get("Content-Length", "")
        return Reply(response, 0, int(length) if length.isdecimal() else None, validator)
    if response.status != 206 or not start:
        raise MirrorError(f"answers {response.status} to a plain question")
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", text)
    if match is None or int(match[1]) != start or int(match[2]) != total:
        raise RangeError(f"sends another part than the one asked for (Content-Range '{text[:60]}')")
    return Reply(response, start, total, validator)
