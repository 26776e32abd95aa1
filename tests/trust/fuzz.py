"""Damages files of every format by their structure, and reads each as the commands do: `python tests/trust/fuzz.py`.

A damaged file has to end in a sentence (an `MsdnError`), or be read exactly as the good one was; a file without a
digest of its own (images, tables, what others publish) may also be read as another file in good order. A failure is a
crash, a hang (over 20 seconds of work, or 3 minutes), a memory that grows by more than a gigabyte, code that runs, a
file written elsewhere, another exception, or a changed value without a sentence. It is printed with what repeats it:

    python tests/trust/fuzz.py --format cache --seed 0 --case 1234
"""

import argparse
import json
import logging
import mmap
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).parents[1])]

from trust.forked import RUNS_CODE  # noqa: E402
from trust.subjects import FORMATS, Format, Sample, digest  # noqa: E402

from msdn.cache.errors import MsdnError  # noqa: E402

SECONDS, GROWTH = 20.0, 2**30  # what one file may take
PATIENCE = 9  # times as long by the clock: the machine may have other things to do
START = 60.0  # seconds that a process may take to begin
RECYCLED_AFTER = 1500  # files that one process reads
KINDS = ("sentence", "same", "other", "failed")


@dataclass
class Tally:
    """What became of a format's files.

    Attributes:
        tried: how many were read.
        deep: how many of them still had the first bytes of a good one.
        ends: how many ended in which way.
        failures: case and what happened.
    """

    tried: int = 0
    deep: int = 0
    ends: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, told: dict[str, Any]) -> None:
        """Count one file."""
        self.tried += 1
        self.deep += told["deep"]
        self.ends[told["end"]] += 1
        if told["end"] == "failed":
            self.failures.append((told["case"], told["what"]))


class Case:
    """One damaged file, the same for the same seed, format and number."""

    def __init__(self, one: Format, seed: int, number: int, good: dict[str, bytes]) -> None:
        rng = Random(f"{seed} {one.name} {number}")
        self.sample: Sample = rng.choice(one.samples)
        ways = [(way, True) for way in self.sample.exact] + [(way, False) for way in self.sample.loose]
        way, self.exact = rng.choice(ways)
        content = good[self.sample.file]
        self.content = way(rng, content)
        for _ in range(5):  # a change that changes nothing proves nothing
            if self.content != content:
                break
            self.content = way(rng, content)
        self.deep = self.content[: self.sample.magic] == content[: self.sample.magic]


class Desk:
    """A format's good files in a folder of this process's own, and what is read from them."""

    def __init__(self, one: Format, template: Path, values: dict[str, str]) -> None:
        self.one, self._values = one, values
        self.folder = Path(tempfile.mkdtemp(dir=template.parent))
        self.files = self.folder / "files"
        shutil.copytree(template, self.files)
        self.good = {sample.file: (template / sample.file).read_bytes() for sample in one.samples}
        self.ran: list[str] = []
        os.chdir(self.folder)

    def watch(self) -> None:
        """From now on note what would run code, or write outside of the folder."""

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in RUNS_CODE:
                self.ran.append(f"{event} {arguments!r:.200}")
            elif event == "open" and self._is_stranger(*arguments[:2]):
                self.ran.append(f"wrote {arguments[0]!r:.200}")

        sys.addaudithook(hook)

    def _is_stranger(self, path: Any, mode: Any) -> bool:
        """Whether a file is opened to be written outside of the folder."""
        if not isinstance(path, str) or not set(str(mode)) & set("wax+"):
            return False
        return not os.path.realpath(path).startswith((str(self.folder), "/dev/"))

    def close(self) -> None:
        """Leave nothing behind."""
        os.chdir("/")
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, case: Case) -> tuple[str, str]:
        """How reading a damaged file ends: one of `KINDS`, and what happened."""
        place = self.files / case.sample.file
        place.write_bytes(case.content)
        self.ran.clear()
        try:
            end = self._end(case)
        finally:
            place.write_bytes(self.good[case.sample.file])
            shutil.rmtree(self.files / "unpacked", ignore_errors=True)
        strangers = [one for one in self.folder.iterdir() if one != self.files]
        if self.ran or strangers:
            for one in strangers:
                shutil.rmtree(one) if one.is_dir() else one.unlink()
            strangers = [one.name for one in strangers]
            return "failed", f"code ran, or a file was written elsewhere: {self.ran} {strangers}"
        return end

    def _end(self, case: Case) -> tuple[str, str]:
        try:
            value = digest(case.sample.read(self.files))
        except MsdnError as error:
            return "sentence", str(error)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return (
                "failed",
                f"{type(error).__name__}: {str(error)[:200]!r} in {Path(where.filename).name}:{where.lineno}",
            )
        if value == self._values[case.sample.file]:
            return "same", ""
        return (
            ("failed", f"{case.sample.file}: a changed value without a sentence")
            if case.exact
            else ("other", "")
        )


def prepare(one: Format, root: Path) -> tuple[Path, dict[str, str]]:
    """Make a format's good files, and read them twice."""
    template = root / one.name / "good"
    template.mkdir(parents=True)
    one.samples[:] = one.make(template)
    values = {}
    for sample in one.samples:
        values[sample.file] = digest(sample.read(template))
        shutil.rmtree(template / "unpacked", ignore_errors=True)
        assert values[sample.file] == digest(sample.read(template)), (
            f"{sample.file} is read differently twice"
        )
        shutil.rmtree(template / "unpacked", ignore_errors=True)
    return template, values


class Worker:
    """A forked process that reads cases; its parent ends it where one takes too long, and starts it again."""

    def __init__(
        self, one: Format, seed: int, numbers: Sequence[int], template: Path, values: dict[str, str]
    ) -> None:
        self.left = list(numbers)
        self._one, self._seed, self._template, self._values = one, seed, template, values
        # when the case in work began, the processor's seconds then, its number: each is written at once
        self._state = memoryview(mmap.mmap(-1, 24)).cast("d")
        self._begin()

    def _begin(self) -> None:
        reading, writing = os.pipe()
        self._note(-1, time.time() + START, START)
        sys.stdout.flush()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                desk = Desk(self._one, self._template, self._values)
                self._work(desk, os.fdopen(writing, "w", buffering=1), parent)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        os.set_blocking(reading, False)
        self._reading, self._buffer = reading, b""

    def _work(self, desk: Desk, out: Any, parent: int) -> None:
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        for sample in self._one.samples:  # whatever is imported late is here before anybody watches
            sample.read(desk.files)
            shutil.rmtree(desk.files / "unpacked", ignore_errors=True)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + GROWTH, size + GROWTH))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        desk.watch()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes there whatever it thinks
        for number in self.left[:RECYCLED_AFTER]:
            if os.getppid() != parent:  # which was killed
                break
            case = Case(self._one, self._seed, number, desk.good)
            self._note(number, time.time(), time.process_time())
            end, what = desk.read(case)
            out.write(json.dumps({"case": number, "deep": case.deep, "end": end, "what": what}) + "\n")
        desk.close()

    def poll(self, tally: Tally) -> bool:
        """Take what was told; false once all cases are done."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        began, used, number = self._state
        is_late = pid == 0 and (
            self._seconds_used() - used > SECONDS or time.time() - began > PATIENCE * SECONDS
        )
        if is_late:
            os.kill(self._pid, signal.SIGKILL)
            pid, status = os.waitpid(self._pid, 0)
        self._take(tally)
        if pid == 0:
            return True
        os.close(self._reading)
        if status:
            what = f"took more than {SECONDS:.0f} seconds" if is_late else f"ended with status {status}"
            if os.WIFSIGNALED(status) and not is_late:
                what = f"ended by signal {os.WTERMSIG(status)}"
            broken = int(number) if number in self.left else self.left[0]
            tally.add({"case": broken, "deep": True, "end": "failed", "what": what})
            self.left = self.left[self.left.index(broken) + 1 :]
        if self.left:
            self._begin()
        return bool(self.left)

    def _note(self, number: int, began: float, used: float) -> None:
        self._state[0], self._state[1], self._state[2] = began, used, number

    def _seconds_used(self) -> float:
        """What the process has had of the processor, which other work does not lengthen."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _take(self, tally: Tally) -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(self._reading, 65536):
                self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            told = json.loads(line)
            tally.add(told)
            self.left = self.left[self.left.index(told["case"]) + 1 :]


def fuzz(one: Format, count: int, seed: int, workers: int, root: Path) -> Tally:
    """Read `count` damaged files of a format in `workers` processes at once."""
    tally = Tally()
    template, values = prepare(one, root)
    shares = [range(start, count, workers) for start in range(min(workers, count))]
    busy = [Worker(one, seed, share, template, values) for share in shares]
    while busy:
        time.sleep(0.02)
        busy = [worker for worker in busy if worker.poll(tally)]
    return tally


def repeat(one: Format, seed: int, number: int, root: Path, keep: Path | None) -> str:
    """Read one damaged file in this process, and say how that ended."""
    template, values = prepare(one, root)
    desk = Desk(one, template, values)
    case = Case(one, seed, number, desk.good)
    if keep:
        keep.write_bytes(case.content)
    desk.watch()
    return f"{case.sample.file}: {': '.join(desk.read(case))}"


def report(name: str, tally: Tally, seed: int, seconds: float) -> None:
    """One line for each format, and one for each kind of failure."""
    ends = ", ".join(f"{tally.ends[kind]} {kind}" for kind in KINDS[:3])
    print(
        f"{name:10} {tally.tried:7} tried, {tally.deep} past the first check, {len(tally.failures)} failed ({ends}; "
        f"{tally.tried / max(seconds, 1e-9):.0f}/s)",
        flush=True,
    )
    shown: dict[str, list[int]] = {}
    for number, what in tally.failures:
        shown.setdefault(what, []).append(number)
    for what, numbers in list(shown.items())[:20]:
        again = f"--format {name} --seed {seed} --case {numbers[0]}"
        print(f"    {len(numbers)} x {what}\n        python tests/trust/fuzz.py {again}", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=8000, help="files of each format")
    parser.add_argument("--format", action="append", choices=[one.name for one in FORMATS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--case", type=int, help="repeat this one file, in this process")
    parser.add_argument("--keep", type=Path, help="with --case: write the damaged file there")
    given = parser.parse_args()
    keep = given.keep and given.keep.absolute()
    failed = tried = 0
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as root:
        for one in FORMATS:
            if given.format and one.name not in given.format:
                continue
            if given.case is not None:
                print(repeat(one, given.seed, given.case, Path(root), keep))
                continue
            began = time.time()
            tally = fuzz(one, given.count, given.seed, given.workers, Path(root))
            report(one.name, tally, given.seed, time.time() - began)
            failed, tried = failed + len(tally.failures), tried + tally.tried
    print(f"{tried} files tried, {failed} failed, seed {given.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
