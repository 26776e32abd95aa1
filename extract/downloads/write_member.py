"""Writes one member of an archive into a new file with plain rights."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msdn.extract.downloads.errors import ArchiveError
from msdn.extract.downloads.files import CHUNK

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write_member(read: Callable[[int], bytes], size: int, path: Path) -> Iterator[int]:
    """Copy `size` bytes to `path`, yielding how many each step wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, NEW_FILE, 0o644), "wb") as file:
        left = size
        while left and (part := read(min(left, CHUNK))):
            file.write(part)
            left -= len(part)
            yield len(part)
    if left:
        raise ArchiveError(f"a member is cut short: {path.name!r}")
