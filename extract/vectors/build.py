"""Builds attribute vectors from attribute names and a text file of word vectors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.home import Home
from msdn.extract.errors import DatasetError
from msdn.extract.vectors.file import AttributeVectors, write_vectors
from msdn.extract.vectors.target import Target, find_target
from msdn.extract.vectors.text_vectors import WordVectors, read_word_vectors
from msdn.extract.vectors.words import SPELLING, split_name, split_word

GLOVE = "glove/glove.6B.300d.txt"  # below the home's data folder
POOLINGS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "sum": np.sum}
DEFAULT_POOLING = "mean"
UNKNOWN = "unknown words"  # in a source: the unknown words of each attribute that has some


def build_vectors(
    names: Sequence[str],
    text_file: Path,
    pooling: str = DEFAULT_POOLING,
    spelling: Mapping[str, str] = SPELLING,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> AttributeVectors:
    """Pool the vectors of each name's words; every word counts as often as the name has it.

    Args:
        names: the attributes' names.
        text_file: GloVe's or word2vec's text file.
        pooling: one of `POOLINGS`.
        spelling: what to look up in place of a word.
        on_progress: called now and then with the bytes read, and those of the whole file.
    """
    words = [split_name(name, spelling) for name in names]
    wanted = {form for found in words for word in found for form in (word, *split_word(word))}
    known = read_word_vectors(text_file, wanted, on_progress)
    found, unknown = zip(*(_look_up(each, known) for each in words), strict=True)
    nameless = [name for name, vectors in zip(names, found, strict=True) if not vectors]
    if nameless:
        raise DatasetError(_describe_nameless(nameless, len(names), text_file))
    values = np.array([POOLINGS[pooling](vectors, axis=0, dtype=np.float64) for vectors in found])
    source: dict[str, Any] = {
        "file": text_file.name,
        "sha256": known.sha256,
        "pooling": pooling,
        "spelling": _spellings_used(names, spelling),
        UNKNOWN: {name: missing for name, missing in zip(names, unknown, strict=True) if missing},
    }
    return AttributeVectors(values.astype(np.float32), source)


def build_for_dataset(
    name: str, home: Home, text_file: Path | None = None, pooling: str = DEFAULT_POOLING
) -> Path:
    """Build the vectors of a known dataset or of an own folder, put them where it is read, and return that place."""
    target = find_target(name, home)
    vectors = build_vectors(named(target), find_text_file(home, text_file), pooling)
    write_vectors(target.path, vectors.values, target.names, vectors.source)
    return target.path


def named(target: Target) -> tuple[str, ...]:
    """Return the attributes' names, without which nothing can be built."""
    if not target.names:
        raise DatasetError(
            f"the attribute names of '{target.dataset}' are missing, so vectors cannot be built; "
            f"'msdn data download {target.dataset}' fetches them, or give finished vectors with --from FILE.npz"
        )
    return target.names


def find_text_file(home: Home, given: Path | None) -> Path:
    """Return the given file, or GloVe's where it was downloaded."""
    path = given or home.data / GLOVE
    if not path.is_file():
        advice = "" if given else "; 'msdn data download glove' fetches it, or give another with --from FILE"
        raise DatasetError(f"{path}: no such file{advice}")
    return path


def _look_up(words: list[str], known: WordVectors) -> tuple[list[np.ndarray], list[str]]:
    """Return the words' vectors, and the words that have none; a compound may be known by its parts."""
    forms = [form for word in words for form in ([word] if word in known.vectors else split_word(word))]
    found = [known.vectors[form] for form in forms if form in known.vectors]
    return found, [form for form in forms if form not in known.vectors]


def _spellings_used(names: Sequence[str], spelling: Mapping[str, str]) -> dict[str, str]:
    plain = {word for name in names for word in split_name(name, {})}
    return {word: spelling[word] for word in sorted(plain & set(spelling))}


def _describe_nameless(nameless: list[str], count: int, text_file: Path) -> str:
    listed = ", ".join(f"'{name}'" for name in nameless)
    return (
        f"{text_file}: knows no word of {len(nameless)} of {count} attributes: {listed}; give other words for them "
        "with --spelling FILE.csv, a table 'word,replacement'"
    )
