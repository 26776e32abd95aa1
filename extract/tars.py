"""Images inside tar files, as WebDataset keeps them: found once by their place, then read in place.

A path through a tar, `birds-000.tar/robin/1.jpg`, names an image in it, wherever a path of an image is taken.
"""

import os
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from msdn.extract.errors import DatasetError

ENDING = ".tar"
BLOCK = 512  # bytes; a tar ends in two such blocks of zeros
COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}


@dataclass(frozen=True)
class Member:
    """Where a file lies in its tar, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Tar:
    """What a tar holds: its files by their paths in it, and what is there but is no file to be read."""

    members: dict[str, Member]
    unusable: tuple[str, ...]


def split_path(path: Path) -> tuple[Path, str] | None:
    """The tar that a path leads through, and the member's path in it; None for any other path."""
    if f"{ENDING}{os.sep}" not in str(path):
        return None
    for parent in path.parents:
        if parent.suffix == ENDING and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def is_image_file(path: Path) -> bool:
    """Whether an image is there, as a file or in a tar."""
    place = split_path(path)
    return path.is_file() if place is None else place[1] in open_tar(place[0]).members


def size_of(path: Path) -> int:
    """How many bytes an image has, as a file or in a tar."""
    place = split_path(path)
    return path.stat().st_size if place is None else open_tar(place[0]).members[place[1]].size


def read_member(tar: Path, name: str) -> bytes:
    """The bytes of a file in a tar."""
    with tar.open("rb") as file:
        found = _index(tar, *_state(file.fileno())).members.get(name)
        if found is None:
            raise FileNotFoundError(2, "is not in the tar", f"{tar}/{name}")
        data = os.pread(file.fileno(), found.size, found.offset)
    if len(data) < found.size:
        raise OSError(f"the tar {tar} ends within this image")
    return data


def open_tar(path: Path) -> Tar:
    """What a tar holds; raises a `DatasetError` where it is compressed, damaged or cut short."""
    with path.open("rb") as file:
        return _index(path, *_state(file.fileno()))


def _state(fd: int) -> tuple[int, int]:
    """What changes when a file is written again."""
    state = os.fstat(fd)
    return state.st_mtime_ns, state.st_size


@cache
def _index(path: Path, _changed: int, size: int) -> Tar:
    members: dict[str, Member] = {}
    unusable: list[str] = []
    end = 0
    with path.open("rb") as file:
        start = file.read(2)
        if start in COMPRESSED:
            raise DatasetError(
                f"{path}: is compressed, so nothing in it can be read in place; unpack it with '{COMPRESSED[start]}'"
            )
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for one in tar:
                    name = one.name.removeprefix("./")
                    end = one.offset_data + one.size
                    if one.isfile() and not one.issparse() and name not in members:
                        members[name] = Member(one.offset_data, one.size)
                    elif not one.isdir():
                        unusable.append(name)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise DatasetError(
                f"{path}: not a tar file, damaged or cut short ({error}); make or copy it again"
            ) from error
        file.seek(-(-end // BLOCK) * BLOCK)
        if end > size or file.read(BLOCK) != bytes(BLOCK):
            raise DatasetError(f"{path}: cut short or damaged behind {len(members)} files; copy it again")
    return Tar(members, tuple(unusable))
