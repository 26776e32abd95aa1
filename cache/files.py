"""Files that are whole or not there, room on the disk, and one writer at a time."""

import errno
import fcntl
import os
import re
import shutil
import socket
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from msdn.cache.errors import CacheError, MsdnError


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash leaves the old content or the new, never a part."""
    beside = path.with_name(path.name + ".partial")
    with os.fdopen(open_itself(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    flush_folder(path.parent)


def check_folder(path: Path, option: str) -> None:
    """Refuse a file for the user in a folder that is not there: only folders for output are created."""
    if not path.parent.is_dir():
        raise CacheError(f"{path}: there is no folder {path.parent}; create it, or choose another {option}")


def check_new(path: Path, option: str) -> None:
    """Refuse a file for the user that exists, or whose folder does not."""
    if path.exists():
        raise exists_already(path, option)
    check_folder(path, option)


def exists_already(path: Path, option: str) -> CacheError:
    """What to say of a file that is not overwritten."""
    return CacheError(f"{path}: exists already, and nothing is overwritten; choose another {option}")


def flush_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_free_space(path: Path, needed: int) -> None:
    """Raise unless `needed` bytes are free where `path` is to be written."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise CacheError(
            f"{path.parent}: the features need {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free; "
            "make room or choose another place"
        )


def open_itself(path: Path, flags: int) -> int:
    """Open a file that msdn writes to in place, and return its descriptor; a link in its place is refused.

    A folder that came from elsewhere may hold a link of that name to any file of the user's.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise CacheError(f"{path}: is a link, and nothing is written through it; remove it") from error


class LockError(MsdnError):
    """Somebody else holds the lock, or the file system has none to give."""


class FileLock:
    """Hold an OS lock on the sidecar file `path` for the length of a `with` block.

    The sidecar is removed at its end; when the holder dies, the kernel frees the lock.
    """

    def __init__(self, path: Path, what: str, waits: bool = False) -> None:
        """`what` names, for the error message, what the holder is doing; with `waits` there is no such error."""
        self._path = path
        self._what = what
        self._flags = fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB
        self._fd = -1

    def __enter__(self) -> "FileLock":
        while self._fd < 0:
            fd = open_itself(self._path, os.O_RDWR | os.O_CREAT)
            try:
                self._take(fd)
            except BaseException:
                os.close(fd)
                raise
            if not self._is_current(fd):  # the last holder removed the file between our open and our lock
                os.close(fd)
                continue
            self._refuse_foreign(fd)
            self._fd = fd
        with suppress(OSError):  # only a hint for others, and the disk may be full
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(self._fd)
            self._fd = -1

    def _take(self, fd: int) -> None:
        try:
            fcntl.flock(fd, self._flags)
        except BlockingIOError as error:
            holder = os.pread(fd, 200, 0).decode(errors="replace") or "another process"
            raise LockError(f"{holder} is {self._what} already; wait for it or stop it") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
            raise LockError(
                f"{self._path}: this file system offers no locks; use a folder on a local disk"
            ) from error

    def _refuse_foreign(self, fd: int) -> None:
        """Leave a file alone that is no lock: it would be emptied and removed."""
        is_ours = re.match(rb"(process \d+ on |$)", os.pread(fd, 200, 0)) and os.fstat(fd).st_nlink == 1
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not is_ours:
            os.close(fd)
            raise LockError(f"{self._path}: exists and is no lock of msdn's; rename or remove it")

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.lstat())
        except FileNotFoundError:
            return False
