"""Reads a NumPy array of numbers from a pickle without running anything that the pickle asks for.

Three fences, each enough against code: only the opcodes that NumPy's own pickles use, few of them; only the names
that those pickles call; and behind these names stand-ins that rebuild an array from checked parts.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msdn.extract.errors import DatasetError

LARGEST = 2**26  # bytes of a file; the published ones are below one megabyte
MOST_OPCODES = 500  # an array takes fewer than 60; bounds memory and nesting
LARGEST_MEMO = 500  # the unpickler sets memory aside for the highest index at once
NUMBER = re.compile(r"[<>=|]?([iuf][1248])")
# fmt: off
OPCODES = {
    "PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
}
# fmt: on
BY_CODE = {opcode.code: opcode for opcode in pickletools.opcodes}


class _Refused(Exception):  # noqa: N818 -- caught within this file
    """The pickle holds something else than an array of numbers."""


def load_array(path: Path) -> np.ndarray:
    """Return the array of numbers that a pickle holds, and refuse a pickle of anything else."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise DatasetError(f"{path}: is larger than {LARGEST >> 20} MiB, too large for word vectors")
    data = path.read_bytes()
    try:
        _check_opcodes(data)
        result = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
        if not isinstance(result, _Array):
            raise _Refused("it holds no array")
        return result.values
    except Exception as error:  # damaged pickles raise nearly anything
        reason = error if isinstance(error, _Refused) else f"it is damaged: {type(error).__name__}"
        raise DatasetError(
            f"{path}: not read, because only a NumPy array of numbers is read from a pickle ({reason}); "
            "save the vectors with np.savez(FILE, vectors=...) instead"
        ) from error


def _check_opcodes(data: bytes) -> None:
    stream = io.BytesIO(data)
    for _ in range(MOST_OPCODES):
        opcode = BY_CODE[stream.read(1).decode("latin1")]
        if opcode.name not in OPCODES:
            raise _Refused(f"it holds {opcode.name}")
        if opcode.name == "STRING":  # Python 2's bytes, which pickletools takes for ASCII
            argument: Any = stream.readline()
        else:
            argument = opcode.arg.reader(stream) if opcode.arg else None
        if opcode.name.endswith("PUT") and argument not in range(LARGEST_MEMO):
            raise _Refused("it is built to fill the memory")
        if opcode.name == "STOP":
            return
    raise _Refused("it is far too long for one array")


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the names in `NAMES` and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a known name."""
        known = NAMES.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise _Refused(f"it asks for {f'{module}.{name}'[:80]!a}")
        return _StandIn(known)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what lies outside the file."""
        raise _Refused("it points outside the file")


class _StandIn:
    """A function that the pickle may call but not change."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it tries to change a function")


class _Type:
    """What the pickle says of a `numpy.dtype`, only ever a plain number."""

    def __init__(self, text: Any, *_rest: Any) -> None:
        found = NUMBER.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise _Refused("its elements are not plain numbers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise _Refused("its elements are not plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """What the pickle says of an array; `values` once shape, type and bytes agree."""

    def __init__(self, *_arguments: Any) -> None:
        """Take whatever `_reconstruct` is called with: the state says it all."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, fortran, data = state
        self.fill(data, kind, shape, "F" if fortran else "C")

    def fill(self, data: Any, kind: Any, shape: Any, order: Any) -> "_Array":
        """Rebuild the array after checking every part of it."""
        if isinstance(data, str):  # Python 2's bytes
            data = data.encode("latin1")
        if not isinstance(data, bytes | bytearray) or not isinstance(kind, _Type):
            raise _Refused("its elements are not plain numbers")
        if not isinstance(shape, tuple) or any(type(size) is not int or size < 0 for size in shape):
            raise _Refused("its shape is not valid")
        if prod(shape) * kind.dtype.itemsize != len(data) or order not in ("C", "F"):
            raise _Refused("its shape and its bytes contradict each other")
        self.values = np.frombuffer(bytes(data), kind.dtype).reshape(shape, order=order)
        return self


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("it encodes text")
    return text.encode("latin1")


def _refuse_call(*_arguments: Any) -> None:
    raise _Refused("it makes a special kind of array")


NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # protocols 0 to 4
    ("numpy.core.numeric", "_frombuffer"): lambda *parts: _Array().fill(*parts),  # protocol 5
    ("numpy", "ndarray"): _refuse_call,  # only ever an argument of _reconstruct
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,  # bytes in protocols 0 to 2
}
