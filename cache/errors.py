"""The errors that a user can cause; `cli.py` alone turns them into a sentence and an exit code."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

DISK_ERRORS = {
    errno.ENOSPC: "the disk is full; make room and repeat the command",
    errno.EDQUOT: "the disk quota is used up; make room and repeat the command",
    errno.EFBIG: "the file grew beyond what this system allows (see 'ulimit -f'); choose another place",
    errno.EIO: "the disk failed (input/output error); check it, and repeat the command",
    errno.EACCES: "permission denied; choose a place you may write to",
    errno.EPERM: "operation not permitted; choose a place you may write to",
    errno.EROFS: "the file system is read-only; choose a place you may write to",
}


class MsdnError(ValueError):
    """Something the user can fix: the message says what, where, and what to do."""


class CacheError(MsdnError):
    """A feature cache is missing, incomplete, foreign, damaged, or not the one expected."""


class WrongUsageError(MsdnError):
    """What was asked for makes no sense, whatever the files: exit code 2."""


class UnknownNameError(WrongUsageError):
    """A name that no registry knows."""

    def __init__(self, kind: str, name: str, known: Iterable[str], otherwise: str = "") -> None:
        """Name the nearest and all known names, and what else would do (`otherwise`)."""
        names = sorted(known)
        hint = nearest(name, names)
        super().__init__(f"unknown {kind} '{name}'. {hint}Known: {', '.join(names)}{otherwise}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The question whether a known name was meant, or nothing where none is near."""
    near = get_close_matches(name, sorted(known), n=1)
    return f"Did you mean '{near[0]}'? " if near else ""


@contextmanager
def explain_damage(path: Path | str, what: str, advice: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while a damaged file is read into one sentence."""
    try:
        yield
    except MsdnError:
        raise
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CacheError(f"{path}: {what} ({why}){advice}") from error


def explain_os_error(error: OSError) -> str:
    """One sentence: where, what, and what to do where that is known."""
    where = f"{error.filename}: " if error.filename else ""
    what = DISK_ERRORS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    return f"{where}{what}"
