"""Files that are whole or not there, room on the disk, and one writer at a time."""

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from types import TracebackType

from msdn.cache.errors import CacheError, MsdnError

UNFINISHED = ".msdn-new"  # ends the names of files that are being written
_LONGEST = 58  # letters of a name that begin the name of its unfinished file: 255 bytes are room for these
_HOLDER = re.compile(rb"process \d+( on |( on?| )?$)")  # begins what a lock's file says
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)  # of file systems without hard links
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP)  # of file systems that do not flush folders


@contextmanager
def new_file(path: Path, *, replaces: bool = True) -> Iterator[Path]:
    """Yield an empty file beside `path`, which takes that name at the end of the block: whole, or not at all.

    Its content is flushed before it gets the name, and the folder afterwards. Where anything fails nothing is left,
    and an OSError names `path`. What killed processes left of the same file is removed.

    Args:
        path: the file to write.
        replaces: whether a file of this name is replaced; otherwise it leads to a FileExistsError, also one that
            appeared meanwhile.
    """
    remove_leftovers(path)
    try:
        beside, fd = _open_beside(path)
        try:
            yield beside
            os.fsync(fd)
            _give_name(beside, path, replaces)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno is None or not str(error.filename or UNFINISHED).endswith(UNFINISHED):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let an OSError of a read or write name the file that it was about."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash leaves the old content or the new, never a part."""
    with new_file(path) as beside:
        beside.write_bytes(content)


def create_file(path: Path, content: bytes, option: str) -> None:
    """Write a file for the user; one that exists is refused, with the advice to choose another `option`."""
    try:
        with new_file(path, replaces=False) as beside:
            beside.write_bytes(content)
    except FileExistsError as error:
        raise exists_already(path, option) from error


def _open_beside(path: Path) -> tuple[Path, int]:
    """Create a file with a name of its own; its lock tells others that somebody writes it."""
    while True:
        beside = path.with_name(f"{path.name[:_LONGEST]}.{secrets.token_hex(4)}{UNFINISHED}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with suppress(FileExistsError):
            fd = os.open(beside, flags, 0o666)
            with suppress(OSError):  # without locks, nobody removes it
                fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return beside, fd
            os.close(fd)  # removed as a leftover between our open and our lock


def _give_name(beside: Path, path: Path, replaces: bool) -> None:
    if replaces:
        beside.replace(path)
        flush_folder(path.parent)
        return
    try:
        path.hardlink_to(beside)  # unlike a rename, it never replaces
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        beside.replace(path)
    try:
        beside.unlink(missing_ok=True)
        flush_folder(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of a file that they were writing; those that live hold its lock."""
    name = re.compile(re.escape(path.name[:_LONGEST]) + r"\.[0-9a-f]{8}" + re.escape(UNFINISHED))
    with suppress(OSError):
        for entry in path.parent.iterdir():
            if name.fullmatch(entry.name):
                _remove_leftover(entry)


def _remove_leftover(path: Path) -> None:
    with suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(fd)


def create_folder(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Make a folder with these files, whole or not at all; return it: where the name is taken, a number ends its name.

    What killed processes left of folders that they were making beside it is removed.
    """
    _remove_unfinished_folders(path.parent)
    place, fd = _make_hidden(path)
    try:
        for name, content in contents.items():
            with named(place / name), (place / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        flush_folder(place)
        place = _give_free_name(place, path)
        flush_folder(path.parent)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    finally:
        os.close(fd)
    return place


def _make_hidden(path: Path) -> tuple[Path, int]:
    """Make a hidden folder; its lock tells others that somebody fills it."""
    while True:
        hidden = path.with_name(f".{path.name[:_LONGEST]}.{secrets.token_hex(4)}{UNFINISHED}")
        with suppress(FileExistsError, FileNotFoundError):  # removed as a leftover before our lock
            hidden.mkdir()
            fd = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            with suppress(OSError):  # without locks, nobody removes it
                fcntl.flock(fd, fcntl.LOCK_EX)
            if hidden.is_dir() and os.path.samestat(os.fstat(fd), hidden.stat()):
                return hidden, fd
            os.close(fd)


def _give_free_name(hidden: Path, path: Path) -> Path:
    number = 1
    while True:
        goal = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            if not os.path.lexists(goal):
                return hidden.rename(goal)
        except OSError as error:  # somebody made a folder or file of that name meanwhile
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        number += 1


def _remove_unfinished_folders(within: Path) -> None:
    for entry in within.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            fd = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry)
            finally:
                os.close(fd)


def make_folder(path: Path) -> None:
    """Create a folder where there is none, and those above it; a power cut takes none of them away."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            flush_folder(folder.parent)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def check_folder(path: Path, option: str) -> None:
    """Refuse a file for the user in a folder that is not there: only folders for output are created."""
    if not path.parent.is_dir():
        raise CacheError(f"{path}: there is no folder {path.parent}; create it, or choose another {option}")


def check_new(path: Path, option: str) -> None:
    """Refuse a file for the user that exists, or whose folder does not."""
    remove_leftovers(path)
    if path.exists():
        raise exists_already(path, option)
    check_folder(path, option)


def exists_already(path: Path, option: str) -> CacheError:
    """What to say of a file that is not overwritten."""
    return CacheError(f"{path}: exists already, and nothing is overwritten; choose another {option}")


def flush_folder(folder: Path) -> None:
    """Make the names inside a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        os.close(fd)


def flush_file(path: Path) -> None:
    """Wait until what was written to a file is on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


def flush_tree(folder: Path) -> None:
    """Wait until all files and folders below a folder are on the disk."""
    os.sync()  # together they are quick, but this tells of no error
    for path in folder.rglob("*"):
        (flush_folder if path.is_dir() else flush_file)(path)
    flush_folder(folder)


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
        content = os.pread(fd, 200, 0)  # only a beginning, where its holder was killed in the middle
        is_ours = b"process ".startswith(content) or bool(_HOLDER.match(content))
        is_plain = stat.S_ISREG(os.fstat(fd).st_mode) and os.fstat(fd).st_nlink == 1
        if not is_plain or not is_ours:
            os.close(fd)
            raise LockError(f"{self._path}: exists and is no lock of msdn's; rename or remove it")

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.lstat())
        except FileNotFoundError:
            return False
