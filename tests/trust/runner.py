"""Runs commands under the shim in folders of their own, and compares what they leave."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cases import DECOYS, LEFT, SERVER, Case, base
from shim import CONTROL, Action, Call, Control, Order, compile_shim, read_log
from toy_source import ZIP
from zygote import LIGHT

TIMEOUT = 300.0  # seconds until a command counts as hung: some start processes, on a machine that may be busy
DRY = Order()
_STAMP = re.compile(
    rb"20260101-000000(-\d+)?"
)  # in runs' names, with a number where one of that name is left
_THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
_PLAIN = {
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "Agg",
    "COLUMNS": "200",
    "TERM": "dumb",
    "TZ": "UTC",
    "NO_PROXY": "*",
}
Snapshot = dict[str, str]


class CampaignError(Exception):
    """The campaign itself cannot go on: nothing was found to try, or a command fails without any fault."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    hung: bool
    out: str
    err: str
    calls: int
    hits: int

    @property
    def words(self) -> str:
        """The end of what it said, for a report."""
        return " | ".join(self.err.strip().splitlines()[-3:])[-400:]


class Place:
    """A folder for commands, a copy of what lay there before, and the process that forks them."""

    def __init__(self, root: Path, library: Path, address: str, light: bool = False) -> None:
        """Start the process; a `light` one loads no torch, which each command that needs it then does."""
        self.root = root
        self.folder, self._template = root / "work", root / "template"
        self._log, self._out, self._err = root / "log", root / "stdout", root / "stderr"
        self._touched: list[str] = []
        self._control = Control(root / "control")
        here = Path(__file__).parent
        paths = [str(here / "still"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | _THREADS | _PLAIN
        environment |= {"LD_PRELOAD": str(library), CONTROL: str(root / "control"), SERVER: address}
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        environment.pop("MSDN_HOME", None)
        self._process = subprocess.Popen(
            [sys.executable, str(here / "zygote.py"), *[LIGHT] * light],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,
        )
        if "ready" not in self._answer():
            raise CampaignError("the process that runs commands did not start")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CampaignError("the process that runs commands ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, arguments: tuple[str, ...], order: Order | None = None) -> Ended:
        """Run a command, counted and disturbed as ordered."""
        self._log.unlink(missing_ok=True)
        request = {
            "arguments": arguments,
            "folder": str(self.folder),
            "stdout": str(self._out),
            "stderr": str(self._err),
            "log": str(self._log),
            "timeout": TIMEOUT,
            "order": None if order is None else asdict(order),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        said = [path.read_text(errors="replace") for path in (self._out, self._err)]
        return Ended(answer["status"], answer["hung"], *said, answer["calls"], answer["hits"])

    def log(self) -> list[Call]:
        """The calls of the last command."""
        return read_log(self._log)

    def prepare(self, case: Case) -> None:
        """Make the folder of a case, and keep a copy."""
        for folder in (self.folder, self._template):
            shutil.rmtree(folder, ignore_errors=True)
        base(self.folder)
        for step in case.prepare:
            step(self.folder, self._prepare_with)
        shutil.copytree(self.folder, self._template, symlinks=True)

    def _prepare_with(self, *arguments: str, share: float = 1) -> None:
        """Run a command; with a `share`, kill it when so many of its calls are done."""
        before = self.root / "before"
        if share < 1:
            shutil.copytree(self.folder, before, symlinks=True)
        ended = self.run(arguments, DRY)
        if ended.status == 0 and share < 1:
            shutil.rmtree(self.folder)
            before.rename(self.folder)
            ended = self.run(arguments, Order(Action.KILL, int(share * ended.calls)))
        if ended.status != (0 if share == 1 else -signal.SIGKILL):
            raise CampaignError(f"msdn {' '.join(arguments)}: exit {ended.status}: {ended.words}")

    def restore(self) -> None:
        """Put the folder back as the case found it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._template, self.folder, symlinks=True)

    @property
    def touched_without_fault(self) -> list[str]:
        """Other people's files that the undisturbed command touched: reported once."""
        return self._touched

    def dry_run(self, case: Case) -> tuple[list[Call], Snapshot]:
        """The calls of an undisturbed run, and what it leaves."""
        self.restore()
        self._touched = []
        ended = self.run(case.arguments, DRY)
        if ended.status != 0:
            raise CampaignError(f"{case.name}: without any fault: exit {ended.status}: {ended.words}")
        calls = self.log()
        if not calls:
            raise CampaignError(f"{case.name}: no writing call was found: the shim saw nothing")
        self._touched = self.touched_decoys()
        return calls, self.snapshot()

    def touched_decoys(self) -> list[str]:
        """Other people's files that are not as they were."""
        return [
            name
            for name, content in DECOYS.items()
            if name not in self._touched
            and (not (self.folder / name).is_file() or (self.folder / name).read_bytes() != content)
        ]

    def snapshot(self) -> Snapshot:
        """Every file and folder with a digest of its content."""
        found: Snapshot = {}
        for path in sorted(self.folder.rglob("*")):
            name = _STAMP.sub(b"TIME", os.fsencode(path.relative_to(self.folder))).decode()
            while name in found:
                name += " (another)"
            content = path.read_bytes() if path.is_file() else b"folder"
            found[name] = hashlib.sha256(_STAMP.sub(b"TIME", content)).hexdigest()
        return found

    def go_on(self, case: Case, wanted: Snapshot) -> list[str]:
        """Repeat the command without faults; what is wrong with its end."""
        wrong = []
        for arguments in case.next_commands(self.folder):
            ended = self.run(arguments)
            is_done = bool(case.refuses) and case.refuses in ended.err and ended.status == 1
            if ended.status != 0 and not is_done:
                wrong.append(f"'msdn {arguments[0]} …' again: exit {ended.status}: {ended.words}")
        wrong += [f"touched {name}" for name in self.touched_decoys()]
        may_stay = re.compile(f"{case.adds}|{LEFT}")
        found = {name: was for name, was in self.snapshot().items() if not may_stay.fullmatch(name)}
        return wrong + differences(wanted, found)


def differences(wanted: Snapshot, found: Snapshot) -> list[str]:
    """What is not as it should be at the end."""
    return [
        *(f"missing: {name}" for name in wanted if name not in found),
        *(f"left over: {name}" for name in found if name not in wanted),
        *(f"other bytes: {name}" for name in wanted if name in found and wanted[name] != found[name]),
    ]


@contextmanager
def workshop(count: int = 1, light: bool = False) -> Iterator[list[Place]]:
    """So many places, with a server for the commands that fetch; all is removed at the end."""
    from flaky_server import FlakyServer

    quick = Path("/dev/shm")
    within = quick if os.access(quick, os.W_OK) else None
    with ExitStack() as open_:
        temporary = open_.enter_context(tempfile.TemporaryDirectory(prefix="msdn-trust-", dir=within))
        build = open_.enter_context(
            tempfile.TemporaryDirectory()
        )  # /dev/shm may forbid running what is there
        server = open_.enter_context(FlakyServer())
        server.serve("/toy.zip", ZIP)
        server.serve("/plain.pth", b"weights" * 1000)
        library = compile_shim(Path(build))
        places = []
        for number in range(count):
            root = Path(temporary) / f"place{number}"
            root.mkdir()
            places.append(Place(root, library, server.address, light))
            open_.callback(places[-1].close)
        yield places
