"""The first bytes of a cache file: what it is, where everything lies, and how long it is, readable without HDF5.

They lie in front of the HDF5 structure, in the room that HDF5 calls the user block and passes over. A line names the
format, its version, the length of the JSON that follows and that JSON's SHA-256. msdn opens a cache by them alone: a
structure made to hang or to crash the HDF5 library, or to lead it to other files, is never looked at.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msdn.cache import layout
from msdn.cache.errors import CacheError
from msdn.cache.layout import Place
from msdn.cache.records import Kind, fits, whole

AGAIN = "make it again: 'msdn extract' with --restart"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
LINE = re.compile(rb"msdn-cache (\d{1,6}) ([0-9a-f]{64}) (\d{1,7})\n")
LONGEST_LINE = 96
LARGEST = 2**21  # bytes of the JSON; random weights of a deep network need some 2**15
HEX = re.compile(r"[0-9a-f]{64}")
TYPE = re.compile(r"[<>|]?(f2|f4|f8|i1|i8|u1|u4|u8|S[1-9]\d{0,5})")
MOST_DIMENSIONS = 4
OLDER = 2**16  # bytes from the start in which an older cache names its format


@dataclass(frozen=True)
class Index:
    """Where each dataset lies, by its name in the file, and the digest of all but the rows."""

    digest: str
    places: dict[str, Place]


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 files do, or as a cache of ours does; nothing of it is interpreted."""
    with path.open("rb") as file:
        start = file.read(LONGEST_LINE)
    return start.startswith((SIGNATURE, f"{layout.FORMAT} ".encode()))


def room_for(names: Iterable[str]) -> int:
    """Bytes to keep free in front of the HDF5 structure: a power of two, as HDF5 wants it, and whole pages."""
    far = Place(2**60, (2**60,) * MOST_DIMENSIONS, np.dtype("S100000"))
    needed = len(_pack("f" * 64, dict.fromkeys(names, far), 2**60))
    return max(layout.ALIGNMENT, 1 << (needed - 1).bit_length())


def write_index(path: Path, digest: str, places: Mapping[str, Place]) -> None:
    """Write the index of a file whose HDF5 structure is complete and closed."""
    content = _pack(digest, places, path.stat().st_size)
    if len(content) > min(place.offset for place in places.values() if place.end > place.offset):
        raise ValueError(f"{path}: no room for its index")
    with path.open("rb+") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _pack(digest: str, places: Mapping[str, Place], size: int) -> bytes:
    listed = {name: [place.dtype.str, place.offset, *place.shape] for name, place in sorted(places.items())}
    content = json.dumps({"bytes": size, "digest": digest, "places": listed}).encode()
    return (
        f"{layout.FORMAT} {layout.SCHEMA} {sha256(content).hexdigest()} {len(content)}\n".encode() + content
    )


def read_index(path: Path, file: BinaryIO) -> Index:
    """Read and check the index: every place lies behind it and in the file, and no two share a byte."""
    size = os.fstat(file.fileno()).st_size
    line = LINE.match(file.read(LONGEST_LINE))
    if line is None:
        raise _explain_start(path, file)
    if int(line[1]) != layout.SCHEMA:
        raise CacheError(f"{path}: schema version {int(line[1])}, expected {layout.SCHEMA}; {AGAIN}")
    file.seek(line.end())
    content = file.read(min(int(line[3]), LARGEST))
    if len(content) != int(line[3]) or sha256(content).hexdigest() != line[2].decode():
        raise altered(path, "its index does not match its checksum")
    facts = _read_facts(path, content)
    if size != facts["bytes"]:
        raise CacheError(
            f"{path}: damaged or cut short, {size} bytes long, expected {facts['bytes']}; {AGAIN}"
        )
    places = {
        name: Place(offset, tuple(shape), np.dtype(kind))
        for name, (kind, offset, *shape) in facts["places"].items()
    }
    _check_order(path, places, line.end() + len(content), size)
    return Index(facts["digest"], places)


def _explain_start(path: Path, file: BinaryIO) -> CacheError:
    file.seek(0)
    start = file.read(OLDER)
    if not start.startswith((SIGNATURE, f"{layout.FORMAT} ".encode())):
        return CacheError(f"{path}: not an HDF5 file, expected a cache made by 'msdn extract'")
    if layout.FORMAT.encode() in start:
        return CacheError(
            f"{path}: its first bytes are damaged, of an older schema than {layout.SCHEMA}, or lost where another tool "
            f"copied or repacked it; use the original, or {AGAIN}"
        )
    hint = "a published feature file? 'msdn cache import' reads those"
    return CacheError(f"{path}: an HDF5 file, but not a cache made by 'msdn extract' ({hint})")


def _read_facts(path: Path, content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise altered(path, "its index cannot be read") from error
    kinds: dict[str, Kind] = {"bytes": whole(1), "digest": _is_digest, "places": {"*": _is_place}}
    if not fits(facts, kinds):
        raise altered(path, "its index is not as 'msdn extract' writes it")
    return dict(facts)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and HEX.fullmatch(value) is not None


def _is_place(value: Any) -> bool:
    if not isinstance(value, list) or not 3 <= len(value) <= 2 + MOST_DIMENSIONS:
        return False
    kind, *numbers = value
    is_type = isinstance(kind, str) and TYPE.fullmatch(kind) is not None and np.dtype(kind).isnative
    return is_type and all(fits(number, whole(0)) for number in numbers)


def _check_order(path: Path, places: Mapping[str, Place], start: int, size: int) -> None:
    for name, place in sorted(places.items(), key=lambda one: (one[1].offset, one[1].end)):
        if place.end == place.offset:
            continue  # without a row, it lies nowhere
        if not start <= place.offset < place.end <= size:
            raise altered(path, f"'{name}' has no place in the file")
        start = place.end


def altered(path: Path, what: str) -> CacheError:
    """What to say of a cache that is not as it was written."""
    return CacheError(f"{path}: damaged or changed, {what}; {AGAIN}")
