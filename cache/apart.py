"""Reads a foreign HDF5 file in a process of its own: whatever the file does to the library, it cannot do here.

That process has a limit of memory and of computing time, and nothing to write to but a pipe. A file that sends the
library into an endless loop, makes it crash or fills the memory ends that process, and here in a sentence.
"""

import json
import os
import resource
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from msdn.cache.errors import CacheError, MsdnError

MEMORY = 3 * 2**30  # bytes of address space; a block of features and its chunk take a third
SECONDS = 15  # of computing for one answer; a block of 256 MiB is unpacked in two or three
PATIENCE = 120  # seconds without a byte: a disk may be slow
LONGEST = 2**28  # bytes of JSON in one answer
_LENGTH = struct.Struct("<Q")
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from msdn.cache.apart import serve; serve()"
)

Arrays = dict[str, np.ndarray]
Answer = tuple[Any, Arrays]  # plain JSON, and arrays by name


class Apart:
    """A process that has opened a file with `module:function`, and answers questions about it.

    The function takes the path and returns one that takes a question and gives its answer.
    """

    def __init__(self, path: Path, opener: str) -> None:
        """Start it; what is wrong with the file is told at the first question."""
        self._path = path
        settings = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), os.fspath(path), opener],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=settings,
        )

    def __enter__(self) -> "Apart":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, question: Any, seconds: int = SECONDS) -> Answer:
        """Ask, and wait for the answer, which may take so many seconds of computing."""
        assert self._process.stdin is not None
        try:
            _send(self._process.stdin, [question, seconds], {})
        except BrokenPipeError:
            raise self._explain() from None
        facts = json.loads(self._receive(self._length(LONGEST)))
        if "error" in facts:
            raise CacheError(facts["error"])
        arrays = {}
        for name, kind, shape in facts["arrays"]:
            array = np.empty(shape, kind)
            self._receive_into(array.reshape(-1).view(np.uint8).data)
            arrays[name] = array
        return facts["value"], arrays

    def _length(self, limit: int) -> int:
        (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
        if length > limit:
            raise self._explain()
        return int(length)

    def _receive(self, count: int) -> bytes:
        data = bytearray(count)
        self._receive_into(memoryview(data))
        return bytes(data)

    def _receive_into(self, room: memoryview) -> None:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while room:
            ready, _, _ = select.select([pipe], [], [], PATIENCE)
            done = os.readv(pipe, [room]) if ready else 0
            if not done:
                raise self._explain()
            room = room[done:]

    def _explain(self) -> CacheError:
        limits = f"some seconds of computing or {MEMORY >> 30} GB of memory"
        return CacheError(
            f"{self._path}: cannot be read: the HDF5 library crashed on it, or needed more than {limits}; the file is "
            "damaged, or made to do so"
        )


def serve() -> None:
    """Answer questions from standard input until it ends: the other process's whole program."""
    _, _, path, opener = sys.argv
    _limit(resource.RLIMIT_AS, MEMORY)
    _limit(resource.RLIMIT_CORE, 0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    answer: Callable[[Any], Answer] | None = None
    while head := sys.stdin.buffer.read(_LENGTH.size):
        question, seconds = json.loads(sys.stdin.buffer.read(_LENGTH.unpack(head)[0]))["value"]
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)
        try:
            answer = answer or _find(opener)(Path(path))
            _send(answers, *answer(question))
        except MsdnError as error:
            _send(answers, None, {}, str(error))
        except MemoryError:
            _send(
                answers,
                None,
                {},
                f"{path}: needs more than {MEMORY >> 30} GB of memory to be read; it is damaged",
            )


def _limit(what: int, wanted: int) -> None:
    """Set a limit for this process, or keep a smaller one that it was given."""
    _, most = resource.getrlimit(what)
    with suppress(ValueError, OSError):  # not every system has every limit
        resource.setrlimit(what, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _find(place: str) -> Callable[[Path], Callable[[Any], Answer]]:
    import importlib

    module, _, name = place.partition(":")
    found: Callable[[Path], Callable[[Any], Answer]] = getattr(importlib.import_module(module), name)
    return found


def _send(pipe: IO[bytes], value: Any, arrays: Arrays, error: str | None = None) -> None:
    ready = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    facts: dict[str, Any] = {"value": value, "arrays": _describe(ready)}
    data = json.dumps(facts if error is None else {"error": error}).encode()
    pipe.write(_LENGTH.pack(len(data)) + data)
    for array in ready.values():
        pipe.write(array.reshape(-1).view(np.uint8).data)
    pipe.flush()


def _describe(arrays: Arrays) -> Sequence[tuple[str, str, tuple[int, ...]]]:
    return [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
