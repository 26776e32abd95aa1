"""The datasets by name, each a file in `known/`, and folders of one's own."""

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from msdn.cache.errors import UnknownNameError
from msdn.cache.files import make_folder
from msdn.cache.home import Home, dataset_name
from msdn.extract.datasets import known
from msdn.extract.datasets.proposed_splits import LISTS, read_dataset
from msdn.extract.datasets.spec import Dataset, DatasetSpec
from msdn.extract.errors import DatasetError

DATASETS: dict[str, DatasetSpec] = {
    found.name: found
    for module in pkgutil.iter_modules(known.__path__, f"{known.__name__}.")
    for found in vars(import_module(module.name)).values()
    if isinstance(found, DatasetSpec)
}


def find_spec(name: str) -> DatasetSpec:
    """Return the dataset of that name, or raise an error that lists the known ones."""
    if name not in DATASETS and Path(name).is_file():
        raise DatasetError(f"{name}: is a file; give a dataset's name, or the folder of your own dataset")
    if name not in DATASETS:
        raise UnknownNameError("dataset", name, DATASETS, ", or the path of your own folder")
    return DATASETS[name]


def is_own_folder(text: str) -> bool:
    """Whether `--dataset` names a folder of the user's own rather than a known dataset."""
    return text not in DATASETS and (dataset_name(text) != text or Path(text).is_dir())


def find_image_folder(name: str, sources: Mapping[str, Any], home: Home) -> Path:
    """Where the images of a dataset lie, by its name and what it was read from; nobody looks whether they are there."""
    own = sources.get("folder")
    if own is not None:
        from msdn.extract.own.folder import IMAGES  # it asks this file for the known names

        return Path(own) / IMAGES
    return home.data / find_spec(name).images


def open_dataset(
    text: str, home: Home, on_making: Callable[[int, int], None] = lambda _done, _total: None
) -> Dataset:
    """Read the annotations of a known dataset or of a folder of one's own.

    A dataset that ships as code is drawn first where it is not there yet.
    """
    if is_own_folder(text):
        from msdn.extract.own.folder import open_own_dataset  # it asks this file for the known names

        return open_own_dataset(Path(text).expanduser())
    spec = find_spec(text)
    image_folder = home.data / spec.images
    if spec.make is not None and not image_folder.is_dir():
        make_folder(home.data)
        module, _, function = spec.make.partition(":")
        getattr(import_module(module), function)(home.data / spec.annotations, on_making)
    for folder in (image_folder, home.data / spec.annotations):
        if not folder.is_dir():
            where = f"dataset '{spec.name}' is not in {home.data}"
            raise DatasetError(f"{where}: {folder} is missing; {spec.how_to_get}")
    dataset = read_dataset(spec, home.data)
    _compare_with_known(dataset, home.data / spec.annotations, home)
    return dataset


def _compare_with_known(dataset: Dataset, folder: Path, home: Home) -> None:
    """Say which of the lists are not the files that were fetched."""
    from msdn.extract.downloads.download import warn_of_change  # it asks this file for the known names

    for name in LISTS:
        warn_of_change(folder / name, dataset.sources["lists"][f"{name} sha256"], home)
