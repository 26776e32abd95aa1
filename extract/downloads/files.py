"""Small files that are whole or not there, and digests of large ones."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from msdn.cache.files import replace_file

CHUNK = 2**20
Record = TypeVar("Record")
Report = Callable[[str, int, int | None], None]  # what is being done, bytes done, bytes in all where known


def ignore_report(what: str, done: int, total: int | None) -> None:
    """Show nothing."""


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as JSON; a crash leaves the old content or the new, never a part."""
    replace_file(path, json.dumps(asdict(record), indent=2).encode())


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Return what `write_record` wrote, or None where the file is missing or holds something else."""
    try:
        record = kind(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None
    fits = all(isinstance(getattr(record, field.name), field.type) for field in fields(record))  # type: ignore
    return record if fits else None


def hash_file(path: Path, algorithms: set[str], report: Report) -> dict[str, str]:
    """Return a file's hexadecimal digests, all of them in one pass."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    total, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            done += len(chunk)
            report("checking", done, total)
    return {name: digest.hexdigest() for name, digest in digests.items()}
