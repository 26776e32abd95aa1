"""A server on localhost that behaves as badly as asked, one manner a request."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

Manner = Callable[["Handler", bytes], None]
STEP = 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: FlakyServer = self.server.owner
        server.requests.append((self.path, self.headers.get("Range")))
        manners = server.manners.get(self.path, [status(404)])
        manner = manners.pop(0) if len(manners) > 1 else manners[0]
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
            manner(self, server.contents.get(self.path, b""))

    def start(self, content: bytes) -> int:
        """Where the client wants the file from: its beginning unless range and version fit."""
        asked, version = self.headers.get("Range"), self.headers.get("If-Range")
        fits = version in (None, self.server.owner.tag)
        return min(int(asked[6:-1]), len(content)) if asked and fits else 0

    def head(self, code: int, **headers: str | int) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("ETag", self.server.owner.tag)
        self.end_headers()

    def head_of(self, content: bytes, start: int, length: int | None = None) -> None:
        size = len(content)
        length = size - start if length is None else length
        if start:
            self.head(206, Content_Length=length, Content_Range=f"bytes {start}-{size - 1}/{size}")
        else:
            self.head(200, Content_Length=length)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class FlakyServer:
    """Serves `contents[path]` in the manners of `manners[path]`, one a request, the last one for ever."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.manners: dict[str, list[Manner]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.tag = '"version 1"'
        self.is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.owner = self
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self, path: str, content: bytes, *manners: Manner) -> str:
        """Offer a file; return its address."""
        self.contents[path] = content
        self.manners[path] = list(manners or (whole,))
        return self.address + path

    def ranges(self) -> list[str | None]:
        """The `Range` header of each request so far."""
        return [asked for _, asked in self.requests]

    def __enter__(self) -> "FlakyServer":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()


def whole(handler: Handler, content: bytes) -> None:
    start = handler.start(content)
    handler.head_of(content, start)
    handler.wfile.write(content[start:])


def drop_after(n: int) -> Manner:
    def manner(handler: Handler, content: bytes) -> None:
        start = handler.start(content)
        handler.head_of(content, start)
        handler.wfile.write(content[start : start + n])

    return manner


def drop_and_ignore_ranges(n: int) -> Manner:
    def manner(handler: Handler, content: bytes) -> None:
        handler.head_of(content, 0)
        handler.wfile.write(content[:n])

    return manner


def ignore_ranges(handler: Handler, content: bytes) -> None:
    handler.head_of(content, 0)
    handler.wfile.write(content)


def send_other_part(handler: Handler, content: bytes) -> None:
    """Answer a question for a part with another one."""
    size = len(content)
    handler.head(206, Content_Length=10, Content_Range=f"bytes 0-9/{size}")
    handler.wfile.write(content[:10])


def refuse_range(handler: Handler, content: bytes) -> None:
    handler.head(416, Content_Length=0, Content_Range=f"bytes */{len(content)}")


def announce(extra: int) -> Manner:
    """Send all that was announced, which is `extra` bytes more (or fewer) than there are."""

    def manner(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Length=len(content) + extra)
        handler.wfile.write((content + bytes(max(extra, 0)))[: len(content) + extra])

    return manner


def send_without_length(handler: Handler, content: bytes) -> None:
    handler.head(200, Connection="close")
    handler.wfile.write(content)


def break_a_chunk(handler: Handler, content: bytes) -> None:
    handler.head(200, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n%s\r\n" % (STEP, content[:STEP]))


def send_too_much(handler: Handler, content: bytes) -> None:
    handler.head(200, Connection="close")
    handler.wfile.write(content)
    for _ in range(100):
        handler.wfile.write(bytes(2**16))


def crawl(handler: Handler, content: bytes) -> None:
    handler.head_of(content, 0)
    for n in range(len(content)):
        handler.wfile.write(content[n : n + 1])
        if handler.server.owner.is_over.wait(0.02):
            return


def fall_silent(handler: Handler, content: bytes) -> None:
    handler.head_of(content, 0)
    handler.wfile.write(content[:STEP])
    handler.server.owner.is_over.wait(20)


def take_time(handler: Handler, content: bytes) -> None:
    """Send the file in a second or so, in steps, that a test may kill the client halfway."""
    start = handler.start(content)
    handler.head_of(content, start)
    for n in range(start, len(content), len(content) // 50):
        handler.wfile.write(content[n : n + len(content) // 50])
        time.sleep(0.02)


def status(code: int) -> Manner:
    return lambda handler, content: handler.head(code, Content_Length=0)


def web_page(handler: Handler, content: bytes) -> None:
    page = b"<html>Please log in</html>"
    handler.head(200, Content_Type="text/html; charset=utf-8", Content_Length=len(page))
    handler.wfile.write(page)


def redirect(address: str) -> Manner:
    return lambda handler, content: handler.head(302, Location=address, Content_Length=0)
