"""What a dataset in good order holds, in a few lines."""

import shlex
from collections import Counter
from collections.abc import Iterator

import numpy as np

from msdn.cache.annotations import Annotations
from msdn.extract.datasets.spec import Dataset
from msdn.extract.own.mistakes import escape

NAMED = 20  # unseen classes shown


def summarise(dataset: Dataset, text: str) -> str:
    """Describe a dataset that the user knows as `text`, and name the next command."""
    rows = [*_describe(dataset, shlex.quote(text)), ("next", f"msdn extract --dataset {shlex.quote(text)}")]
    return "\n".join(escape(f"{label:<11} {line}") for label, line in rows)


def _describe(dataset: Dataset, text: str) -> Iterator[tuple[str, str]]:
    a = dataset.annotations
    sizes = {name: len(rows) for name, rows in a.splits.items()}
    yield "dataset", a.dataset
    yield (
        "images",
        f"{len(a.image_paths)}: {sizes['trainval']} trainval ({sizes['train']} train, {sizes['val']} val), "
        f"{sizes['test_seen']} test_seen, {sizes['test_unseen']} test_unseen",
    )
    yield (
        "classes",
        f"{len(a.class_names)}: {len(a.seen_classes)} seen, {len(a.unseen_classes)} unseen ({_name_unseen(a)})",
    )
    yield "attributes", f"{a.attributes.shape[1]}{_describe_groups(a.attribute_names)}"
    splits = dataset.sources.get("splits", {})
    if "rule" in splits:
        yield "splits", f"none: {splits['rule']}; --write-splits writes it down"
    elif "file" in splits:
        yield "splits", splits["file"]
    yield "vectors", _describe_vectors(a, text)
    for name in _find_idle(a):
        yield "note", f"attribute '{name}' is the same for all classes and tells nothing"


def _name_unseen(a: Annotations) -> str:
    names = [a.class_names[label] for label in a.unseen_classes[:NAMED]]
    return ", ".join(names) + (", …" if len(a.unseen_classes) > NAMED else "")


def _describe_groups(names: tuple[str, ...]) -> str:
    """Count attributes by what comes before the colon."""
    if not names:
        return ", without names"
    groups = Counter(name.partition(":")[0].strip() if ":" in name else "no group" for name in names)
    if set(groups) == {"no group"}:
        return ""
    return " in groups: " + ", ".join(f"{group} ({count})" for group, count in groups.items())


def _describe_vectors(a: Annotations, text: str) -> str:
    if a.attribute_vectors is not None:
        return f"{len(a.attribute_vectors)} of {a.attribute_vectors.shape[1]} numbers"
    if not a.attribute_names:
        return "none, and no names of attributes to make them from"
    return f"none; 'msdn data vectors {text}' makes them from the attributes' names, '--model baseline' needs none"


def _find_idle(a: Annotations) -> list[str]:
    idle = np.flatnonzero(np.ptp(a.attributes, axis=0) == 0)
    return [a.attribute_names[column] for column in idle if a.attribute_names]
