"""Brings one file from the first mirror that has it: resumed, retried, measured, checked, never half."""

import logging
import os
import re
import shutil
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from http.client import HTTPException, HTTPResponse
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.error import HTTPError, URLError

from msdn import __version__
from msdn.cache.files import flush_file, flush_folder, named, open_itself
from msdn.cache.records import read_sealed, write_sealed
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
    """How patient a download is."""

    timeout: float = 30.0  # seconds that a server may stay silent
    retries: int = 4  # further attempts at a mirror that, in a row, may bring nothing new
    progress: int = 2**20  # bytes beyond the furthest so far that count as something new
    backoff: float = 1.0  # seconds before the first retry, doubled for each further one
    least_rate: float = 1024.0  # bytes a second below which a mirror is given up ...
    window: float = 60.0  # ... when it stays below for so many seconds


@dataclass(frozen=True)
class Note:
    """Where a file comes from; `sha256` is there once it has come whole."""

    url: str = ""
    validator: str | None = None  # the server's ETag or date: a resumed file must still have it
    total: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Reply:
    """A server's answer that may be read: bytes of the file from `start` on."""

    response: HTTPResponse
    start: int
    total: int | None
    validator: str | None


class Fetch:
    """One file to bring to `final`. Its beginning grows beside it, with a note of where it comes from."""

    def __init__(
        self,
        source: Source,
        final: Path,
        check: Callable[[Path], str],
        report: Report,
        settings: FetchSettings,
    ) -> None:
        """`check` returns the SHA-256 of a file that has come whole, or raises `ChecksumError`."""
        self._source, self._final = source, final
        self._check, self._report, self._settings = check, report, settings
        self._partial, self._note = partial_path(final), read_note(final)

    def run(self, urls: Sequence[str]) -> str:
        """Try the mirrors in order, the one that an earlier attempt began with first; return the SHA-256."""
        failures: list[str] = []
        for left, url in zip(
            reversed(range(len(urls))), sorted(urls, key=lambda url: url != self._note.url), strict=True
        ):
            try:
                return self._fetch_patiently(url)
            except MirrorError as error:
                if left:  # of the last one, the error says it
                    logger.warning("%s %s; trying the next address", url, error)
                failures.append(f"{url} {error}")
        raise DownloadError(
            f"{self._source.file} cannot be fetched: {'; '.join(failures)}; repeat the command later"
        )

    @property
    def _size(self) -> int:
        """Bytes that have come so far."""
        return self._partial.stat().st_size if self._partial.exists() else 0

    def _fetch_patiently(self, url: str) -> str:
        failed, furthest = 0, self._size
        while True:
            try:
                return self._fetch_once(url)
            except PassingError as error:
                has_gained = self._size >= furthest + self._settings.progress
                failed, furthest = (1 if has_gained else failed + 1), max(furthest, self._size)
                if failed > self._settings.retries:
                    raise
                logger.info("%s %s; trying again", url, error)
                time.sleep(self._settings.backoff * 2 ** (failed - 1))

    def _fetch_once(self, url: str) -> str:
        start = self._resumable(url)
        if not start or start != self._note.total:
            try:
                reply = open_reply(url, start, self._note, self._settings.timeout)
                with reply.response:
                    self._receive(url, reply)
            except RangeError:
                self._discard()
                raise
        try:
            sha256 = self._check(self._partial)
        except ChecksumError as error:
            self._discard()
            kind = PassingError if start else MirrorError  # the old part may be at fault
            raise kind(str(error)) from error
        flush_file(self._partial)
        self._take_note(replace(self._note, sha256=sha256))
        self._partial.replace(self._final)
        flush_folder(self._final.parent)
        return sha256

    def _resumable(self, url: str) -> int:
        """Bytes that need not come again from `url`.

        Without a server's mark of the version, only a known checksum tells whether the halves fit.
        """
        is_known = self._note.validator is not None or self._source.checksum is not None
        fits = self._note.url == url and is_known and self._size <= (self._note.total or 0)
        return self._size if fits else 0

    def _receive(self, url: str, reply: Reply) -> None:
        limit = self._limit(reply)
        to_come = (reply.total or self._source.about or 0) - reply.start
        check_room(self._final.parent, self._source.file, to_come + self._source.room)
        chunks = read_chunks(reply.response, self._settings)
        first = next(chunks, b"")
        if not reply.start:
            magic = MAGIC.get(self._final.suffix, b"")
            if first[: len(magic)] != magic[: len(first)]:
                raise MirrorError(f"does not send a {self._final.suffix} file")
            self._partial.unlink(missing_ok=True)  # no old bytes may ever lie beside the new note
            self._take_note(Note(url, reply.validator, reply.total))
        done = reply.start
        with named(self._partial), self._open_partial() as file:
            for chunk in chain([first], chunks):
                done += len(chunk)
                if done > limit:
                    raise MirrorError(f"sends more than the {limit} bytes expected")
                file.write(chunk)
                self._report("fetching", done, reply.total)
        if reply.total is not None and done < reply.total:
            raise PassingError(f"stopped after {done} of {reply.total} bytes")
        if self._source.size not in (None, done):
            raise MirrorError(f"sent {done} bytes, expected {self._source.size}")

    def _open_partial(self) -> BinaryIO:
        """The part that has come, to add to it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.fdopen(open_itself(self._partial, flags), "ab")

    def _limit(self, reply: Reply) -> int:
        size = self._source.size
        if size is not None and reply.total not in (None, size):
            raise MirrorError(f"has a file of {reply.total} bytes, expected {size}")
        return reply.total or size or 2 * (self._source.about or UNANNOUNCED)

    def _discard(self) -> None:
        remove_download(self._final)
        self._note = Note()

    def _take_note(self, note: Note) -> None:
        self._note = note
        write_record(note_path(self._final), note)


def check_room(folder: Path, what: str, needed: int) -> None:
    """Raise unless the disk can hold so many bytes more."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{folder}: {needed / 1e9:.1f} GB are needed for {what} while it is fetched and unpacked, but only "
            f"{free / 1e9:.1f} GB are free; make room or choose another place with --home"
        )


def partial_path(final: Path) -> Path:
    """Where the bytes of a file lie until all have come."""
    return final.with_name(final.name + ".partial")


def note_path(final: Path) -> Path:
    """Where it is written down what a file on its way is, and where it came from."""
    return final.with_name(final.name + ".json")


def read_note(final: Path) -> Note:
    """Return what is known of a file on its way or arrived; an empty note where there is none."""
    return read_record(note_path(final), Note) or Note()


def remove_download(final: Path) -> None:
    """Remove a file, its beginning, and the note of where it came from."""
    for path in (final, partial_path(final), note_path(final)):
        path.unlink(missing_ok=True)


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as sealed JSON."""
    write_sealed(path, asdict(record))


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Return what `write_record` wrote, or None where the file is missing or holds something else."""
    try:
        record = kind(**read_sealed(path))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    fits = all(isinstance(getattr(record, field.name), field.type) for field in fields(record))  # type: ignore
    return record if fits else None


def read_chunks(response: HTTPResponse, settings: FetchSettings) -> Iterator[bytes]:
    """Yield bytes as they come; give up a server that breaks off, falls silent or crawls."""
    began, count = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(CHUNK)
        except TimeoutError as error:
            raise PassingError("stopped sending data") from error
        except (OSError, HTTPException) as error:
            raise PassingError(f"the connection broke ({type(error).__name__})") from error
        if not chunk:
            return
        yield chunk
        count += len(chunk)
        elapsed = time.monotonic() - began
        if elapsed >= settings.window:
            if count < settings.least_rate * elapsed:
                raise MirrorError(f"is too slow ({count / elapsed:.0f} bytes a second)")
            began, count = time.monotonic(), 0


def open_reply(url: str, start: int, note: Note, timeout: float) -> Reply:
    """Ask for `url` from byte `start` on, and judge the answer; `note` is what the first answer said."""
    headers = {"User-Agent": f"msdn/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if note.validator:
            headers["If-Range"] = note.validator
    try:
        request = urllib.request.Request(url, headers=headers)
        response: HTTPResponse = _build_opener().open(request, timeout=timeout)
    except HTTPError as error:
        with error:
            raise _explain_code(error.code, error.reason, bool(start)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _explain_failure(error) from error
    try:
        return _judge(response, start, note.total)
    except BaseException:
        response.close()
        raise


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
        return RangeError("has no bytes after those already received")
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
    return MirrorError(f"cannot be requested ({reason})")  # a scheme that is not served, a malformed address


def _judge(response: HTTPResponse, start: int, total: int | None) -> Reply:
    if response.headers.get_content_type() == "text/html":
        raise MirrorError("sends a web page instead of the file")
    tag = response.headers.get("ETag")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    if response.status == 200:  # all of it: asked for, or the server knows no ranges, or the file has changed
        length = response.headers.get("Content-Length", "")
        return Reply(response, 0, int(length) if length.isdecimal() else None, validator)
    if response.status != 206 or not start:
        raise MirrorError(f"answers {response.status} to a plain request")
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", text)
    if match is None or int(match[1]) != start or int(match[2]) != total:
        raise RangeError(f"sends a different part of the file than requested (Content-Range '{text[:60]}')")
    return Reply(response, start, total, validator)
