"""Pickles from strangers: arrays of numbers come out, nothing runs, whatever the bytes."""

import copyreg
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdn.extract.errors import DatasetError
from msdn.extract.vectors import safe_pickle
from msdn.extract.vectors.safe_pickle import load_array

TABLE = np.random.RandomState(0).normal(size=(6, 4))
ARRAYS = (
    TABLE,
    TABLE.astype(np.float32),
    TABLE.astype(np.float16),
    TABLE.astype(">f8"),
    np.asfortranarray(TABLE),
    TABLE[::2],
    (TABLE * 100).astype(np.int64),
    (TABLE > 0).astype(np.uint8),
)
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
FLOAT = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "attribute.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_arrays_of_numbers_come_out_as_they_went_in(tmp_path: Path, protocol: int, number: int) -> None:
    array = ARRAYS[number]
    got = load_array(write(tmp_path, pickle.dumps(array, protocol)))
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype


def test_the_published_kind_and_python_2s_are_read(tmp_path: Path) -> None:
    """Written out by hand, so that it does not depend on the NumPy of today."""
    state = b"(I1\n(I1\nI2\nt" + FLOAT + b"I00\n"
    numbers = struct.pack("<2d", 1.5, -2.0)
    for data in (
        b"\x80\x03" + RECONSTRUCT + state + b"C\x10" + numbers + b"tb.",
        RECONSTRUCT + state + b"S" + repr(numbers)[1:].encode() + b"\ntb.",
        b"\x80\x02" + RECONSTRUCT + state + b"U\x10" + numbers + b"tb.",
    ):
        np.testing.assert_array_equal(load_array(write(tmp_path, data)), [[1.5, -2.0]])


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def attacks(marker: Path) -> dict[str, bytes]:
    """Pickles that would make the folder `marker`, and relatives of theirs."""
    make = f"mkdir {marker}"
    code = f"__import__('os').mkdir({str(marker)!r})"
    found = {f"system {protocol}": pickle.dumps(Calls(os.system, make), protocol) for protocol in range(6)}
    text = repr(str(marker)).encode()
    return found | {
        "eval": pickle.dumps(Calls(eval, code)),
        "mkdir": pickle.dumps(Calls(os.mkdir, str(marker))),
        "within an object array": pickle.dumps(np.array([Calls(eval, code)], object)),
        "beside an array": pickle.dumps([TABLE, Calls(eval, code)]),
        "instance": b"(S" + text + b"\nios\nmkdir\n.",
        "object": b"(cos\nmkdir\nS" + text + b"\no.",
        "new object": b"\x80\x02cio\nFileIO\n(S" + text + b"\nS'w'\nt\x81.",
        "runstring": b"cnumpy.testing._private.utils\nrunstring\n(S" + repr(code).encode() + b"\n}tR.",
        "nested name": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93(\x8c\x01at}tR.",
        "dotted way": b"\x80\x04\x8c\x05numpy\x8c\x12f2py.os.system.now\x93(\x8c\x01at R.",
        "attribute": b"c__builtin__\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR.",
        "load": b"cnumpy\nload\n(S" + text + b"\nNI01\ntR.",
        "memory map": b"cnumpy\nmemmap\n(S" + text + b"\nS'f8'\nS'w+'\nI0\n(I1\nttR.",
        "codec": b"c_codecs\nencode\n(V" + b"41" + b"\nVhex\ntR.",
        "state of a function": b"cnumpy\ndtype\n(S'__call__'\ncos\nsystem\ndb.",
        "state of a name": b"cnumpy\ndtype\nN(S'a'\nI1\ntb.",
        "number of its own": b"cnumpy\ndtype\n(S'O'\nI0\nI1\ntR.",
        "fields": FLOAT[:-1].replace(b"NNN", b"N(S'a'\nt(S'b'\nt") + b"b.",
        "persistent": b"Pfile\n.",
        "persistent in binary": b"\x80\x02S'file'\nQ.",
        "extension": b"\x80\x02\x82\x01.",
        "buffer outside": b"\x80\x05\x97.",
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_a_pickle_that_would_run_code_does_not(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    path = write(tmp_path, attacks(marker)[name])
    with pytest.raises(DatasetError, match=r"attribute.pkl: not read, because only a NumPy array of numbers"):
        load_array(path)
    assert not marker.exists()
    monkeypatch.setattr(safe_pickle, "_check_opcodes", lambda _data: None)  # the inner fences hold alone
    with pytest.raises(DatasetError):
        load_array(path)
    assert not marker.exists()


def test_the_attacks_are_real(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for name in ("system 0", "system 4", "eval", "mkdir", "within an object array", "instance", "object"):
        pickle.loads(attacks(marker)[name])
        assert marker.exists(), name
        marker.rmdir()


def test_a_registered_extension_is_not_followed(tmp_path: Path) -> None:
    copyreg.add_extension("os", "mkdir", 250)
    try:
        data = b"\x80\x02\x82\xfa(S" + repr(str(tmp_path / "ran")).encode() + b"\ntR."
        with pytest.raises(DatasetError, match="it holds EXT1"):
            load_array(write(tmp_path, data))
        assert not (tmp_path / "ran").exists()
        pickle.loads(data)
        assert (tmp_path / "ran").exists()
    finally:
        copyreg.remove_extension("os", "mkdir", 250)


def state(shape: bytes, data: bytes) -> bytes:
    return b"\x80\x03" + RECONSTRUCT + b"(I1\n" + shape + FLOAT + b"I00\n" + data + b"tb."


@pytest.mark.parametrize(
    "data, reason",
    [
        (state(b"(L999999999999L\nI9999999\nt", b"C\x00"), "contradict each other"),
        (state(b"(I-1\nI-1\nt", b"C\x08" + bytes(8)), "its shape is not valid"),
        (state(b"(I01\nI1\nt", b"C\x08" + bytes(8)), "its shape is not valid"),
        (state(b"I1\n", b"C\x08" + bytes(8)), "its shape is not valid"),
        (state(b"(I1\nI1\nt", b"C\x07" + bytes(7)), "contradict each other"),
        (state(b"(I1\nI1\nt", b"(I1\nt"), "not plain numbers"),
        (b"cnumpy\nndarray\n((L999999999999L\nttR.", "a special kind of array"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "fill the memory"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),
        (b"(" * 100_000 + b"t" * 99_999 + b".", "too long"),
        (b"\x80\x04" + b")\x85" * 100_000 + b".", "too long"),
        (pickle.dumps(np.array(["text"])), "not plain numbers"),
        (pickle.dumps(np.ones(2, complex)), "not plain numbers"),
        (pickle.dumps(np.ones(2, "f8,i4")), "holds EMPTY_DICT"),
        (pickle.dumps([1.0, 2.0]), "holds EMPTY_LIST"),
        (pickle.dumps(1.0, 0), "holds FLOAT"),
        (pickle.dumps(3), "holds no array"),
        (pickle.dumps(TABLE)[:-40], "damaged"),
        (b"", "damaged"),
        (RECONSTRUCT + b".", "damaged"),
    ],
)
def test_bombs_and_other_content_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        load_array(write(tmp_path, data))


def test_the_error_names_what_was_asked_for(tmp_path: Path) -> None:
    data = pickle.dumps(Calls(os.system, "true"), 3)
    with pytest.raises(DatasetError, match=r"it asks for 'posix.system'\); save the vectors with np.savez"):
        load_array(write(tmp_path, data))
    with pytest.raises(DatasetError, match=r"it asks for 'a\\x1b\[2J\.b'"):
        load_array(write(tmp_path, b"\x80\x04\x8c\x05a\x1b[2J\x8c\x01b\x93."))


def test_large_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"none.pkl: no such file"):
        load_array(tmp_path / "none.pkl")
    monkeypatch.setattr(safe_pickle, "LARGEST", 100)
    with pytest.raises(DatasetError, match="too large"):
        load_array(write(tmp_path, bytes(101)))


GOOD = pickle.dumps(TABLE, 4)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.raises(DatasetError, match="not read"):
        load_array(write(tmp_path_factory.mktemp("bytes"), data))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
def test_a_changed_pickle_gives_an_array_of_numbers_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: bytes
) -> None:
    path = write(tmp_path_factory.mktemp("changed"), GOOD[:place] + change + GOOD[place + len(change) :])
    try:
        assert load_array(path).dtype.kind in "iuf"
    except DatasetError as error:
        assert "not read" in str(error)
