"""Attribute names become words, and words have vectors in text files."""

import gzip
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_words import GLOVE, text_file

from msdn.extract.errors import DatasetError
from msdn.extract.vectors.words import SPELLING, read_spelling, read_word_vectors, split_name, split_word


@pytest.mark.parametrize(
    "name, words",
    [
        ("wing color: red (dark)", "wing color red dark"),
        ("bill shape: all-purpose", "bill shape all-purpose"),
        ("head pattern: eyering", "head pattern eye ring"),
        ("size: very large (32 - 72 in)", "size very large 32 72 in"),
        ("newworld", "new world"),
        ("quadrapedal", "quadrupedal"),
        ("vinyl/ linoleum", "vinyl linoleum"),
        ("spectating/ being in an audience", "spectating being in an audience"),
        ("Rock/Stone", "rock stone"),
        ("Flügel_farbe: rötlich", "flügel farbe rötlich"),
        ("हिन्दी नाम", "हिन्दी नाम"),
        ("-- (?) …", "…"),
        (":", ""),
    ],
)
def test_names_become_words(name: str, words: str) -> None:
    assert " ".join(split_name(name)) == words


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_words_of_any_name_can_be_looked_up(name: str) -> None:
    words = split_name(name)
    for word in words:
        assert word and word == word.lower() and not set(word) & set(" \t\n_:,/()")
        assert word.encode("utf-8", "surrogatepass").split() == [word.encode("utf-8", "surrogatepass")]
        assert all(split_word(word))
    assert split_name(" ".join(words), {}) == words


def test_spellings_are_words_themselves() -> None:
    for word, replacement in SPELLING.items():
        assert split_name(word, {}) == [word] and split_name(replacement) == replacement.split()


def test_spelling_files(tmp_path: Path) -> None:
    path = text_file(tmp_path, "word,replacement\nIn,inches\nred,\n", "spelling.csv")
    assert read_spelling(path) == {"in": "inches", "red": ""}
    assert split_name("red, 5 in", read_spelling(path)) == ["5", "inches"]
    with pytest.raises(
        DatasetError, match=r"spelling.csv:1: the header continues with 'a,b', expected 'replacement'"
    ):
        read_spelling(text_file(tmp_path, "word,a,b\nx,y,z\n", "spelling.csv"))
    with pytest.raises(DatasetError, match=r"spelling.csv:1: the first cell is 'in'"):
        read_spelling(text_file(tmp_path, "in,inches\n", "spelling.csv"))


@pytest.mark.parametrize("header", ["", "7 3\n"])
@pytest.mark.parametrize("ending", ["\n", " \n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_all_kinds_of_text_files_are_read(tmp_path: Path, header: str, ending: str, packed: bool) -> None:
    data = (header + GLOVE.replace("\n", ending)).encode()
    path = text_file(tmp_path, gzip.compress(data) if packed else data)
    seen: list[tuple[int, int]] = []
    found = read_word_vectors(path, {"red", "man-made", "nothing"}, lambda *done: seen.append(done))
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {
        "red": [0, 1, 0],
        "man-made": [0, 0, 1],
    }
    size = path.stat().st_size
    assert found.size == 3 and seen[-1] == (size, size)
    assert found.sha256 == sha256(path.read_bytes()).hexdigest()


def test_words_with_spaces_and_foreign_bytes_are_passed_over(tmp_path: Path) -> None:
    """As in glove.840B: the vector of `at home` is not that of `at`."""
    text = "\ufeffof 1 2\nat home 5 5\nat 3 4\nat 7 7\n. . . 1 1\n\u00a0 1 1\n".encode() + b"\xff\xfe 1 1\n"
    found = read_word_vectors(text_file(tmp_path, text), ["of", "at", "home"])
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {"of": [1, 2], "at": [3, 4]}


def test_only_wanted_words_are_kept(tmp_path: Path) -> None:
    path = text_file(tmp_path, "".join(f"w{n} {n} {n / 2}\n" for n in range(30_000)))
    found = read_word_vectors(path, {"w0", "w29999"})
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {
        "w0": [0, 0],
        "w29999": [29999, 14999.5],
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "glove.txt: is empty"),
        ("\n", "line 1: is not a word followed by its numbers"),
        ("hello\n", "line 1: is not a word followed by its numbers"),
        ("once upon a time\n", "line 1: is not a word followed by its numbers"),
        ("wing 1 2\nred 1\n", "line 2: has 1 numbers, expected 2; the file is damaged or cut short"),
        ("wing 1 2\n\n", "line 2: has 0 numbers, expected 2"),
        ("wing 1 2\nblue 1 2", "line 2: has no end; the file is damaged or cut short, fetch it again"),
        ("wing 1 2\nred 1 x\n", "line 2: is not a word followed by its numbers"),
        ("wing 1 2\nred 1 caf\u00e9\n", "line 2: is not a word followed by its numbers"),
        ("wing 1 2\nred 1 nan\n", "line 2: holds a number that is not finite"),
        ("wing 1 2\nred 1 1e39\n", "line 2: holds a number that is not finite"),
        ("2 2\nred 1 2\n", "glove.txt: announces 2 words but holds 1"),
        ("1 2\nred 1 2\nwing 1 2\n", "glove.txt: announces 1 words but holds 2"),
        ("1 0\nred\n", "line 1: is not a word followed by its numbers"),
        ("2 3\nred 1 2\n", "line 2: has 2 numbers, expected 3"),
        ("1 2\nred \0\1\2\3\n", "glove.txt: is binary, expected text"),
        ("red 1 2\n".encode("utf-16"), "glove.txt: is binary, expected text"),
        (b"PK\x03\x04 and so on", "glove.txt: is a zip archive; unpack it"),
        (gzip.compress(GLOVE.encode())[:-12], "glove.txt: cannot be unpacked .*damaged or cut short"),
        (b"\x1f\x8bno gzip", "glove.txt: cannot be unpacked"),
        (gzip.compress(b"a\0b"), "glove.txt: is binary"),
        ("red " + "1" * 2**20 + "\n", "line 1: is too long for a word's vector"),
    ],
)
def test_damaged_and_other_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_word_vectors(text_file(tmp_path, text), {"red"})


def test_a_file_cut_short_anywhere_is_noticed(tmp_path: Path) -> None:
    """But between two lines, where only a header's count can tell."""
    whole = ("7 3\n" + GLOVE).encode()
    for length in range(len(whole)):
        with pytest.raises(DatasetError, match=r"damaged or cut short|is empty|is not a word followed"):
            read_word_vectors(text_file(tmp_path, whole[:length]), {"red"})


WORDS = st.text(st.characters(codec="utf-8", exclude_characters=" \n\r\0"), min_size=1, max_size=8)
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 4).flatmap(lambda d: st.dictionaries(WORDS, st.lists(NUMBERS, min_size=d, max_size=d))))
def test_any_vectors_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, list[float]]
) -> None:
    size = len(next(iter(table.values()), [0, 0]))
    lines = [f"{word} {' '.join(map(repr, numbers))}\n" for word, numbers in table.items()]
    path = text_file(tmp_path_factory.mktemp("any"), f"{len(table)} {size}\n" + "".join(lines))
    wanted = set(list(table)[::2]) | {"absent word"}
    found = read_word_vectors(path, wanted)
    assert set(found.vectors) == wanted - {"absent word"}
    for word, vector in found.vectors.items():
        np.testing.assert_array_equal(vector, np.array(table[word], np.float32))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_give_vectors_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = text_file(tmp_path_factory.mktemp("bytes"), data)
    try:
        assert read_word_vectors(path, {"a", "b"}).size >= 0
    except DatasetError as error:
        assert str(path) in str(error)
