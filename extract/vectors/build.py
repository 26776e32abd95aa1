"""Builds the attribute vectors of a dataset from its attributes' names and a text file of word vectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.home import Home, command_line
from msdn.extract.datasets.proposed_splits import CLASSES_FILE, read_attribute_names, read_class_table
from msdn.extract.datasets.registry import find_spec, is_own_folder
from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import ATTRIBUTES, VECTORS, read_attributes_csv
from msdn.extract.vectors.file import AttributeVectors, write_vectors
from msdn.extract.vectors.words import SPELLING, WordVectors, read_word_vectors, split_name, split_word

GLOVE = "glove/glove.6B.300d.txt"  # below the home's data folder
POOLINGS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "sum": np.sum}
DEFAULT_POOLING = "mean"
UNKNOWN = "unknown words"  # in a source: the unknown words of each attribute that has some


@dataclass(frozen=True)
class Target:
    """The attributes of a dataset."""

    dataset: str
    names: tuple[str, ...]  # none where the files that hold them are missing
    count: int
    path: Path  # where the dataset's vectors lie


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
        fetch = command_line("data", "download", target.dataset)
        raise DatasetError(
            f"the attribute names of '{target.dataset}' are missing, so vectors cannot be built; give finished vectors "
            f"with --from FILE.npz, or fetch the names with: {fetch}"
        )
    return target.names


def find_text_file(home: Home, given: Path | None) -> Path:
    """Return the given file, or GloVe's where it was downloaded."""
    path = given or home.data / GLOVE
    if not path.is_file():
        fetch = command_line("data", "download", "glove", home=home)
        advice = "" if given else f"; give another with --from FILE, or fetch it with: {fetch}"
        raise DatasetError(f"{path}: no such file{advice}")
    return path


def find_target(text: str, home: Home) -> Target:
    """Read what is known of the attributes of a dataset, by its name or its folder; no images are needed."""
    if is_own_folder(text):
        return _find_own(Path(text).expanduser())
    return _find_known(find_spec(text), home.data)


def _find_own(folder: Path) -> Target:
    table = folder / ATTRIBUTES
    if not table.is_file():
        raise DatasetError(f"{table}: no such file; your own dataset is a folder that contains this file")
    names = read_attributes_csv(table).attribute_names
    return Target(folder.resolve().name, names, len(names), folder / VECTORS)


def _find_known(spec: DatasetSpec, data: Path) -> Target:
    if spec.make is not None:
        raise DatasetError(f"the attribute vectors of '{spec.name}' are made with it; nothing to do")
    if spec.attribute_vectors is None:
        raise DatasetError(
            f"the attributes of '{spec.name}' have no names, so there are no words to take vectors from; models learn "
            "the vectors from scratch; nothing to do"
        )
    classes = data / spec.annotations / CLASSES_FILE
    count = read_class_table(classes).attributes.shape[1] if classes.is_file() else None
    names = read_attribute_names(data, spec.attribute_names, count)
    if count is None and not names:
        raise DatasetError(
            f"{data}: neither the attribute names of '{spec.name}' ({spec.attribute_names[0]}) nor its class table "
            f"({spec.annotations}/{CLASSES_FILE}) are there; {spec.how_to_get}"
        )
    return Target(spec.name, names, count or len(names), data / spec.attribute_vectors)


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
        text_file: GloVe's or word2vec's.
        pooling: one of `POOLINGS`.
        spelling: what to look up in place of a word.
        on_progress: called now and then with the bytes read, and those of the whole file.
    """
    words = [split_name(name, spelling) for name in names]
    wanted = {form for found in words for word in found for form in (word, *split_word(word))}
    known = read_word_vectors(text_file, wanted, on_progress)
    found, unknown = zip(*(_look_up(each, known) for each in words), strict=True)
    nameless = [f"'{name}'" for name, vectors in zip(names, found, strict=True) if not vectors]
    if nameless:
        raise DatasetError(
            f"{text_file}: has no word for {len(nameless)} of {len(names)} attributes: {', '.join(nameless)}; "
            "give other words for them with --spelling FILE.csv, a table 'word,replacement'"
        )
    values = np.array([POOLINGS[pooling](vectors, axis=0, dtype=np.float64) for vectors in found])
    plain = {word for name in names for word in split_name(name, {})}
    source: dict[str, Any] = {
        "file": text_file.name,
        "sha256": known.sha256,
        "pooling": pooling,
        "spelling": {word: spelling[word] for word in sorted(plain & set(spelling))},
        UNKNOWN: {name: missing for name, missing in zip(names, unknown, strict=True) if missing},
    }
    return AttributeVectors(values.astype(np.float32), source)


def _look_up(words: list[str], known: WordVectors) -> tuple[list[np.ndarray], list[str]]:
    """Return the words' vectors, and the words that have none; a compound may be known by its parts."""
    forms = [form for word in words for form in ([word] if word in known.vectors else split_word(word))]
    found = [known.vectors[form] for form in forms if form in known.vectors]
    return found, [form for form in forms if form not in known.vectors]
