"""The datasets by name. A new one is a file beside this and a line here."""

from collections.abc import Callable
from importlib import import_module

from msdn.cache.errors import UnknownNameError
from msdn.cache.home import Home
from msdn.extract.datasets.cub import CUB
from msdn.extract.datasets.plumage import PLUMAGE
from msdn.extract.datasets.spec import Dataset, DatasetSpec
from msdn.extract.datasets.xlsa17 import read_annotations
from msdn.extract.errors import DatasetError

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (CUB, PLUMAGE)}


def find_spec(name: str) -> DatasetSpec:
    """Return the dataset of that name, or raise an error that lists the known ones."""
    if name not in DATASETS:
        raise UnknownNameError("dataset", name, DATASETS)
    return DATASETS[name]


def open_dataset(name: str, home: Home, on_making: Callable[[int, int], None] | None = None) -> Dataset:
    """Read a dataset's annotations; draw it first where it ships as code and is not there yet."""
    spec = find_spec(name)
    image_folder = home.data / spec.images
    if spec.make is not None and not image_folder.is_dir():
        home.data.mkdir(parents=True, exist_ok=True)
        module, _, function = spec.make.partition(":")
        getattr(import_module(module), function)(home.data / spec.annotations, on_making)
    for folder in (image_folder, home.data / spec.annotations):
        if not folder.is_dir():
            raise DatasetError(
                f"dataset '{name}' is not in {home.data}: {folder} is missing; {spec.how_to_get}"
            )
    return Dataset(read_annotations(spec, home.data), image_folder)
