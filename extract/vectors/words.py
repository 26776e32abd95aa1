"""Turns an attribute's name into the words whose vectors stand for it."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from msdn.extract.own.csv_rows import read_csv
from msdn.extract.own.mistakes import Report, refuse

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
    table = read_csv(report, ("word",))
    if table is not None and len(table.header.cells) != 2:
        report.add("expected the two columns 'word,replacement'", table.header.line)
    refuse(report.found)
    assert table is not None, "no table and no mistake"
    return {row.cells[0].lower(): row.cells[1] for row in table.rows}
