"""What a home holds: datasets, attribute vectors, downloads and caches, and what is missing; without torch."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

from msdn.cache import layout
from msdn.cache.errors import MsdnError
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.extract.datasets.attributes import read_attribute_names
from msdn.extract.datasets.registry import DATASETS
from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.downloads.sources import PLANS, SOURCES
from msdn.extract.downloads.state import SourceState, source_state
from msdn.extract.vectors.file import read_vectors

Kind = Literal["dataset", "vectors", "download", "cache"]
Status = Literal["missing", "partial", "present", "complete", "damaged"]

LISTS = ("res101.mat", "att_splits.mat")
DOWNLOADS = ("xlsa17", "glove", "weights")  # what several datasets share
HERE = ("present", "complete")


@dataclass(frozen=True)
class Entry:
    """One thing a home holds or lacks.

    Attributes:
        status: missing; partial (begun); present (usable, put there by hand or made here); complete; damaged.
        is_verified: whether it was compared with what it should be, and not changed in size since.
        bytes: size on disk.
        note: what else there is to say.
        command: what to do about what is missing, where one command does it.
    """

    kind: Kind
    name: str
    status: Status
    path: Path
    bytes: int = 0
    is_verified: bool = False
    note: str = ""
    command: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether it can be used."""
        return self.status in HERE


def collect_status(home: Home) -> list[Entry]:
    """Look at everything; no large file is read."""
    states = {name: source_state(name, home) for name in SOURCES}
    entries = [_describe_dataset(spec, home, states) for spec in DATASETS.values()]
    with_vectors = [spec for spec in DATASETS.values() if spec.attribute_vectors and spec.make is None]
    entries += [_describe_vectors(spec, home, states["glove"]) for spec in with_vectors]
    entries += [_describe_download(name, home, states[name]) for name in DOWNLOADS]
    return [*entries, *_describe_caches(home)]


def _describe_dataset(spec: DatasetSpec, home: Home, states: dict[str, SourceState]) -> Entry:
    images = home.data / spec.images
    own = next((states[name] for name in _sources_of(spec) if spec.images in SOURCES[name].proof), None)
    missing = ([] if _is_filled(images) else ["images"]) + _missing_lists(spec, home)
    is_begun = "images" not in missing or (own is not None and own.status == "partial")
    is_verified = not missing and own is not None
    is_verified &= all(states[name].status == "complete" for name in _sources_of(spec))
    return Entry(
        "dataset",
        spec.name,
        _judge_dataset(bool(missing), is_begun, is_verified),
        images,
        _measure_dataset(spec, home, own),
        is_verified,
        "drawn on first use" if spec.make and missing else _say_missing(missing),
        None if not missing else "msdn demo" if spec.make else f"msdn data download {spec.name}",
    )


def _judge_dataset(is_lacking: bool, is_begun: bool, is_verified: bool) -> Status:
    if is_lacking:
        return "partial" if is_begun else "missing"
    return "complete" if is_verified else "present"


def _sources_of(spec: DatasetSpec) -> list[str]:
    """Name the sources of a dataset's images and lists."""
    wanted = {spec.images, *(f"{spec.annotations}/{file}" for file in LISTS)}
    return [name for name in PLANS.get(spec.name, ()) if wanted & set(SOURCES[name].proof)]


def _missing_lists(spec: DatasetSpec, home: Home) -> list[str]:
    return [file for file in LISTS if not (home.data / spec.annotations / file).is_file()]


def _say_missing(missing: list[str]) -> str:
    return f"without {', '.join(missing)}" if 0 < len(missing) <= len(LISTS) else ""


def _measure_dataset(spec: DatasetSpec, home: Home, own: SourceState | None) -> int:
    lists = sum(_size(home.data / spec.annotations / file) for file in LISTS)
    if own is not None and own.status in HERE:
        return lists + own.bytes
    return lists + (own.bytes if own else 0) + _measure(home.data / spec.images)


def _describe_vectors(spec: DatasetSpec, home: Home, glove: SourceState) -> Entry:
    path = home.data / str(spec.attribute_vectors)
    try:
        names = read_attribute_names(home.data, spec.attribute_names, None)
        if not path.is_file():
            command = _vectors_command(spec.name, bool(names), glove.status in HERE)
            return Entry("vectors", spec.name, "missing", path, command=command)
        count, size = read_vectors(path, names).values.shape
    except MsdnError as error:
        return Entry("vectors", spec.name, "damaged", path, _size(path), note=str(error))
    status: Status = "complete" if names else "present"
    return Entry("vectors", spec.name, status, path, _size(path), bool(names), f"{count} x {size} numbers")


def _vectors_command(dataset: str, has_names: bool, has_glove: bool) -> str:
    """Fetching a dataset brings names and GloVe, and builds the vectors."""
    if not has_names:
        return f"msdn data download {dataset}"
    build = f"msdn data vectors {dataset}"
    return build if has_glove else f"msdn data download glove && {build}"


def _describe_download(name: str, home: Home, state: SourceState) -> Entry:
    path = home.data / SOURCES[name].proof[0]
    path = path.parents[1] if name == "xlsa17" else path
    command = None if state.status in HERE else state.command
    by_hand = _find_by_hand(name, home) if command else None
    if by_hand is not None:
        path, size, note = by_hand
        return Entry("download", name, "present", path, size, note=note)
    return Entry("download", name, state.status, path, state.bytes, state.status == "complete", "", command)


def _find_by_hand(name: str, home: Home) -> tuple[Path, int, str] | None:
    """Find what serves as well: weights in torch's own cache, lists of some datasets only."""
    if name == "weights":
        path = _torch_home() / "hub" / "checkpoints" / SOURCES[name].file
        return (path, _size(path), "in torch's own cache") if path.is_file() else None
    if name != "xlsa17":
        return None
    shared = [spec for spec in DATASETS.values() if name in _sources_of(spec)]
    here = [spec for spec in shared if not _missing_lists(spec, home)]
    size = sum(_size(home.data / spec.annotations / file) for spec in here for file in LISTS)
    note = f"lists of {', '.join(spec.name for spec in here)} only"
    return (home.data / "xlsa17" / "data", size, note) if here else None


def _torch_home() -> Path:
    """Say where torch keeps what it fetches, by the variables that torch reads, without importing it."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser()


def _describe_caches(home: Home) -> Iterator[Entry]:
    for path in sorted([*home.features.glob("*.h5"), *home.features.glob("*.h5.partial")]):
        yield _describe_cache(path)


def _describe_cache(path: Path) -> Entry:
    try:
        header = read_header(path)
    except MsdnError as error:
        return Entry("cache", path.name, "damaged", path, _size(path), note=str(error))
    todo, count = int((header.states == layout.TODO).sum()), len(header.states)
    if todo or path.suffix == ".partial":
        note = f"{todo} of {count} images to go; repeat the command that began it"
        return Entry("cache", path.name, "partial", path, _size(path), note=note)
    masked = len(header.masked_rows)
    note = f"{count} images" + (f", {masked} masked" if masked else "")
    note += f"; 'msdn cache verify {quote(str(path))}' checks every row"
    return Entry("cache", path.name, "complete", path, _size(path), note=note)


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _measure(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
