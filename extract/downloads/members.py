"""Judges an archive's members before anything of them is written."""

import re
from pathlib import PurePosixPath

from msdn.extract.downloads.errors import ArchiveError

MOST_MEMBERS = 200_000  # AWA2, the largest, has some 40,000


def clean_name(name: str) -> str:
    """Return a member's path without `./` and a trailing `/`; raise where it could lead out of the folder."""
    if not name.isprintable():
        raise ArchiveError(f"a member's name is no plain text: {name!r}")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise ArchiveError(f"a member has an absolute path: {name!r}")
    if "\\" in name:
        raise ArchiveError(f"a member's name holds a backslash: {name!r}")
    if ".." in name.split("/"):
        raise ArchiveError(f"a member's path leads out of the folder: {name!r}")
    return str(PurePosixPath(name))


class Ledger:
    """Counts what is going to be written, and refuses what is too much or there twice."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._members = 0
        self._bytes = 0

    @property
    def files(self) -> int:
        """Files entered so far."""
        return len(self._files)

    @property
    def bytes(self) -> int:
        """Bytes entered so far."""
        return self._bytes

    def count_member(self) -> None:
        """Count one member, wanted or not."""
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise ArchiveError(f"more than {MOST_MEMBERS} members")

    def enter(self, place: str, size: int) -> None:
        """Enter a file of `size` bytes that goes to `place`."""
        folders = {str(parent) for parent in PurePosixPath(place).parents}
        if place in self._files or place in self._folders or folders & self._files:
            raise ArchiveError(f"two members go to the same place: {place!r}")
        self._files.add(place)
        self._folders |= folders
        self._bytes += size
        if size < 0 or self._bytes > self._limit:
            raise ArchiveError(f"unpacks to more than the {self._limit / 1e9:.2f} GB that are allowed")
