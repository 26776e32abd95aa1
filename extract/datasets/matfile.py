"""Reads chosen variables of a MATLAB 5 file: numbers, texts, and cells of them; everything else is passed over.

Written here because files come from anywhere: damaged bytes end in a `DatasetError`, never in a crash of the
process, and an unwanted variable (hundreds of megabytes of foreign features) is never unpacked.
"""

import re
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msdn.extract.errors import DatasetError

HEADER_BYTES = 128
PEEK_BYTES = 4096  # of a packed variable: enough for its name
LARGEST = 2**28  # bytes of a wanted variable; the largest list of a dataset takes some 2**20
DEEPEST = 8  # cells within cells
MATRIX, COMPRESSED = 14, 15
CELL, CHAR = 1, 4
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX_FLAG = 0x0800


class _Damaged(Exception):  # noqa: N818 -- caught within this file
    """The bytes break the format's rules."""


def read_mat(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Return those of the named variables that the file holds; cells as object arrays."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            order = _read_byte_order(file.read(HEADER_BYTES))
            return dict(_read_variables(file, order, names))
    except (_Damaged, zlib.error, struct.error, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: cannot be read as a MATLAB 5 file ({error}); fetch it again") from error


def read_created(path: Path) -> str | None:
    """Return the date that the file's header names, as written there."""
    with path.open("rb") as file:
        text = file.read(116).decode("latin-1")
    found = re.search(r"Created on: ([\x20-\x7e]{1,60})", text)
    return found.group(1).strip() if found else None


def _read_byte_order(header: bytes) -> str:
    if header.startswith(b"MATLAB 7.3") or header[:8] == b"\x89HDF\r\n\x1a\n":
        raise _Damaged("it is of version 7.3; save it with MATLAB's option '-v7'")
    orders = {b"IM": "<", b"MI": ">"}
    if len(header) < HEADER_BYTES or header[126:128] not in orders:
        raise _Damaged("it has a different header")
    return orders[header[126:128]]


def _read_variables(file: BinaryIO, order: str, names: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Walk over the variables, unpacking only wanted ones."""
    size = file.seek(0, 2)
    position = HEADER_BYTES
    while position < size:
        file.seek(position)
        kind, length = struct.unpack(order + "II", file.read(8))
        if kind not in (MATRIX, COMPRESSED) or position + 8 + length > size:
            raise _Damaged(f"cut short or damaged at byte {position}")
        start = file.read(min(length, PEEK_BYTES))
        if kind == COMPRESSED:
            start = zlib.decompressobj().decompress(start, PEEK_BYTES)[8:]
        name = _Matrix(start, order).name
        if name in names:
            file.seek(position + 8)
            data = file.read(length)
            yield name, _Matrix(memoryview(_unpack(data))[8:] if kind == COMPRESSED else data, order).read()
        position += 8 + length


def _unpack(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    whole = unpacker.decompress(data, LARGEST)
    if not unpacker.eof:
        raise _Damaged("a packed variable is cut short or beyond 256 MiB")
    return whole


class _Matrix:
    """One variable or cell: its flags, shape and name, read at once; its content on demand."""

    def __init__(self, data: bytes | memoryview, order: str, depth: int = 0) -> None:
        self._data = memoryview(data)
        self._order = order
        self._depth = depth
        self._position = 0
        flags = self._numbers("u4")
        if len(flags) != 2:
            raise _Damaged("a variable has no flags")
        self._kind, self._complex = int(flags[0]) & 0xFF, bool(flags[0] & COMPLEX_FLAG)
        self._shape = tuple(int(n) for n in self._numbers("i4"))
        if len(self._shape) < 2 or min(self._shape) < 0:
            raise _Damaged(f"a variable has shape {self._shape}")
        self._count = int(np.prod(self._shape, dtype=object))
        self.name = bytes(self._next()[1]).decode("latin-1")

    def read(self) -> Any:
        """Return the content: an array, an object array of cells, or a text."""
        if self._kind == CELL:
            return self._read_cells()
        if self._kind == CHAR:
            return self._read_text()
        if self._kind not in CLASSES or self._complex:
            raise _Damaged(f"'{self.name}' holds neither numbers nor text")
        kind, data = self._next()
        if kind not in NUMBERS:
            raise _Damaged(f"'{self.name}' holds no numbers")
        values = np.frombuffer(data, self._order + NUMBERS[kind])
        self._check_count(len(values))
        return values.astype(CLASSES[self._kind]).reshape(self._shape, order="F")

    def _read_cells(self) -> np.ndarray:
        if self._depth >= DEEPEST:
            raise _Damaged("its cells are nested too deeply")
        self._check_count(min(self._count, len(self._data) // 8))  # a cell takes eight bytes at least
        cells = np.empty(self._count, object)
        for number in range(self._count):
            kind, data = self._next()
            if kind != MATRIX:
                raise _Damaged(f"'{self.name}' holds values that are not cells")
            cells[number] = _Matrix(data, self._order, self._depth + 1).read() if len(data) else ""
        return cells.reshape(self._shape, order="F")

    def _read_text(self) -> Any:
        kind, data = self._next()
        if kind in TEXTS:
            suffix = "" if kind == 16 else "-le" if self._order == "<" else "-be"
            letters = list(bytes(data).decode(TEXTS[kind] + suffix, errors="replace"))
        elif kind in NUMBERS and not NUMBERS[kind].startswith("f"):
            codes = np.frombuffer(data, self._order + NUMBERS[kind])
            letters = [chr(code) if 0 <= code < 0xD800 else "\N{REPLACEMENT CHARACTER}" for code in codes]
        else:
            raise _Damaged(f"'{self.name}' holds no text")
        self._check_count(len(letters))
        if not letters:
            return ""
        rows = ["".join(line) for line in np.array(letters, object).reshape(self._shape[0], -1, order="F")]
        return rows[0] if len(rows) == 1 else np.array(rows, object)

    def _check_count(self, count: int) -> None:
        if count != self._count:
            raise _Damaged(f"'{self.name}' has {count} values for shape {self._shape}")

    def _numbers(self, wanted: str) -> np.ndarray:
        kind, data = self._next()
        if NUMBERS.get(kind) != wanted:
            raise _Damaged("a variable's description is damaged")
        return np.frombuffer(data, self._order + wanted)

    def _next(self) -> tuple[int, memoryview]:
        """Return type and bytes of the next part; parts of up to four bytes lie within their tag."""
        rest = self._data[self._position :]
        if len(rest) < 8:
            raise _Damaged("it ends too early")
        (word,) = struct.unpack(self._order + "I", rest[:4])
        if word >> 16:
            kind, length, start, taken = word & 0xFFFF, word >> 16, 4, 8
            if length > 4:
                raise _Damaged("a short part is too long")
        else:
            (length,) = struct.unpack(self._order + "I", rest[4:8])
            kind, start, taken = word, 8, 8 + length + (-length % 8)
        if start + length > len(rest):
            raise _Damaged("it ends too early")
        self._position += min(taken, len(rest))
        return kind, rest[start : start + length]
