"""Says what of a source is on disk, without asking anyone and without reading large files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msdn.cache.home import Home
from msdn.extract.downloads.partial import partial_path
from msdn.extract.downloads.receipts import measure_proof, read_receipt
from msdn.extract.downloads.sources import PLANS, SOURCES

Status = Literal["missing", "partial", "present", "complete"]


@dataclass(frozen=True)
class SourceState:
    """A source on disk.

    Attributes:
        status: missing; partial (begun, the same command goes on); present (put there by hand or changed since,
            not verified); complete (fetched, checked and unpacked).
        bytes: size on disk of what there is of it.
        command: what fetches it.
    """

    status: Status
    bytes: int
    command: str


def downloads_folder(home: Home) -> Path:
    """Where files on their way, and the receipts of those that arrived, lie."""
    return home.data / "downloads"


def staging_folder(home: Home, name: str) -> Path:
    """Where a source is unpacked before it is moved to its place."""
    return downloads_folder(home) / f"{name}.unpacking"


def source_state(name: str, home: Home) -> SourceState:
    """Return what of a source is there."""
    source = SOURCES[name]
    archive = downloads_folder(home) / source.file
    proof = measure_proof(source, home.data)
    receipt = read_receipt(downloads_folder(home), name)
    begun = sum(path.stat().st_size for path in (archive, partial_path(archive)) if path.is_file())
    is_there = len(proof) == len(source.proof)
    if is_there and receipt is not None and receipt.is_complete and receipt.proof == proof:
        return _state(name, "complete", receipt.unpacked_bytes)
    if is_there and not staging_folder(home, name).is_dir():
        return _state(name, "present", sum(_measure(home.data / path) for path in source.proof))
    is_begun = begun or staging_folder(home, name).is_dir()
    return _state(name, "partial" if is_begun else "missing", begun)


def _state(name: str, status: Status, size: int) -> SourceState:
    shortest = min((plan for plan in PLANS if name in PLANS[plan]), key=lambda plan: len(PLANS[plan]))
    return SourceState(status, size, f"msdn data download {shortest}")


def _measure(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
