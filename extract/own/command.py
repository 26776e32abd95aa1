"""`msdn data check`: is a dataset in good order, what does it hold, and what is to be fixed?"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from msdn.cache.home import Home, command_line, find_caches, home_option, typed_dataset
from msdn.terminal import fit_fact, json_option, note_console, print_json, tell

if TYPE_CHECKING:
    import numpy as np

    from msdn.cache.annotations import Annotations
    from msdn.extract.datasets.spec import Dataset

NAMED = 20  # classes of a kind that are shown


@click.command()
@click.argument("dataset", metavar="FOLDER|NAME")
@click.option(
    "--write-splits",
    is_flag=True,
    help="Write the splits to FOLDER/splits.csv, so that they do not change later.",
)
@json_option
@home_option
def check(dataset: str, home: Home, write_splits: bool, as_json: bool) -> None:
    """Check a folder of images with its attributes.csv, or a known dataset; name every mistake.

    Image files are opened but not decoded; 'msdn extract' finds damage further down in a file.
    """
    from msdn.cache.errors import WrongUsageError
    from msdn.extract.datasets.registry import is_own_folder, open_dataset
    from msdn.extract.errors import DatasetError
    from msdn.extract.own.folder import SPLITS, find_mistakes
    from msdn.extract.own.splits import write_splits_csv
    from msdn.extract.pipeline.reading import require_images
    from msdn.terminal import escape

    own, folder = is_own_folder(dataset), Path(dataset).expanduser()
    if write_splits and not own:
        raise WrongUsageError(f"--write-splits is only for your own folder; '{dataset}' has published splits")
    with note_console().status("looking at every image"):
        mistakes = find_mistakes(folder) if own else []
    if as_json and mistakes:
        print_json({"ok": False, "mistakes": list(map(str, mistakes))})
    for mistake in mistakes:
        if not as_json:
            tell(str(mistake))
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise DatasetError(escape(f"{count} in {dataset}; fix what is named above and check again"))
    opened = open_dataset(dataset, home)
    require_images(opened, range(len(opened.annotations.image_paths)))
    if write_splits:
        write_splits_csv(folder / SPLITS, opened.annotations)
        opened = open_dataset(dataset, home)
    following = _next_command(opened, dataset, home)
    make_vectors = command_line("data", "vectors", typed_dataset(dataset), home=home)
    facts = [*_describe(opened, make_vectors), ("next", following)]
    if as_json:
        print_json(
            {"ok": True, "mistakes": [], "facts": [{"name": name, "value": line} for name, line in facts]}
        )
        return
    for label, line in facts:
        for shown in fit_fact(label, escape(line), 11):
            click.echo(shown)


def _next_command(opened: "Dataset", typed: str, home: Home) -> str:
    """Train where there are features; else extract, with random weights where images were drawn for trying out."""
    from msdn.extract.datasets.registry import DATASETS

    name = opened.annotations.dataset
    if find_caches(home, name):
        return command_line("train", "--dataset", typed_dataset(typed), home=home)
    drawn = name in DATASETS and DATASETS[name].make is not None
    weights = ("--weights", "random") if drawn else ()
    return command_line("extract", "--dataset", typed_dataset(typed), *weights, home=home)


def _describe(dataset: "Dataset", make_vectors: str) -> Iterator[tuple[str, str]]:
    """What a dataset in good order holds; `make_vectors` is the command that makes word vectors."""
    a = dataset.annotations
    sizes = {name: len(rows) for name, rows in a.splits.items()}
    yield "dataset", a.dataset
    training = "{trainval} trainval ({train} train, {val} val)".format(**sizes)
    tests = "{test_seen} test_seen, {test_unseen} test_unseen".format(**sizes)
    yield "images", f"{len(a.image_paths)}: {training}, {tests}"
    kinds = [f"{len(a.seen_classes)} seen", _count_classes(a, "unseen", a.unseen_classes)]
    if len(a.classes_without_images):
        kinds.append(_count_classes(a, "without photos", a.classes_without_images))
    yield "classes", f"{len(a.class_names)}: {', '.join(kinds)}"
    yield "attributes", f"{a.attributes.shape[1]}{_describe_groups(a.attribute_names)}"
    splits = dataset.sources.get("splits", {})
    if "rule" in splits:
        yield "splits", f"none: {splits['rule']}; --write-splits saves them"
    elif "file" in splits:
        yield "splits", splits["file"]
    yield "vectors", _describe_vectors(a, make_vectors)
    for name in (a.class_names[label] for label in a.classes_without_images):
        if "/" in name:
            yield "note", f"class '{name}' can have no photos: no folder's name can hold a '/'"
    for name, values in zip(a.attribute_names, a.attributes.T, strict=False):
        if values.min() == values.max():
            yield "note", f"attribute '{name}' is the same for all classes, so it gives no information"


def _count_classes(a: "Annotations", kind: str, labels: "np.ndarray") -> str:
    """How many classes are of a kind, and the first names."""
    names = ", ".join(a.class_names[label] for label in labels[:NAMED])
    return f"{len(labels)} {kind} ({names}{', …' if len(labels) > NAMED else ''})"


def _describe_groups(names: tuple[str, ...]) -> str:
    """Count attributes by what comes before the colon."""
    if not names:
        return ", without names"
    groups = Counter(name.partition(":")[0].strip() if ":" in name else "no group" for name in names)
    if set(groups) == {"no group"}:
        return ""
    return " in groups: " + ", ".join(f"{group} ({count})" for group, count in groups.items())


def _describe_vectors(a: "Annotations", make_vectors: str) -> str:
    if a.attribute_vectors is not None:
        return f"{len(a.attribute_vectors)} of {a.attribute_vectors.shape[1]} numbers"
    if not a.attribute_names:
        return "none, and no names of attributes to make them from"
    return f"none; --model baseline needs none; make them from the attributes' names with: {make_vectors}"
