"""The one folder that holds everything made, what `--dataset` names, and which cache a command means."""

import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from msdn.cache.errors import CacheError, nearest

DEFAULT_HOME = "msdn-home"


@dataclass(frozen=True)
class Home:
    """Where datasets, feature caches and runs live."""

    root: Path

    @property
    def data(self) -> Path:
        """Datasets: images and annotation files."""
        return self.root / "data"

    @property
    def features(self) -> Path:
        """Feature caches, one HDF5 file each."""
        return self.root / "features"

    @property
    def runs(self) -> Path:
        """Training runs, one folder each."""
        return self.root / "runs"

    @property
    def studies(self) -> Path:
        """Ablations and sweeps: their files, and the runs below `runs` that they share."""
        return self.root / "studies"


def command_line(*words: object, home: Home | None = None) -> str:
    """A command to suggest: it can be pasted into a shell as it is, in any folder.

    Paths are written in full, and `--home` is added where the home is not the one that is used anyway. A name with a
    space is quoted, so no sentence puts quotes around it: it ends a line, behind a colon.
    """
    full = [str(word.absolute() if isinstance(word, Path) else word) for word in words]
    usual = Path(os.environ.get("MSDN_HOME") or DEFAULT_HOME).absolute()
    if home is not None and home.root.absolute() != usual:
        full += ["--home", str(home.root.absolute())]
    return shlex.join(["msdn", *full])


def home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--home`, passed on as a `Home`."""
    return click.option(
        "--home",
        envvar="MSDN_HOME",
        default=DEFAULT_HOME,
        show_default=f"$MSDN_HOME, else ./{DEFAULT_HOME}",
        type=click.Path(file_okay=False, path_type=Path),
        callback=lambda _context, _parameter, root: Home(root),
        help="Folder that holds data/, features/, runs/ and studies/.",
    )(command)


def dataset_name(text: str) -> str:
    """Return the dataset's name: a path stands for the folder it leads to, anything else for itself."""
    if text in (".", "..") or os.sep in text:
        return Path(text).expanduser().resolve().name
    return text


def typed_dataset(text: str) -> str | Path:
    """What names a dataset in a command to suggest: its name, or the folder that the user typed."""
    is_folder = dataset_name(text) != text or Path(text).is_dir()
    return Path(text).expanduser() if is_folder else text


def name_cache(dataset: str, size: int | str, weights_tag: str) -> str:
    """Return a cache's file name: dataset, image size and weights, so that different ones never collide."""
    return f"{dataset}-{size}-{weights_tag}.h5"


def find_caches(home: Home, dataset: str) -> list[Path]:
    """List the finished caches of a dataset, by name."""
    caches = sorted(home.features.glob("*.h5"))
    return [path for path in caches if _dataset_of(path) == dataset and path.is_file()]


def cached_datasets(home: Home) -> set[str]:
    """The datasets that have a finished cache."""
    return {_dataset_of(path) for path in home.features.glob("*.h5")}


def _dataset_of(cache: Path) -> str:
    return cache.name.rsplit("-", 2)[0]


def choose_cache(home: Home, dataset: str, given: Path | None, known: Iterable[str] = ()) -> Path:
    """Return the given cache, or the only one of the dataset; several fitting ones are listed.

    A name that is not among the `known` datasets may be a slip, and the nearest one and all are named.
    """
    if given is not None:
        return given
    found = find_caches(home, dataset)
    if not found:
        where = f"no cache of '{dataset}' in {home.features.absolute()}"
        if dataset in {*known} or Path(dataset).is_dir():
            make = command_line("extract", "--dataset", typed_dataset(dataset), home=home)
            raise CacheError(f"{where}. Make one with: {make}")
        there = {*known, *cached_datasets(home)}
        make = command_line("extract", "--dataset", "FOLDER", home=home)
        raise CacheError(
            f"{where}. {nearest(dataset, there)}Known: {', '.join(sorted(there))}. If it is your own folder, extract "
            f"that first: {make}"
        )
    if len(found) > 1:
        names = ", ".join(shlex.quote(str(path)) for path in found)
        raise CacheError(f"several caches of '{dataset}' fit: {names}; choose one with --cache FILE")
    return found[0]
