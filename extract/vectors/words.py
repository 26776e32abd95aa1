"""Turns attributes' names into words, and finds the words' vectors in a text file, GloVe's or word2vec's."""

import gzip
import io
import re
import unicodedata
import zlib
from collections.abc import Callable, Collection, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from msdn.extract.errors import DatasetError
from msdn.extract.own.mistakes import Report, refuse

BUFFER_BYTES = 2**20
LONGEST_LINE = 2**20
LINES_A_REPORT = 1000  # of progress
FETCH_AGAIN = "the file is damaged or cut short, fetch it again"
BETWEEN_WORDS = re.compile(r"[\s_:;,./\\|()\[\]{}<>\"“”!?&+*=#]+")
SPELLING = {
    # AWA2's predicates are written together, or misspelt
    "buckteeth": "buck teeth",
    "chewteeth": "chewing teeth",
    "flys": "flies",
    "longleg": "long legs",
    "longneck": "long neck",
    "meatteeth": "meat teeth",
    "nestspot": "nest spot",
    "newworld": "new world",
    "oldworld": "old world",
    "quadrapedal": "quadrupedal",
    "strainteeth": "straining teeth",
    "toughskin": "tough skin",
    # CUB's head patterns
    "eyeline": "eye line",
    "eyering": "eye ring",
}


def split_name(name: str, spelling: Mapping[str, str] = SPELLING) -> list[str]:
    """Return a name's words in lower case, spelt as `spelling` says; words with hyphens stay whole."""
    text = unicodedata.normalize("NFC", name).lower()
    words = [word.strip("-'’") for word in BETWEEN_WORDS.split(text)]
    return [spelt for word in words if word for spelt in spelling.get(word, word).split()]


def split_word(word: str) -> list[str]:
    """Return the parts of a word with hyphens, for when the whole has no vector; any other word is its own part."""
    return [part for part in word.split("-") if part]


def read_spelling(path: Path) -> dict[str, str]:
    """Read a CSV file `word,replacement`; an empty replacement leaves the word out."""
    report = Report(path, [])
    table = report.read_csv(("word",), ("replacement",))
    refuse(report.found)
    assert table is not None, "no table and no mistake"
    return {row.cells[0].lower(): row.cells[1] for row in table.rows}


class WordVectors:
    """What a file says of the wanted words, as far as it has been read.

    Attributes:
        vectors: float32 [D] for every word that was found.
        size: D.
        sha256: of the whole file, as it lies on disk.
    """

    def __init__(self, path: Path, wanted: Collection[str], sha256: str) -> None:
        self.vectors: dict[str, np.ndarray] = {}
        self.size = 0
        self.sha256 = sha256
        self._path = path
        self._wanted = {word.encode(): word for word in wanted}

    def read(self, text: "io.BufferedReader[Any]", on_progress: Callable[[], None]) -> None:
        """Take all lines."""
        number, announced = 0, None
        for number, line in enumerate(iter(lambda: text.readline(LONGEST_LINE), b""), start=1):
            if number == 1:
                announced = self._begin(line.removeprefix(b"\xef\xbb\xbf"))
            else:
                self._read_line(number, line)
            if number % LINES_A_REPORT == 0:
                on_progress()
        on_progress()
        if not number:
            raise DatasetError(f"{self._path}: is empty")
        if announced is not None and number - 1 != announced:
            counts = f"announces {announced} words but holds {number - 1}"
            raise DatasetError(f"{self._path}: {counts}; {FETCH_AGAIN}")

    def _begin(self, line: bytes) -> int | None:
        """Learn D from the first line; return the count of words where it announces one."""
        fields = line.split()
        if len(fields) == 2 and len(line) < 40 and fields[0].isdigit() and fields[1].isdigit():
            count, self.size = (int(text) for text in fields)
        else:
            count, self.size = None, len(fields) - 1
        if self.size < 1:
            self._refuse(1, "is not a word followed by its numbers")
        if count is not None:
            return count
        self._read_line(1, line)
        self._parse(1, fields[1:])  # wanted or not: it tells whether these are word vectors at all
        return None

    def _read_line(self, number: int, line: bytes) -> None:
        body = line.rstrip(b" \r\n")
        if not line.endswith(b"\n"):
            reason = "is too long for a word's vector" if len(line) >= LONGEST_LINE else "has no end"
            self._refuse(number, f"{reason}; {FETCH_AGAIN}")
        if body.count(b" ") < self.size:  # every line is checked, though few are parsed
            self._refuse(number, f"has {body.count(b' ')} numbers, expected {self.size}; {FETCH_AGAIN}")
        if body[: body.index(b" ")] in self._wanted:
            word, *numbers = body.rsplit(b" ", self.size)  # some words of glove.840B hold spaces
            if word in self._wanted and self._wanted[word] not in self.vectors:
                self.vectors[self._wanted[word]] = self._parse(number, numbers)

    def _parse(self, number: int, fields: list[bytes]) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                values = np.array([float(text) for text in fields]).astype(np.float32)
        except ValueError:
            self._refuse(number, "is not a word followed by its numbers")
        if not np.isfinite(values).all():
            self._refuse(number, "holds a number that is not finite")
        return values

    def _refuse(self, number: int, reason: str) -> NoReturn:
        raise DatasetError(f"{self._path}, line {number}: {reason}")


def read_word_vectors(
    path: Path, wanted: Collection[str], on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> WordVectors:
    """Read the vectors of the wanted words, none of which holds a space, holding one line at a time.

    Words that the file lacks are left out; of a word that comes twice the first vector counts.

    Args:
        path: lines of a word and its numbers; word2vec's files begin with a line of two counts.
        wanted: the words.
        on_progress: called now and then with the bytes read, and those of the whole file.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    total = path.stat().st_size
    with io.BufferedReader(io.FileIO(path), BUFFER_BYTES) as file:
        digest = file_digest(file, "sha256").hexdigest()
        file.seek(0)
        found = WordVectors(path, wanted, digest)
        try:
            found.read(_open_text(path, file), lambda: on_progress(file.tell(), total))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DatasetError(f"{path}: cannot be unpacked ({error}); {FETCH_AGAIN}") from error
    return found


def _open_text(path: Path, file: "io.BufferedReader[Any]") -> "io.BufferedReader[Any]":
    """Unpack gzip; refuse what else is no text."""
    start = file.peek(4)[:4]
    if start == b"PK\x03\x04":
        raise DatasetError(f"{path}: is a zip archive; unpack it, and give the text file in it")
    if start[:2] == b"\x1f\x8b":
        file = cast("io.BufferedReader[Any]", gzip.GzipFile(fileobj=file))
    if b"\0" in file.peek(4096)[:4096]:
        advice = "save word2vec's binary vectors as text first"
        raise DatasetError(f"{path}: is binary, expected text: a word and its numbers in each line; {advice}")
    return file
