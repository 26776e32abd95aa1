"""What a dataset says about its images: labels, classes, attributes, splits. Travels inside the cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from msdn.cache.errors import MsdnError
from msdn.terminal import escape

SPLIT_NAMES = ("trainval", "train", "val", "test_seen", "test_unseen")
LOCATIONS = {  # the published splits, by the names that the Proposed Splits' files have for them
    "trainval": "trainval_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
}
NAME_LISTS = ("image_paths", "class_names", "attribute_names")


class AnnotationError(MsdnError):
    """Annotations that contradict themselves."""


@dataclass(frozen=True)
class Annotations:
    """Everything known of N images in C classes with K attributes.

    Attributes:
        dataset: the dataset's name.
        image_paths: N paths, relative to the dataset's image folder, in row order.
        labels: [N] int64, 0-based class of every image.
        class_names: C names.
        attributes: [C, K] float64, raw as published (not normalised, missing values still negative).
        attribute_names: K names, or none where the dataset has none.
        attribute_vectors: [K, D] float32 word vectors, or None where there are none (yet).
        splits: sorted int64 row indices for each of `SPLIT_NAMES`; train and val divide trainval by class.
    """

    dataset: str
    image_paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    attributes: np.ndarray
    attribute_names: tuple[str, ...]
    attribute_vectors: np.ndarray | None
    splits: dict[str, np.ndarray]

    @property
    def seen_classes(self) -> np.ndarray:
        """Classes with training images, ascending."""
        return np.unique(self.labels[self.splits["trainval"]])

    @property
    def unseen_classes(self) -> np.ndarray:
        """Classes that only `test_unseen` holds, ascending."""
        return np.unique(self.labels[self.splits["test_unseen"]])

    @property
    def classes_without_images(self) -> np.ndarray:
        """Classes that are known by their attributes alone, ascending."""
        return np.setdiff1d(np.arange(len(self.class_names)), self.labels)

    def with_images_only(self) -> "Annotations":
        """The same without `classes_without_images`; the classes that stay are numbered anew."""
        if not len(self.classes_without_images):
            return self
        stay = np.unique(self.labels)
        names = tuple(self.class_names[label] for label in stay)
        labels = np.searchsorted(stay, self.labels)
        return replace(self, labels=labels, class_names=names, attributes=self.attributes[stay])


def settle_types(a: Annotations) -> Annotations:
    """Give every array the type that a cache stores it in."""
    vectors = None if a.attribute_vectors is None else np.asarray(a.attribute_vectors, np.float32)
    return replace(
        a,
        labels=np.asarray(a.labels, np.int64),
        attributes=np.asarray(a.attributes, np.float64),
        attribute_vectors=vectors,
        splits={name: np.asarray(rows, np.int64) for name, rows in a.splits.items()},
    )


def arrange(a: Annotations, image_paths: Sequence[str]) -> Annotations:
    """The same with images in the order of `image_paths`; those that are not among these come behind, as they were.

    A path that the annotations do not have is left out, so that their paths tell whether one was.
    """
    places = {path: row for row, path in enumerate(a.image_paths)}
    first = [places.pop(path) for path in dict.fromkeys(image_paths) if path in places]
    order = np.array([*first, *places.values()], np.int64)
    if np.array_equal(order, np.arange(len(order))):
        return a
    row_of = np.argsort(order)
    return replace(
        a,
        image_paths=tuple(a.image_paths[row] for row in order),
        labels=a.labels[order],
        splits={name: np.sort(row_of[rows]) for name, rows in a.splits.items()},
    )


def cut(a: Annotations, start: int, stop: int) -> Annotations:
    """What is known of the images from row `start` to before row `stop` alone; every class stays."""
    splits = {name: rows[(rows >= start) & (rows < stop)] - start for name, rows in a.splits.items()}
    return replace(a, image_paths=a.image_paths[start:stop], labels=a.labels[start:stop], splits=splits)


def join(parts: Sequence[Annotations]) -> Annotations:
    """Undo `cut`: the images of all parts, one part behind the other."""
    starts = np.cumsum([0, *(len(part.labels) for part in parts)])
    splits = {
        name: np.concatenate(
            [part.splits[name] + start for part, start in zip(parts, starts, strict=False)], dtype=np.int64
        )
        for name in SPLIT_NAMES
    }
    return replace(
        parts[0],
        image_paths=tuple(path for part in parts for path in part.image_paths),
        labels=np.concatenate([part.labels for part in parts]),
        splits=splits,
    )


def digest(a: Annotations) -> str:
    """Hash everything, so that parts of different datasets, or of one that changed, are told apart."""
    a, found = settle_types(a), sha256()
    for texts in ((a.dataset,), *(getattr(a, name) for name in NAME_LISTS)):
        found.update("\0".join(texts).encode(errors="surrogateescape") + b"\0\0")
    vectors = () if a.attribute_vectors is None else (a.attribute_vectors,)
    for array in (a.labels, a.attributes, *vectors, *(a.splits[name] for name in SPLIT_NAMES)):
        found.update(f"{array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:32]


def keep_removed(a: Annotations, before: Annotations, without_features: Sequence[int]) -> Annotations:
    """The same with images that are gone since `before`, behind the others and in no split.

    Only images of `without_features` are kept so, and only where their class is still known: nothing is lost by them.
    """
    here, numbers = set(a.image_paths), {name: number for number, name in enumerate(a.class_names)}
    gone = [
        (before.image_paths[row], numbers[name])
        for row in without_features
        if before.image_paths[row] not in here and (name := before.class_names[before.labels[row]]) in numbers
    ]
    paths, labels = tuple(path for path, _ in gone), [number for _, number in gone]
    return replace(
        a, image_paths=a.image_paths + paths, labels=np.append(a.labels, np.array(labels, a.labels.dtype))
    )


def name_differences(before: Annotations, after: Annotations) -> list[str]:
    """Name what differs between the annotations of the same images."""
    before, after = settle_types(before), settle_types(after)
    changed = [
        name for name in ("class_names", "attribute_names") if getattr(before, name) != getattr(after, name)
    ]
    for name in ("labels", "attributes", "attribute_vectors"):
        if not np.array_equal(getattr(before, name), getattr(after, name)):
            changed.append(name)
    if any(not np.array_equal(before.splits[name], after.splits[name]) for name in SPLIT_NAMES):
        changed.append("splits")
    return [name.replace("_", " ") for name in changed]


def check_annotations(annotations: Annotations, is_part: bool = False) -> None:
    """Raise an `AnnotationError` that names the first contradiction; a part may lack what other parts have."""
    for problem in _problems(annotations, is_part):
        raise AnnotationError(escape(f"{annotations.dataset}: {problem}"))


def _leads_up(path: str) -> bool:
    return ".." in path and ".." in path.split("/")


def _problems(a: Annotations, is_part: bool) -> Iterator[str]:
    if a.attributes.ndim != 2 or a.labels.ndim != 1 or any(rows.ndim != 1 for rows in a.splits.values()):
        yield "attributes must be a table, labels and splits lists"
    n, (c, k) = len(a.image_paths), a.attributes.shape
    if n == 0:
        yield "there are no images"
    outside = next((path for path in a.image_paths if path.startswith("/") or _leads_up(path)), None)
    if outside is not None:
        yield f"the path of image '{outside}' leads out of the folder of images"
    if a.labels.shape != (n,):
        yield f"{len(a.labels)} labels for {n} images"
    if len(a.class_names) != c:
        yield f"{len(a.class_names)} class names for {c} rows of attributes"
    if len(set(a.class_names)) != c:
        yield "two classes have the same name"
    if a.labels.min() < 0 or a.labels.max() >= c:
        yield f"labels run from {a.labels.min()} to {a.labels.max()}, expected 0 to {c - 1}"
    if not np.isfinite(a.attributes).all():
        yield "attributes hold values that are not finite"
    if a.attribute_names and len(a.attribute_names) != k:
        yield f"{len(a.attribute_names)} attribute names for {k} attributes"
    if a.attribute_vectors is not None and (
        a.attribute_vectors.ndim != 2 or not a.attribute_vectors.shape[1]
    ):
        yield f"attribute vectors have shape {a.attribute_vectors.shape}, expected a table [{k}, D]"
    if a.attribute_vectors is not None and len(a.attribute_vectors) != k:
        yield f"{len(a.attribute_vectors)} attribute vectors for {k} attributes"
    if a.attribute_vectors is not None and not np.isfinite(a.attribute_vectors).all():
        yield "attribute vectors hold values that are not finite"
    yield from _split_problems(a, n, is_part)


def _split_problems(a: Annotations, n: int, is_part: bool) -> Iterator[str]:
    if set(a.splits) != set(SPLIT_NAMES):
        yield f"splits are {', '.join(sorted(a.splits))}, expected {', '.join(SPLIT_NAMES)}"
        return
    for name, rows in a.splits.items():
        if len(rows) and (rows.min() < 0 or rows.max() >= n):
            yield f"split '{name}' holds row {rows.min()}..{rows.max()}, but there are {n} images"
            return
        if len(np.unique(rows)) != len(rows):
            yield f"split '{name}' names an image twice"
    for first, second in (
        ("trainval", "test_seen"),
        ("trainval", "test_unseen"),
        ("test_seen", "test_unseen"),
    ):
        shared = np.intersect1d(a.splits[first], a.splits[second])
        if len(shared):
            example = a.image_paths[shared[0]]
            yield f"splits '{first}' and '{second}' share {len(shared)} images, such as {example}"
    for name in () if is_part else ("trainval", "test_unseen"):
        if not len(a.splits[name]):
            yield f"split '{name}' is empty"
    if not np.array_equal(np.union1d(a.splits["train"], a.splits["val"]), a.splits["trainval"]):
        yield "splits 'train' and 'val' together are not 'trainval'"
    both = np.intersect1d(a.seen_classes, a.unseen_classes)
    if len(both):
        yield f"class '{a.class_names[both[0]]}' has images both in 'trainval' and in 'test_unseen'"
    strangers = np.setdiff1d(a.labels[a.splits["test_seen"]], a.seen_classes)
    if len(strangers) and not is_part:
        yield f"class '{a.class_names[strangers[0]]}' is in 'test_seen', but has no training image"
