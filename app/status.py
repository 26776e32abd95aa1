"""`msdn data status`: which datasets, vectors, downloads and caches a home holds, and how to get the rest."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from msdn.cache import layout
from msdn.cache.errors import MsdnError
from msdn.cache.header import read_header
from msdn.cache.home import Home, command_line, home_option
from msdn.extract.datasets.proposed_splits import LISTS, read_attribute_names
from msdn.extract.datasets.registry import DATASETS
from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.downloads.download import SourceState, measure, source_state
from msdn.extract.downloads.sources import PLANS, SHARED, SOURCES, SPLITS, least_plan
from msdn.extract.vectors.file import read_vectors
from msdn.terminal import counted, escape, fit, json_option, paint

Status = Literal["missing", "partial", "present", "complete", "damaged"]
MEANINGS = {"complete": "good", "present": "good", "partial": "warning", "damaged": "error"}  # of colours
HEADINGS = {"dataset": "datasets", "vectors": "vectors", "download": "shared files", "cache": "caches"}


@dataclass(frozen=True)
class Entry:
    """One thing a home holds or lacks.

    Attributes:
        kind: one of `HEADINGS`.
        status: missing; partial (begun); present (usable, put there by hand or made here); complete; damaged.
        is_verified: whether it was compared with what it should be, and not changed in size since.
        bytes: size on disk.
        note: what else there is to say.
        command: what to do about what is missing, where one command does it.
    """

    kind: str
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
        return self.status in ("present", "complete")


@click.command()
@json_option
@home_option
def status(home: Home, as_json: bool) -> None:
    """See which datasets, vectors, weights and caches are here, and what is missing."""
    entries = collect_status(home)
    if as_json:
        records = [asdict(entry) | {"path": str(entry.path)} for entry in entries]
        click.echo(json.dumps({"home": str(home.root), "entries": records}, indent=2))
        return
    click.echo(escape(f"home {home.root}"))
    width = max(len(entry.name) for entry in entries)
    for kind, heading in HEADINGS.items():
        click.echo(heading)
        lines = [line for entry in entries if entry.kind == kind for line in _format(entry, width)]
        click.echo("\n".join(lines or ["  none; 'msdn extract' makes them"]))


def _format(entry: Entry, width: int) -> list[str]:
    """One line, or where the terminal is too narrow for it, what to do below the rest."""
    state: str = "present, not verified" if entry.status == "present" else entry.status
    state += ", verified" if entry.is_verified else ""
    size = f"{entry.bytes / 1e6:,.1f} MB" if entry.bytes else ""
    advice = "; ".join(filter(None, (entry.note, entry.command)))
    start = f"  {entry.name:<{width}}  {state:<21}  {size:>11}"
    start, advice = escape(start), escape(advice)
    whole = f"{start}  {advice}".rstrip()
    lines = [whole]
    if fit(whole, sys.stdout) != whole:
        lines = [start.rstrip(), fit(f"    {advice}", sys.stdout)]
    return [lines[0].replace(state, paint(state, MEANINGS.get(entry.status, "")), 1), *lines[1:]]


def collect_status(home: Home) -> list[Entry]:
    """Look at everything; no large file is read."""
    states = {name: source_state(name, home) for name in SOURCES}
    entries = [_describe_dataset(spec, home, states) for spec in DATASETS.values()]
    with_vectors = [spec for spec in DATASETS.values() if spec.attribute_vectors and spec.make is None]
    entries += [_describe_vectors(spec, home, states["glove"].is_here) for spec in with_vectors]
    entries += [_describe_download(name, home, states[name]) for name in SHARED]
    caches = sorted([*home.features.glob("*.h5"), *home.features.glob("*.h5.partial")])
    return [*entries, *map(_describe_cache, caches)]


def _describe_dataset(spec: DatasetSpec, home: Home, states: dict[str, SourceState]) -> Entry:
    images, lists = home.data / spec.images, [home.data / path for path in _lists(spec)]
    sources = _sources_of(spec)
    own = next((states[name] for name in sources if spec.images in SOURCES[name].proof), None)
    has_images = images.is_dir() and any(images.iterdir())
    missing = ["images"] * (not has_images) + [path.name for path in lists if not path.is_file()]
    is_verified = not missing and own is not None and all(states[n].status == "complete" for n in sources)
    is_begun = has_images or (own is not None and own.status == "partial")
    status: Status = "complete" if is_verified else "present"
    if missing:
        status = "partial" if is_begun else "missing"
    note = f"without {', '.join(missing)}" if 0 < len(missing) <= len(LISTS) else ""
    size = own.bytes if own else 0
    make = ("demo",) if spec.make else ("data", "download", spec.name)
    if own is None or not own.is_here:
        size += measure(images)
    return Entry(
        kind="dataset",
        name=spec.name,
        status=status,
        path=images,
        bytes=size + sum(map(measure, lists)),
        is_verified=is_verified,
        note="drawn on first use" if spec.make and missing else note,
        command=command_line(*make, home=home) if missing else None,
    )


def _lists(spec: DatasetSpec) -> list[str]:
    return [f"{spec.annotations}/{file}" for file in LISTS]


def _sources_of(spec: DatasetSpec) -> list[str]:
    """Name the sources of a dataset's images and lists."""
    wanted = {spec.images, *_lists(spec)}
    return [name for name in PLANS.get(spec.name, ()) if wanted & set(SOURCES[name].proof)]


def _describe_vectors(spec: DatasetSpec, home: Home, has_glove: bool) -> Entry:
    path = home.data / str(spec.attribute_vectors)
    try:
        names = read_attribute_names(home.data, spec.attribute_names, None)
        if not path.is_file():
            fetch, name = ("data", "download"), spec.name
            command = "" if has_glove else f"{command_line(*fetch, 'glove', home=home)} && "
            command += command_line("data", "vectors", name, home=home)
            if not names:
                command = command_line(*fetch, name, home=home)  # brings names and GloVe, and builds
            return Entry("vectors", spec.name, "missing", path, command=command)
        count, size = read_vectors(path, names).values.shape
    except MsdnError as error:
        return Entry("vectors", spec.name, "damaged", path, measure(path), note=str(error))
    status: Status = "complete" if names else "present"
    return Entry("vectors", spec.name, status, path, measure(path), bool(names), f"{count} x {size} numbers")


def _describe_download(name: str, home: Home, state: SourceState) -> Entry:
    path = home.data / SOURCES[name].proof[0]
    path = path.parents[1] if name == SPLITS else path
    by_hand = None if state.is_here else _find_by_hand(name, home)
    if by_hand is not None:
        found, size, note = by_hand
        return Entry("download", name, "present", found, size, note=note)
    command = None if state.is_here else command_line("data", "download", least_plan(name), home=home)
    return Entry("download", name, state.status, path, state.bytes, state.status == "complete", "", command)


def _find_by_hand(name: str, home: Home) -> tuple[Path, int, str] | None:
    """Find what serves as well: weights in torch's own cache, lists of some datasets only."""
    if name == "weights":  # by the variables that torch reads, without importing it
        caches = os.environ.get("TORCH_HOME", f"{os.environ.get('XDG_CACHE_HOME', '~/.cache')}/torch")
        path = Path(caches).expanduser() / "hub" / "checkpoints" / SOURCES[name].file
        return (path, measure(path), "in torch's own cache") if path.is_file() else None
    shared = [spec for spec in DATASETS.values() if name == SPLITS and name in _sources_of(spec)]
    here = [spec for spec in shared if all((home.data / path).is_file() for path in _lists(spec))]
    size = sum(measure(home.data / path) for spec in here for path in _lists(spec))
    note = f"lists of {', '.join(spec.name for spec in here)} only"
    return (home.data / "xlsa17" / "data", size, note) if here else None


def _describe_cache(path: Path) -> Entry:
    try:
        header = read_header(path)
    except MsdnError as error:
        return Entry("cache", path.name, "damaged", path, measure(path), note=str(error))
    todo, count = int((header.states == layout.TODO).sum()), len(header.states)
    if todo or path.suffix == ".partial":
        note = f"{todo} of {counted(count, 'image')} to go; repeat the command that started it"
        return Entry("cache", path.name, "partial", path, measure(path), note=note)
    masked = f", {len(header.masked_rows)} masked" if len(header.masked_rows) else ""
    note = f"{counted(count, 'image')}{masked}; check every row with: {command_line('cache', 'verify', path)}"
    return Entry("cache", path.name, "complete", path, measure(path), note=note)
