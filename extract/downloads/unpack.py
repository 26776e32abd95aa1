"""Unpacks an archive into an empty folder: nothing lands outside, and nothing dangerous inside."""

import errno
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from msdn.cache.files import named
from msdn.extract.datasets.spec import Source
from msdn.extract.downloads.fetch import Report, ignore_report
from msdn.extract.errors import ArchiveError

SLACK = 4  # an archive that unpacks to more than this many times its source's `room` is refused
MOST_MEMBERS = 200_000  # AWA2, the largest, has some 40,000
LONGEST_HEADER = 2**20  # tarfile reads a long name's whole block into memory
CHUNK = 2**20
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)  # kinds of members of a tar archive
DAMAGED = (
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # a method that zipfile does not know
    LookupError,
    ValueError,
)


def unpack(path: Path, source: Source, folder: Path, report: Report = ignore_report) -> tuple[int, int]:
    """Write the wanted members of an archive to `folder`; return how many files and bytes they are."""
    ledger = Ledger(source, SLACK * source.room)
    try:
        (_unpack_zip if path.suffix == ".zip" else _unpack_tar)(path, folder, ledger, report)
    except ArchiveError as error:
        raise ArchiveError(f"{path.name} is refused: {error}") from error
    except DAMAGED as error:
        raise ArchiveError(f"{path.name} is damaged or cut short ({error})") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # zipfile seeks to nonsense in a damaged file
            raise
        raise ArchiveError(f"{path.name} is damaged or cut short ({error})") from error
    return len(ledger.files), ledger.bytes


class Ledger:
    """Judges members before anything of them is written, and refuses what is too much or there twice."""

    def __init__(self, source: Source, limit: int) -> None:
        self._place = source.place
        self.limit = limit
        self.files: set[str] = set()
        self.bytes = 0
        self._folders: set[str] = set()
        self._members = 0

    def count(self, member: str) -> str:
        """Count a member, wanted or not; return its path without `./` and a trailing `/`."""
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise ArchiveError(f"more than {MOST_MEMBERS} members")
        if not member.isprintable():
            raise ArchiveError(f"a member's name is not plain text: {member!r}")
        if member.startswith("/") or re.match(r"[A-Za-z]:", member):
            raise ArchiveError(f"a member has an absolute path: {member!r}")
        if "\\" in member:
            raise ArchiveError(f"a member's name holds a backslash: {member!r}")
        if ".." in member.split("/"):
            raise ArchiveError(f"a member's path leads out of the folder: {member!r}")
        return str(PurePosixPath(member))

    def enter(self, name: str, size: int) -> str | None:
        """Enter a file of `size` bytes, and return its place; None where it is not wanted."""
        place = self._place(name)
        if place is None:
            return None
        folders = {str(parent) for parent in PurePosixPath(place).parents}
        if place in self.files or place in self._folders or folders & self.files:
            raise ArchiveError(f"two members go to the same place: {place!r}")
        self.files.add(place)
        self._folders |= folders
        self.bytes += size
        if size < 0:
            raise ArchiveError(f"a member has a negative size: {name!r}")
        check_size(self.bytes, self.limit)
        return place


def check_size(size: int, limit: int) -> None:
    """Refuse what is too much."""
    if size > limit:
        raise ArchiveError(f"unpacks to more than the {limit / 1e9:.2f} GB that are allowed")


def _write_member(read: Callable[[int], bytes], size: int, path: Path) -> Iterator[int]:
    """Copy `size` bytes into a new file with plain rights, yielding how many each step wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path), os.fdopen(os.open(path, NEW_FILE, 0o644), "wb") as file:
        left = size
        while left and (part := read(min(left, CHUNK))):
            file.write(part)
            left -= len(part)
            yield len(part)
    if left:
        raise ArchiveError(f"a member is cut short: {path.name!r}")


def _unpack_zip(path: Path, folder: Path, ledger: Ledger, report: Report) -> None:
    """All members are judged before the first is written."""
    with zipfile.ZipFile(path) as archive:
        places = [(info, _judge_zipped(info, ledger)) for info in archive.infolist()]
        done = 0
        for info, place in places:
            if place is not None:
                with archive.open(info) as content:
                    for n in _write_member(content.read, info.file_size, folder / place):
                        done += n
                        report("unpacking", done, ledger.bytes)


def _judge_zipped(info: zipfile.ZipInfo, ledger: Ledger) -> str | None:
    name = ledger.count(info.orig_filename)  # zipfile cuts `filename` at a NUL
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"a member is a link or a device: {name!r}")
    if info.flag_bits & 1:
        raise ArchiveError(f"a member is encrypted: {name!r}")
    return None if info.is_dir() else ledger.enter(name, info.file_size)


def _unpack_tar(path: Path, folder: Path, ledger: Ledger, report: Report) -> None:
    """One pass, each member judged before it is written; unwanted ones count for the limit too."""
    with path.open("rb") as packed, gzip.open(packed) as unpacked:
        stream = ForwardReader(unpacked, ledger.limit)
        total = path.stat().st_size
        with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
            for member in archive:
                name = ledger.count(member.name)
                if member.issym() or member.islnk():
                    raise ArchiveError(f"a member is a link: {name!r} -> {member.linkname!r}")
                if member.type not in PLAIN or member.issparse():
                    raise ArchiveError(f"a member is neither file nor folder: {name!r}")
                place = None if member.isdir() else ledger.enter(name, member.size)
                if place is not None:
                    for _ in _write_member(stream.read_some, member.size, folder / place):
                        report("unpacking", packed.tell(), total)
                report("unpacking", packed.tell(), total)
            stream.finish()


class ForwardReader:
    """The file object that tarfile needs: goes forward only, in small steps, and not beyond a limit."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._position = 0

    def tell(self) -> int:
        """Bytes passed so far."""
        return self._position

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, fewer only at the end; used by tarfile for headers."""
        if not 0 <= size <= LONGEST_HEADER:
            raise ArchiveError(f"a header of {size} bytes")
        parts = bytearray()
        while len(parts) < size and (part := self.read_some(size - len(parts))):
            parts += part
        return bytes(parts)

    def read_some(self, size: int) -> bytes:
        """Return at most `size` bytes, none only at the end."""
        part = self._stream.read(min(size, CHUNK))
        self._position += len(part)
        check_size(self._position, self._limit)
        return part

    def seek(self, position: int) -> None:
        """Pass over the bytes up to `position`."""
        if position < self._position:
            raise ArchiveError("its headers point backwards")
        while self._position < position and self.read_some(position - self._position):
            pass

    def finish(self) -> None:
        """Read on to the end, so that the checksum of all is compared; nothing but zeros may follow."""
        while part := self.read_some(CHUNK):
            if any(part):
                raise ArchiveError("a header is damaged")
