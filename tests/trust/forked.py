"""Reads published files in forked processes, for speed: `Apart` but for how its process starts.

A Python of its own for each of thousands of damaged files would take hours. So one is started for all of them, with no
more imported than the real one has; it forks a process for each file. That runs what the real one runs, `apart.serve`,
with its limits, and answers through pipes; its death becomes the same sentence. What would run code there, or write a
file, leaves a folder where the fuzz finds it. The real start is tried by `crafted.py` and by the tests of importing.
"""

import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from msdn.cache import apart

RUNS_CODE = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "socket.connect",
    "os.fork",
)
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from trust.forked import breed; breed()"


class Forked(apart.Apart):
    """A forked process that answers questions about a file."""

    def __init__(self, path: Path, opener: str) -> None:
        self._path = path
        self._process = _Process(path, opener)


class _Process:
    """As much of `subprocess.Popen` as `Apart` uses."""

    def __init__(self, path: Path, opener: str) -> None:
        questions, answers = os.pipe(), os.pipe()
        requests = _parent(os.getpid())
        socket.send_fds(
            requests, [json.dumps([os.fspath(path), opener]).encode()], [questions[0], answers[1]]
        )
        self._pid = int(requests.recv(20))
        os.close(questions[0])
        os.close(answers[1])
        self.stdin, self.stdout = os.fdopen(questions[1], "wb"), os.fdopen(answers[0], "rb")

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def communicate(self) -> None:
        for pipe in (self.stdin, self.stdout):
            with suppress(BrokenPipeError):
                pipe.close()


@functools.cache
def _parent(_user: int) -> socket.socket:
    """Start what forks, once for each process that uses it; it ends when that one does."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-c", _START, json.dumps(sys.path)]
    _started.append(
        subprocess.Popen(words, stdin=there, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    )
    there.close()
    return here


_started: list[subprocess.Popen] = []


def breed() -> None:
    """Fork a process for each request: the whole program of what forks."""
    importlib.import_module("msdn.cache.published_reading")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    this = os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        is_file = event == "open" and isinstance(arguments[0], str)
        is_written = is_file and set(str(arguments[1])) & set("wax+")
        if os.getpid() != this and (event in RUNS_CODE or is_written):
            Path(f"ran {event}").mkdir(exist_ok=True)

    sys.addaudithook(hook)
    requests = socket.socket(fileno=0)
    while True:
        words, pipes, *_ = socket.recv_fds(requests, 2**16, 2)
        if not words:
            return
        child = os.fork()
        if child == 0:
            _be(*json.loads(words), pipes)
        for pipe in pipes:
            os.close(pipe)
        requests.send(str(child).encode())


def _be(path: str, opener: str, pipes: list[int]) -> None:
    """The forked process: never returns."""
    try:
        for number, pipe in enumerate(pipes):
            os.dup2(pipe, number)
            os.close(pipe)
        sys.stdin, sys.argv = os.fdopen(0), ["", "", path, opener]
        apart.serve()
    finally:
        os._exit(0)
