"""The parts of caches and of HDF5 files, and their checksums, repaired after damage."""

import re
import struct
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from random import Random

import h5py
from h5py import h5o
from trust.mutations import Mutator, Region, damage_bytes

from msdn.cache.index import read_index

SUPERBLOCK = 48  # bytes of version 2, the last four of which are its checksum
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class CacheParts:
    """Where the parts of a cache lie: the index's line and JSON, each dataset by name, and what is between them."""

    index: list[Region]
    places: dict[str, Region]
    gaps: list[Region]


def cache_parts(path: Path) -> CacheParts:
    """Find the parts of a good cache; the gaps are the structure of HDF5."""
    with path.open("rb") as file:
        line = file.readline()
        file.seek(0)
        places = {name: (place.offset, place.end) for name, place in read_index(path, file).places.items()}
    places = {name: place for name, place in places.items() if place[0] < place[1]}
    end = len(line) + int(line.split()[3])
    known = [(0, end), *sorted(places.values()), (path.stat().st_size, path.stat().st_size)]
    gaps = [(before[1], after[0]) for before, after in pairwise(known) if before[1] < after[0]]
    return CacheParts([(0, len(line)), (len(line), end)], places, gaps)


def in_index(mutator: Mutator) -> Mutator:
    """Change the JSON of a cache's index, and write it with a length and a SHA-256 that fit."""

    def damage(rng: Random, content: bytes) -> bytes:
        line, behind = content.split(b"\n", 1)
        length = int(line.split()[3])
        made = mutator(rng, behind[:length])
        name, schema, *_ = line.split()
        start = b"%s %s %s %d\n" % (name, schema, sha256(made).hexdigest().encode(), len(made))
        return start + made + content[len(start) + len(made) :]

    return damage


def headers(path: Path) -> list[Region]:
    """Where the object headers of an HDF5 file begin, and some bytes more."""
    with h5py.File(path, "r") as file:
        things = [file["/"]]
        file.visititems(lambda _name, thing: things.append(thing))
        starts = [h5o.get_info(thing.id).addr for thing in things]
    return [(start, start + 300) for start in starts]


def parts(content: bytes) -> list[Region]:
    """The superblock, and whatever has a signature."""
    found = re.finditer(b"OHDR|OCHK|FRHP|BTHD|SNOD|TREE|HEAP|GCOL|FAHD|FADB", content)
    return [(8, SUPERBLOCK), *((one.start() + 4, one.start() + 300) for one in found)]


def with_checksums(mutator: Mutator) -> Mutator:
    """Damage, then repair the checksums of the superblock and of all object headers."""

    def damage(rng: Random, content: bytes) -> bytes:
        return repair(mutator(rng, content))

    return damage


def damage_header(rng: Random, content: bytes) -> bytes:
    """Change one object header, or the superblock."""
    headers = [m.start() for m in re.finditer(b"OHDR", content)]
    if not headers or rng.random() < 0.2:
        return damage_bytes(rng, content, (9, SUPERBLOCK - 4))
    start = rng.choice(headers)
    return damage_bytes(rng, content, (start + 5, start + 5 + rng.choice((20, 80, 300))))


def repair(content: bytes) -> bytes:
    """The same with checksums that fit, as far as the lengths in it can be followed."""
    whole = bytearray(content)
    if len(whole) > SUPERBLOCK and whole[8] in (2, 3):
        whole[SUPERBLOCK - 4 : SUPERBLOCK] = struct.pack("<I", lookup3(bytes(whole[: SUPERBLOCK - 4])))
    for found in re.finditer(b"OHDR", content):
        start = found.start()
        flags = whole[start + 5] if start + 6 < len(whole) else 0
        at = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        end = at + width + int.from_bytes(whole[at : at + width], "little")
        if end + 4 <= len(whole) and end - start < 65_536:
            whole[end : end + 4] = struct.pack("<I", lookup3(bytes(whole[start:end])))
    return bytes(whole)


def lookup3(data: bytes) -> int:
    """Bob Jenkins's hash as HDF5 uses it for its metadata."""
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    if not data:
        return c
    words = struct.unpack(f"<{-(-len(data) // 4)}I", data + bytes(-len(data) % 4))
    whole = (len(data) - 1) // 12
    for at in range(0, 3 * whole, 3):
        a, b, c = a + words[at] & _WORD, b + words[at + 1] & _WORD, c + words[at + 2] & _WORD
        a = (a - c ^ _turn(c, 4)) & _WORD
        c = c + b & _WORD
        b = (b - a ^ _turn(a, 6)) & _WORD
        a = a + c & _WORD
        c = (c - b ^ _turn(b, 8)) & _WORD
        b = b + a & _WORD
        a = (a - c ^ _turn(c, 16)) & _WORD
        c = c + b & _WORD
        b = (b - a ^ _turn(a, 19)) & _WORD
        a = a + c & _WORD
        c = (c - b ^ _turn(b, 4)) & _WORD
        b = b + a & _WORD
    rest = [*words[3 * whole :], 0, 0][:3]
    a, b, c = a + rest[0] & _WORD, b + rest[1] & _WORD, c + rest[2] & _WORD
    c = (c ^ b) - _turn(b, 14) & _WORD
    a = (a ^ c) - _turn(c, 11) & _WORD
    b = (b ^ a) - _turn(a, 25) & _WORD
    c = (c ^ b) - _turn(b, 16) & _WORD
    a = (a ^ c) - _turn(c, 4) & _WORD
    b = (b ^ a) - _turn(a, 14) & _WORD
    return (c ^ b) - _turn(b, 24) & _WORD


def _turn(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _WORD
