"""Settings for data that nobody published a preset for: a rule that goes by how many images and classes there are."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.annotations import Annotations
from msdn.cache.errors import MsdnError
from msdn.cache.header import read_header
from msdn.cache.home import Home, find_caches
from msdn.terminal import counted
from msdn.train.loop.settings import RunSettings, fields_of

RULE = "rule for data without a preset"
STEPS = 300  # of a training, at the least; enough for every model here, and validation takes as few as serve
BLIND_STEPS = 150  # where no validation can say that fewer would do
BLIND_MARGIN = 0.7  # likewise
FEWEST_EPOCHS = 8  # where there are so many images that these are more steps
SMALLEST_BATCH, LARGEST_BATCH = 16, 50  # the latter as published
STEPS_OF_AN_EPOCH = 16  # that a batch is to leave, between those two
FEWEST_CLASSES, FEWEST_IMAGES, FEWEST_HELD_OUT = 3, 9, 4  # that choose anything in validation


@dataclass(frozen=True)
class Amounts:
    """What the rule goes by; masked images do not count.

    Attributes:
        images: for training.
        classes: for training, without those of validation.
        validation_classes: that no training image of the first phase shows.
        validation_images: of these.
        held_out: other images that validation measures.
        has_vectors: whether every attribute has a vector.
    """

    images: int
    classes: int
    validation_classes: int
    validation_images: int
    held_out: int
    has_vectors: bool

    @property
    def can_validate(self) -> bool:
        """Whether validation classes can choose anything."""
        return (
            min(self.classes, self.validation_classes) >= FEWEST_CLASSES
            and self.validation_images >= FEWEST_IMAGES
            and self.held_out >= FEWEST_HELD_OUT
        )


EXAMPLES = (  # one for everything that the rule can say
    Amounts(1000, 20, 10, 300, 140, has_vectors=False),
    Amounts(40, 4, 0, 0, 0, has_vectors=False),
)


def amounts_of(annotations: Annotations, masked_rows: np.ndarray) -> Amounts:
    """Count what a cache holds."""
    labels = annotations.labels
    rows = {
        name: np.setdiff1d(annotations.splits[name], masked_rows) for name in ("trainval", "train", "val")
    }
    of_classes = np.unique(labels[rows["train"]], return_counts=True)
    val = rows["val"][~np.isin(labels[rows["val"]], of_classes[0])]
    return Amounts(
        images=len(rows["trainval"]),
        classes=len(of_classes[0]),
        validation_classes=len(np.unique(labels[val])),
        validation_images=len(val),
        held_out=int(((of_classes[1] + 3) // 5).sum()),  # every fifth of a class's, from the second on
        has_vectors=annotations.attribute_vectors is not None,
    )


def find_amounts(home: Home, dataset: str, given: Path | None = None) -> Amounts | None:
    """What the features of a dataset hold, or the file that is given; None where there are none that can be read."""
    for path in [given] if given else find_caches(home, dataset):
        try:
            header = read_header(path)
        except (MsdnError, OSError):
            continue
        return amounts_of(header.annotations, header.masked_rows)
    return None


def rule_values(amounts: Amounts) -> dict[str, tuple[Any, str]]:
    """The rule's settings, each with its reason; a model takes those that it has."""
    n = amounts.images
    batch = int(np.clip(n // STEPS_OF_AN_EPOCH, SMALLEST_BATCH, LARGEST_BATCH))
    steps = STEPS if amounts.can_validate else BLIND_STEPS
    epochs = max(-(-steps * batch // n), FEWEST_EPOCHS) if n else FEWEST_EPOCHS
    why = counted(n, "training image")
    values: dict[str, tuple[Any, str]] = {
        "batch_size": (batch, why),
        "epochs": (epochs, f"{why}: {counted(max(n * epochs // batch, epochs), 'step')}"),
    }
    found = counted(amounts.validation_classes, "validation class")
    found += f" with {counted(amounts.validation_images, 'image')}"
    if amounts.can_validate:
        values["select"] = ("val", f"{found}, enough to choose the margin and the number of epochs by")
        values["search_lr"] = (True, f"{found}, enough to choose the learning rate by")
    else:
        values["select"] = ("last", f"{found}: too few to choose anything by")
        values["margin"] = (
            BLIND_MARGIN,
            "worked better on small datasets than the published 1, where nothing can choose it",
        )
    if not amounts.has_vectors:
        values["vectors"] = (
            "learned",
            "the features come without vectors of attributes ('msdn data vectors')",
        )
    return values


def rule_used(settings: RunSettings, amounts: Amounts, given: Container[str] = ()) -> dict[str, str]:
    """The settings that are as the rule has them, each with its reason, but for those that were `given`."""
    own = fields_of(type(settings))
    return {
        name: reason
        for name, (value, reason) in rule_values(amounts).items()
        if name in own and name not in given and getattr(settings, name) == value
    }
