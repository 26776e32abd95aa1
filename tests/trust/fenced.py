"""Runs msdn commands in forked processes, each within limits of time and memory; says what went wrong there."""

import contextlib
import functools
import importlib
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20  # of computing
PATIENCE = 9  # times as long by the clock: the machine may have other things to do
MEMORY = 2**30  # bytes more than the process had that was forked
CANARY = b"canary-5f1d0c-must-never-be-copied"
MARKER = "code-was-run"  # a file that crafted code would make
ODD = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae\xa8\xa9]|\xe2\x81[\xa6-\xa9]")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, what it wrote, and what it took."""

    words: tuple[str, ...]
    code: int
    output: bytes
    seconds: float
    computing: float
    grown: int

    def faults(self) -> Iterator[str]:
        """Everything that must never happen, whatever the file."""
        if self.code < 0:
            yield f"ended by signal {-self.code}"
        if self.seconds > PATIENCE * SECONDS or self.computing > SECONDS:
            yield f"took {self.seconds:.0f} s, computed for {self.computing:.0f} s"
        if self.grown > MEMORY:
            yield f"grew by {self.grown >> 20} MiB"
        if b"Traceback" in self.output:
            yield "traceback"
        if CANARY in self.output:
            yield "showed a file that is none of its own"
        if ODD.search(self.output):
            yield f"wrote control characters: {ODD.search(self.output)!r}"


def import_all() -> None:
    """Import what commands need, once for all processes."""
    from msdn.cli import COMMANDS, load_command

    tables = [entry[1] if isinstance(entry, tuple) else {"": entry} for entry in COMMANDS.values()]
    for place in (place for table in tables for place in table.values()):
        load_command(place)
    for name in (
        "msdn.train.loop.training",
        "msdn.train.measure.evaluate",
        "msdn.extract.pipeline.extraction",
        "msdn.extract.exchange.importing",
        "msdn.extract.exchange.annotating",
        "msdn.app.predict.predictor",
        "msdn.app.report.report",
    ):
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def run(words: Sequence[object], folder: Path) -> Ended:
    """Run one command in a process of its own, in `folder`."""
    told, started = folder.parent / "output", time.monotonic()
    child = os.fork()
    if child == 0:
        _be(list(map(str, words)), folder, told)
    status, used = _wait(child, started + PATIENCE * SECONDS)
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    grown = max(0, used.ru_maxrss - _least()) * 1024
    computing = used.ru_utime + used.ru_stime
    return Ended(tuple(map(str, words)), code, told.read_bytes(), seconds, computing, grown)


@functools.cache
def _least() -> int:
    """What a forked process takes that does nothing, in KiB."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.wait4(child, 0)[2].ru_maxrss


def _wait(child: int, until: float) -> tuple[int, resource.struct_rusage]:
    while time.monotonic() < until:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status, used
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used


def _be(words: list[str], folder: Path, told: Path) -> None:
    """The forked process: never returns."""
    code = 99
    try:
        os.setpgid(0, 0)
        fd = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(fd, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        used = int(re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 3 * MEMORY, used + 3 * MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 1, resource.RLIM_INFINITY))
        os.chdir(folder)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
        from toy_dataset import TOY

        from msdn.cli import main
        from msdn.extract.datasets.registry import DATASETS

        DATASETS["toy"] = TOY

        try:
            main(words, prog_name="msdn")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
