"""Asks a server for a file, or for the rest of one, and judges its answer before a byte is kept."""

import re
import socket
import ssl
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from types import TracebackType
from urllib.error import HTTPError, URLError

from msdn import __version__

PASSING_CODES = (408, 425, 429, 500, 502, 503, 504)
CHUNK = 2**18


class MirrorError(Exception):
    """This address will not do: the next one is tried."""


class PassingError(MirrorError):
    """This address may do if asked again."""


class RangeError(PassingError):
    """What has come so far does not fit what the server has now."""


@dataclass
class Reply:
    """An answer that may be read: bytes of the file from `start` on."""

    response: HTTPResponse
    start: int
    total: int | None
    validator: str | None

    def __enter__(self) -> "Reply":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.response.close()

    def read(self) -> bytes:
        """Return the bytes that are there by now, at least one, or none at the end."""
        try:
            return self.response.read1(CHUNK)
        except TimeoutError as error:
            raise PassingError("sends nothing any more") from error
        except (OSError, HTTPException) as error:
            raise PassingError(f"the connection broke ({type(error).__name__})") from error


def open_reply(url: str, start: int, validator: str | None, total: int | None, timeout: float) -> Reply:
    """Ask for `url` from byte `start` on; `validator` and `total` are what the first answer said."""
    if not url.lower().startswith(("http://", "https://")):
        raise MirrorError("is no http or https address")
    headers = {"User-Agent": f"msdn/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    response = _open(url, headers, timeout)
    try:
        return _judge(response, start, total)
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
    validator = _read_validator(response)
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


def _read_validator(response: HTTPResponse) -> str | None:
    tag = response.headers.get("ETag")
    strong = tag if tag and not tag.startswith("W/") else None
    return strong or response.headers.get("Last-Modified")
