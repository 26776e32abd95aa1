"""Files that are whole or not there: written beside their place, then renamed into it."""

import os
from pathlib import Path

from msdn.cache.structure import flush_folder


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash leaves the old content or the new, never a part."""
    beside = path.with_name(path.name + ".partial")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    flush_folder(path.parent)
