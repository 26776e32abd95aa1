"""Reads published files in a forked process, for speed: `Apart` but for how its process starts.

A Python of its own for each of thousands of damaged files would take an hour. This process runs the very function that
the real one runs, `apart.serve`, with its limits, talks through pipes as it does, and its death becomes the same
sentence. What differs: it has inherited what the fuzz imported, and the fuzz's limit of memory, which is the smaller
one. The real start is tried by `crafted.py` and by the tests of `published_reading`.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from msdn.cache import apart


class Forked(apart.Apart):
    """A forked process that answers questions about a file."""

    def __init__(self, path: Path, opener: str) -> None:
        self._path = path
        self._process = _Process(path, opener)


class _Process:
    """As much of `subprocess.Popen` as `Apart` uses."""

    def __init__(self, path: Path, opener: str) -> None:
        questions, answers = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.dup2(questions[0], 0)
                os.dup2(answers[1], 1)
                for pipe in (*questions, *answers):
                    os.close(pipe)
                sys.stdin = os.fdopen(0)
                sys.argv = ["", "", os.fspath(path), opener]
                apart.serve()
            finally:
                os._exit(1)
        os.close(questions[0])
        os.close(answers[1])
        self.stdin, self.stdout = os.fdopen(questions[1], "wb"), os.fdopen(answers[0], "rb")

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def communicate(self) -> None:
        for pipe in (self.stdin, self.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        os.waitpid(self._pid, 0)
