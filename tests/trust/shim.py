"""The LD_PRELOAD library of shim.c: compiled, told what to do, and its log read."""

import errno
import mmap
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
CONTROL = "MSDN_SHIM_CONTROL"
_BLOCK = struct.Struct("=8s9i1024s1024s")  # `struct control` of shim.c
_MAGIC = b"msdnshim"
_COUNTERS = struct.Struct("=3i")  # armed, calls, hits, behind the magic
_TO_THE_END = 2**31 - 1


class Kind(IntFlag):
    """What a call does, as the shim numbers them."""

    OPEN = 1
    WRITE = 2
    FLUSH = 4
    NAME = 8
    REMOVE = 16
    FOLDER = 32
    SIZE = 64
    COPY = 128
    CLOSE = 256


class Action(IntEnum):
    """What happens at the chosen call."""

    NOTHING = 0
    KILL = 1
    FAIL = 2
    SHORT = 3


KIND_OF = {
    **dict.fromkeys(("open", "open64", "openat", "openat64", "fopen"), Kind.OPEN),
    **dict.fromkeys(("write", "writev", "pwrite", "pwrite64", "pwritev", "pwritev64", "mmap"), Kind.WRITE),
    **dict.fromkeys(("fsync", "fdatasync", "syncfs", "sync"), Kind.FLUSH),
    **dict.fromkeys(("rename", "renameat", "renameat2", "linkat", "symlinkat"), Kind.NAME),
    **dict.fromkeys(("unlink", "rmdir"), Kind.REMOVE),
    **dict.fromkeys(("ftruncate", "truncate", "fallocate"), Kind.SIZE),
    **dict.fromkeys(("copy_file_range", "sendfile", "ficlone"), Kind.COPY),
    "mkdir": Kind.FOLDER,
    "close": Kind.CLOSE,
}
ALL = Kind(511)
WHENS = ("before", "inside", "after")
_GROWS = Kind.OPEN | Kind.WRITE | Kind.FLUSH | Kind.NAME | Kind.FOLDER | Kind.SIZE | Kind.COPY | Kind.CLOSE
_RESTARTED = Kind.OPEN | Kind.WRITE | Kind.FLUSH | Kind.SIZE  # calls that a signal can interrupt
FAULTS: dict[str, tuple[Action, int, Kind]] = {  # name: what, with which errno, at which calls it can happen
    "EIO": (Action.FAIL, errno.EIO, ALL),
    "ENOSPC": (Action.FAIL, errno.ENOSPC, _GROWS),
    "EDQUOT": (Action.FAIL, errno.EDQUOT, _GROWS),
    "EFBIG": (Action.FAIL, errno.EFBIG, Kind.WRITE | Kind.SIZE | Kind.COPY),
    "EINTR": (Action.FAIL, errno.EINTR, _RESTARTED),
    "short": (Action.SHORT, 0, Kind.WRITE | Kind.COPY),
}


@dataclass(frozen=True)
class Order:
    """What the shim is to do: at call `first`, and with `on` at all later ones."""

    action: Action = Action.NOTHING
    first: int = 0
    on: bool = False
    when: str = "before"
    error: int = 0
    kinds: Kind = ALL


@dataclass(frozen=True)
class Call:
    """One line of the log."""

    number: int
    process: int
    name: str
    path: str
    other: str
    bytes: int
    offset: int
    result: int
    mark: str

    @property
    def kind(self) -> Kind:
        """What it does."""
        return KIND_OF[self.name]

    def describe(self, folder: Path) -> str:
        """One line for people."""
        places = " -> ".join(os.path.relpath(path, folder) for path in (self.path, self.other) if path)
        size = f", {self.bytes} bytes" if self.bytes else ""
        return f"call {self.number}: {self.name} {places}{size}"


def why_not() -> str | None:
    """Why the shim cannot be used here; None where it can."""
    if os.uname().sysname != "Linux":
        return "the shim needs Linux (LD_PRELOAD)"
    return None if shutil.which("cc") else "no C compiler (cc) to build the shim"


def compile_shim(folder: Path) -> Path:
    """Build the library in a folder, and return its path."""
    library = folder / "shim.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


class Control:
    """The block that a watched program and its children share with us."""

    def __init__(self, path: Path) -> None:
        """Make the block, or open the one that is there."""
        if not path.exists():
            path.write_bytes(_BLOCK.pack(_MAGIC, *[0] * 9, b"", b""))
        with path.open("r+b") as file:
            self._block = mmap.mmap(file.fileno(), _BLOCK.size)

    def arm(self, folder: Path, log: Path, order: Order) -> None:
        """Count from one again, and do what is ordered to calls below `folder`."""
        last = _TO_THE_END if order.on else order.first
        numbers = (
            1,
            0,
            0,
            order.first,
            last,
            order.action,
            WHENS.index(order.when),
            order.error,
            order.kinds,
        )
        self._block[:] = _BLOCK.pack(_MAGIC, *numbers, os.fsencode(folder), os.fsencode(log))

    def disarm(self) -> tuple[int, int]:
        """Let every call go on; return how many were counted, and at how many something was done."""
        _, calls, hits = _COUNTERS.unpack_from(self._block, len(_MAGIC))
        _COUNTERS.pack_into(self._block, len(_MAGIC), 0, calls, hits)
        return calls, hits


def read_log(path: Path) -> list[Call]:
    """All calls, by their numbers."""
    calls = []
    for line in path.read_text(errors="surrogateescape").splitlines() if path.exists() else []:
        number, process, name, place, other, size, offset, result, mark = line.split("\t")
        numbers = int(size), int(offset), int(result)
        calls.append(Call(int(number), int(process), name, place, other, *numbers, mark))
    return sorted(calls, key=lambda call: call.number)
