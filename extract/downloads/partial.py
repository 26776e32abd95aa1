"""A file on its way: the bytes that came, and a note beside them of where they came from."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from msdn.cache.files import flush_folder
from msdn.extract.downloads.files import read_record, write_record


@dataclass(frozen=True)
class Note:
    """Where a file comes from; `sha256` is there once it has come whole."""

    url: str = ""
    validator: str | None = None  # the server's ETag or date: a resumed file must still have it
    total: int | None = None
    sha256: str | None = None


def read_note(final: Path) -> Note:
    """Return what is known of a file on its way or arrived; an empty note where there is none."""
    return read_record(_note_path(final), Note) or Note()


def partial_path(final: Path) -> Path:
    """Where the bytes of a file lie until all have come."""
    return final.with_name(final.name + ".partial")


def remove_download(final: Path) -> None:
    """Remove a file, its beginning, and the note of where it came from."""
    for path in (final, partial_path(final), _note_path(final)):
        path.unlink(missing_ok=True)


def _note_path(final: Path) -> Path:
    return final.with_name(final.name + ".json")


class PartialFile:
    """The beginning of a file, which grows until it can be given its final name."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = partial_path(final)
        self.note = read_note(final)

    @property
    def size(self) -> int:
        """Bytes that have come so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def resumable(self, url: str, is_checked: bool) -> int:
        """Bytes that need not come again from `url`.

        Without a server's mark of the version, only a known checksum tells whether the halves fit.
        """
        fits = self.note.url == url and (self.note.validator is not None or is_checked)
        return self.size if fits and self.size <= (self.note.total or 0) else 0

    def begin(self, note: Note) -> None:
        """Start anew: no old bytes may ever lie beside the new note."""
        with self.path.open("wb"):
            pass
        self.note = note
        self._write_note()

    def append(self) -> BinaryIO:
        """Open for more bytes."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Forget what has come."""
        remove_download(self._final)
        self.note = Note()

    def finish(self, sha256: str) -> None:
        """Give the complete file its final name."""
        self.note = replace(self.note, sha256=sha256)
        self._write_note()
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self._final)
        flush_folder(self._final.parent)

    def _write_note(self) -> None:
        write_record(_note_path(self._final), self.note)
