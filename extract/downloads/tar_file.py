"""Unpacks the wanted members of a tar.gz archive in one pass, each judged before it is written."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

from msdn.extract.downloads.errors import ArchiveError
from msdn.extract.downloads.files import CHUNK, Report
from msdn.extract.downloads.members import Ledger, clean_name
from msdn.extract.downloads.write_member import write_member

LONGEST_HEADER = 2**20  # tarfile reads a long name's whole block into memory


def unpack_tar(
    path: Path, folder: Path, place: Callable[[str], str | None], ledger: Ledger, limit: int, report: Report
) -> None:
    """Write the members that have a place to `folder`; the whole archive may hold `limit` bytes."""
    with path.open("rb") as packed, gzip.open(packed) as unpacked:
        stream = ForwardReader(unpacked, limit)
        total = path.stat().st_size
        with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
            for member in archive:
                ledger.count_member()
                name = clean_name(member.name)
                _check_kind(member, name)
                goal = place(name) if member.isreg() else None
                if goal is not None:
                    ledger.enter(goal, member.size)
                    for _ in write_member(stream.read_some, member.size, folder / goal):
                        report("unpacking", packed.tell(), total)
                report("unpacking", packed.tell(), total)
            stream.finish()


def _check_kind(member: tarfile.TarInfo, name: str) -> None:
    if member.issym() or member.islnk():
        raise ArchiveError(f"a member is a link: {name!r} -> {member.linkname!r}")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise ArchiveError(f"a member is neither file nor folder: {name!r}")


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
        if self._position > self._limit:
            raise ArchiveError(f"unpacks to more than the {self._limit / 1e9:.2f} GB that are allowed")
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
