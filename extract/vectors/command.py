"""`msdn data vectors`: build a dataset's attribute vectors from words, or import finished ones."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from msdn.cache.errors import MsdnError, WrongUsageError
from msdn.cache.home import Home, command_line, home_option, typed_dataset
from msdn.terminal import json_option, make_bar, note_console, print_json, tell

if TYPE_CHECKING:
    from msdn.extract.vectors.build import Target
    from msdn.extract.vectors.file import AttributeVectors

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("dataset", metavar="NAME|FOLDER")
@click.option(
    "--from",
    "source",
    type=FILE,
    show_default="GloVe in HOME/data",
    help="Word vectors (.txt, .vec, .gz) to build from, or finished attribute vectors (.npz, .pkl) to import.",
)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "sum"]),
    show_default="mean",
    help="How the vectors of a name's words are joined. Both have the same direction and differ only in length, "
    "which MSDN removes; published vectors are sums.",
)
@click.option(
    "--spelling",
    type=FILE,
    help="CSV file 'word,replacement': other words to look up; goes before the built-in spellings.",
)
@json_option
@home_option
def vectors(
    dataset: str, source: Path | None, pooling: str | None, spelling: Path | None, home: Home, as_json: bool
) -> None:
    """Give a dataset word vectors of its attributes.

    They are built from the attributes' names and a text file of word vectors, or imported. A pickle is
    read without running anything in it.
    """
    from msdn.extract.vectors.build import UNKNOWN, find_target
    from msdn.extract.vectors.file import FINISHED, read_vectors, write_vectors

    target = find_target(dataset, home)
    if source is not None and source.suffix.lower() in FINISHED:
        if pooling or spelling:
            raise WrongUsageError(f"{source} holds finished vectors: --pooling and --spelling change nothing")
        found, origin = read_vectors(source, target.names, target.count), f"imported from {source}"
    else:
        found, origin = _build(target, home, source, pooling, spelling)
    write_vectors(target.path, found.values, target.names, found.source)
    count, size = found.values.shape
    unknown, following = found.source.get(UNKNOWN), _next_commands(dataset, target, found, home)
    if as_json:
        facts = {"file": str(target.path), "vectors": count, "numbers": size, "origin": origin}
        print_json({**facts, "unknown_words": unknown or {}, "next": following})
        return
    tell(f"{target.path}: {count} vectors of {size} numbers, {origin}")
    if unknown and isinstance(unknown, dict):
        counts = Counter(str(word) for words in unknown.values() for word in words).most_common()
        listed = ", ".join(f"{word} ({times}×)" if times > 1 else word for word, times in counts)
        advice = "give other words for them with --spelling"
        tell(f"unknown words, left out of {len(unknown)} attributes: {listed}; {advice}")
    for line in following:
        tell(f"next: {line}")


def _build(
    target: "Target", home: Home, source: Path | None, pooling: str | None, spelling: Path | None
) -> tuple["AttributeVectors", str]:
    from rich.progress import DownloadColumn

    from msdn.extract.downloads.download import warn_of_change
    from msdn.extract.vectors.build import DEFAULT_POOLING, build_vectors, find_text_file, named
    from msdn.extract.vectors.words import SPELLING, read_spelling

    names, file, pooling = named(target), find_text_file(home, source), pooling or DEFAULT_POOLING
    words = SPELLING | (read_spelling(spelling) if spelling else {})
    with make_bar(note_console(), DownloadColumn(), what=40, room=18) as bar:
        task = bar.add_task(f"reading {file.name}")
        found = build_vectors(
            names, file, pooling, words, lambda done, total: bar.update(task, completed=done, total=total)
        )
    warn_of_change(file, found.source["sha256"], home)
    return found, f"each the {pooling} of its words in {file}"


def _next_commands(dataset: str, target: "Target", found: "AttributeVectors", home: Home) -> list[str]:
    """Annotate the caches that have other vectors; where there is no cache, extract; else train."""
    import numpy as np

    from msdn.cache.header import read_header
    from msdn.cache.home import find_caches

    caches, stale = find_caches(home, target.dataset), []
    for path in caches:
        try:
            theirs = read_header(path).annotations.attribute_vectors
        except MsdnError:
            continue  # a damaged cache cannot be annotated; whoever opens it is told
        if theirs is None or not np.array_equal(theirs, found.values):
            stale.append(command_line("cache", "annotate", path, "--vectors", target.path))
    return stale or [
        command_line("train" if caches else "extract", "--dataset", typed_dataset(dataset), home=home)
    ]
