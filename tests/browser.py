"""A headless Chromium, spoken to over a pipe: pages opened at any width, what they say, and how they look."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PHONE, DESKTOP = 390, 1280  # CSS pixels
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)


class Page:
    """The browser's one page.

    Attributes:
        said: messages of the console and errors of the page, as the browser tells them.
        asked_for: the addresses that the page loaded.
    """

    def __init__(self, to_browser: Any, from_browser: Any) -> None:
        self._to, self._from, self._number, self._session = to_browser, from_browser, 0, ""
        self.said: list[str] = []
        self.asked_for: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path: Path, width: int = DESKTOP, dark: bool = False) -> None:
        """Load a file at a device's true width and wait until all of it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._read()

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self, path: Path, top: int = 0, height: int | None = None) -> Path:
        """A picture of the page from `top` on, all of it or so many pixels."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": top,
            "width": size["width"],
            "height": height or size["height"] - top,
            "scale": 1,
        }
        told = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(b64decode(told["data"]))
        return path

    def close(self) -> None:
        """Ask the browser to end, so that it leaves nothing half written."""
        self._to.write(json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self._to.flush()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])

    def _read(self) -> dict[str, Any]:
        content = bytearray()
        while (letter := self._from.read(1)) != b"\0":
            assert letter, "the browser has ended"
            content += letter
        message: dict[str, Any] = json.loads(content)
        method, told = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.asked_for.append(told["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(told))
        return message


@contextmanager
def open_browser(folder: Path) -> Iterator[Page]:
    """Start the browser with a profile in a folder; it ends with the block."""
    assert BROWSER is not None
    into, to = os.pipe()
    back, out = os.pipe()
    command = [BROWSER, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    shell = f'exec "$@" 3<&{into} 4>&{out}'
    with subprocess.Popen(
        ["bash", "-c", shell, "bash", *command], pass_fds=(into, out), stderr=subprocess.DEVNULL
    ) as process:
        os.close(into)
        os.close(out)
        with os.fdopen(to, "wb") as writing, os.fdopen(back, "rb") as reading:
            try:
                page = Page(writing, reading)
                yield page
                page.close()
                process.wait(timeout=20)
            finally:
                process.kill()
