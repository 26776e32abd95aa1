"""Looks into a zip file before a library unpacks it: a small file can be made to fill the memory."""

import zipfile
from pathlib import Path
from typing import BinaryIO

LARGEST = 2**30  # bytes that the arrays of an .npz file of ours may unpack to


def check_unpacked(file: Path | BinaryIO, largest: int = LARGEST) -> None:
    """Raise a `ValueError` if the members say that they unpack to more than `largest` bytes."""
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > largest:
        raise ValueError(f"unpacks to {size / 1e9:.2f} GB")


def check_stored(file: Path | BinaryIO) -> None:
    """Raise a `ValueError` if a zip file holds packed members, or sizes that it has no room for.

    torch writes neither, but reads both. What is no zip file is left to whoever reads it.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its members are packed")
    ends = [member.header_offset + member.file_size for member in members]
    starts = sorted(member.header_offset for member in members)
    if any(end > start for end, start in zip(sorted(ends), starts[1:], strict=False)):
        raise ValueError("its members overlap")
