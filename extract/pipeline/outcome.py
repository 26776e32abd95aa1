"""What an extraction leaves, and the one error that does not end it at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.progress import Progress
from msdn.terminal import counted, escape


@dataclass(frozen=True)
class Shards:
    """How far a cache is that many processes make.

    Attributes:
        total: the shards that the cache is cut into.
        mine: the finished ones of this worker.
        missing: the numbers of all that are not finished, whoever makes them.
        busy: this worker's shards that another process is making, and which.
    """

    total: int
    mine: tuple[Path, ...]
    missing: tuple[int, ...]
    busy: Mapping[int, str]


@dataclass(frozen=True)
class Extraction:
    """What an extraction left: the cache, what it cost, the images it masked, and how many a finished cache gained.

    One worker of many leaves `shards`; the cache is there when they are merged.
    """

    path: Path
    progress: Progress
    masked: dict[str, str]
    weights_kind: str
    was_complete: bool = False
    added: int = 0
    shards: Shards | None = None


class BadImagesError(ExtractError):
    """Images that cannot be used; all others are done."""

    def __init__(self, images: dict[str, str], kept_in: str, again: str, own: bool) -> None:
        """Name the `images` with their reasons, where the others are, and the command to repeat.

        Of a folder of the user's `own` an image may be removed, too.
        """
        self.images = images
        lines = "".join("\n" + escape(f"  {path}: {reason}") for path, reason in images.items())
        fix = "replace or remove" if own else "replace"
        count = counted(len(images), "image")
        super().__init__(
            f"{count} cannot be used:{lines}\nAll others are done and kept; {fix} what is named here and "
            f"{again}, or add '--bad-images mask' to leave it out.\nkept in: {kept_in}"
        )
