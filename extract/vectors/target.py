"""Whose attribute vectors a command means: a known dataset's or an own folder's names, and where vectors go."""

from dataclasses import dataclass
from pathlib import Path

from msdn.cache.home import Home
from msdn.extract.datasets import att_splits
from msdn.extract.datasets.attributes import read_attribute_names
from msdn.extract.datasets.registry import find_spec, is_own_folder
from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.errors import DatasetError
from msdn.extract.own.folder import ATTRIBUTES, VECTORS
from msdn.extract.own.table import read_attributes_csv


@dataclass(frozen=True)
class Target:
    """The attributes of a dataset.

    Attributes:
        dataset: the dataset's name.
        names: K names, or none where the files that hold them are missing.
        count: K.
        path: where the dataset's vectors lie.
    """

    dataset: str
    names: tuple[str, ...]
    count: int
    path: Path


def find_target(text: str, home: Home) -> Target:
    """Read what is known of the attributes of a dataset, by its name or its folder; no images are needed."""
    return (
        _find_own(Path(text).expanduser()) if is_own_folder(text) else _find_known(find_spec(text), home.data)
    )


def _find_own(folder: Path) -> Target:
    table = folder / ATTRIBUTES
    if not table.is_file():
        raise DatasetError(f"{table}: no such file; a dataset of your own is a folder with this file in it")
    names = read_attributes_csv(table).attribute_names
    return Target(folder.resolve().name, names, len(names), folder / VECTORS)


def _find_known(spec: DatasetSpec, data: Path) -> Target:
    if spec.make is not None:
        raise DatasetError(f"the attribute vectors of '{spec.name}' are made with it; there is nothing to do")
    if spec.attribute_vectors is None:
        raise DatasetError(
            f"the attributes of '{spec.name}' have no names, so there are no words to take vectors from; models learn "
            "the vectors from scratch, and there is nothing to do"
        )
    classes = data / spec.annotations / att_splits.FILE
    count = att_splits.read_class_table(classes).attributes.shape[1] if classes.is_file() else None
    names = read_attribute_names(data, spec.attribute_names, count)
    if count is None and not names:
        raise DatasetError(
            f"{data}: neither the attribute names of '{spec.name}' ({spec.attribute_names[0]}) nor its class table "
            f"({spec.annotations}/{att_splits.FILE}) are there; {spec.how_to_get}"
        )
    return Target(spec.name, names, count or len(names), data / spec.attribute_vectors)
