"""Remembers what was fetched: its checksum for the next time, and that all of it is in place."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from msdn.extract.downloads.files import read_record, write_record
from msdn.extract.downloads.sources import Source


@dataclass(frozen=True)
class Receipt:
    """One source, fetched; what no code reads (url, known_checksum, unpacked_files) is there for people.

    Attributes:
        url: where it came from.
        bytes: size of the file.
        sha256: its SHA-256.
        known_checksum: what was compared with the publisher's or another known checksum; None where none is known.
        date: when it was unpacked, ISO 8601.
        unpacked_files: how many files came out of it.
        unpacked_bytes: their size.
        proof: the source's proof paths, with the size of those that are files.
        is_complete: whether everything is in place; False while it is being replaced.
    """

    url: str
    bytes: int
    sha256: str
    known_checksum: str | None
    date: str
    unpacked_files: int
    unpacked_bytes: int
    proof: dict = field(default_factory=dict)
    is_complete: bool = True


def receipt_path(downloads: Path, name: str) -> Path:
    """Where the receipt of a source lies."""
    return downloads / "receipts" / f"{name}.json"


def read_receipt(downloads: Path, name: str) -> Receipt | None:
    """Return a source's receipt, or None where there is none that can be read."""
    return read_record(receipt_path(downloads, name), Receipt)


def write_receipt(downloads: Path, name: str, receipt: Receipt) -> None:
    """Write a source's receipt."""
    path = receipt_path(downloads, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, receipt)


def withdraw_receipt(downloads: Path, name: str) -> None:
    """Say that a source is no longer in place; its checksum stays known."""
    receipt = read_receipt(downloads, name)
    if receipt is not None:
        write_receipt(downloads, name, replace(receipt, is_complete=False))


def measure_proof(source: Source, folder: Path) -> dict[str, int | None]:
    """Return the proof paths that are in `folder`, with the size of those that are files."""
    found: dict[str, int | None] = {}
    for proof in source.proof:
        path = folder / proof
        if path.is_file():
            found[proof] = path.stat().st_size
        elif path.is_dir() and any(path.iterdir()):
            found[proof] = None
    return found
