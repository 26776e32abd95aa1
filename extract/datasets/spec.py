"""What a dataset's file says about it: where its parts lie, what they must count, where they come from."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msdn.cache.annotations import Annotations

UNDATED = "undated"  # in `Dataset.sources`: a file of lists that does not say when it was made


@dataclass(frozen=True)
class Source:
    """One file of a publisher. All paths are relative to the home's data folder.

    A size or a checksum that is not known is None: it is recorded at the first download instead.
    """

    file: str  # its name at the publisher's
    mirrors: tuple[str, ...]  # its addresses, tried in this order
    proof: tuple[
        str, ...
    ]  # what must be there afterwards; of a file that is no archive, the place it goes to
    # pattern of a member's whole path -> its place; members that fit none stay packed. Without rules: no archive
    rules: tuple[tuple[str, str], ...] = ()
    about: int | None = None  # rough size in bytes, for people and for the free-space check
    room: int = 0  # rough size of what is unpacked from it
    size: int | None = None  # exact size
    checksum: tuple[str, str] | None = None  # algorithm and hexadecimal digest, or the beginning of one
    licence: str = "no licence stated"  # what the publisher allows, as far as stated

    def place(self, member: str) -> str | None:
        """Where a member of the archive goes, or None where it is not wanted."""
        matches = ((re.fullmatch(pattern, member), goal) for pattern, goal in self.rules)
        return next((match.expand(goal) for match, goal in matches if match), None)


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset in the layout of the published benchmarks; all paths are relative to the home's data folder."""

    name: str
    images: str  # the folder that the image lists' paths are relative to
    annotations: str  # the folder of `res101.mat` and `att_splits.mat`
    attribute_names: tuple[str, ...] = ()  # files that may hold them; the first that exists is read
    attribute_vectors: str | None = None  # an .npz file with the array `vectors` [K, D], read where it exists
    # known numbers of images in splits, of `classes` and of `attributes`, checked where given
    counts: dict[str, int] = field(default_factory=dict)
    flat: bool = False  # all images lie in one folder: of the listed paths only the file's name counts
    # `module:function` that draws a dataset that ships with the project, found only when needed; called with the
    # folder and a progress callback
    make: str | None = None
    # the files to download that no other dataset needs, by a name of their own
    sources: dict[str, Source] = field(default_factory=dict)
    shared: tuple[str, ...] = ()  # the names of those that others need too: `xlsa17`, `glove`, `weights`

    @property
    def how_to_get(self) -> str:
        """What to tell whoever lacks the files."""
        if self.make is not None:
            return "it is drawn on first use"
        return f"'msdn data download {self.name}' fetches it" if self.sources else "put it there"

    def find_other_counts(self, a: Annotations) -> str:
        """Say which counts these annotations have instead of the known ones; nothing where they agree."""
        counted = {name: len(rows) for name, rows in a.splits.items()}
        counted["classes"], counted["attributes"] = a.attributes.shape
        found = {name: counted[name] for name in self.counts}
        if found == self.counts:
            return ""
        said, known = (", ".join(f"{n} {name}" for name, n in c.items()) for c in (found, self.counts))
        return f"holds {said}, but '{self.name}' has {known}"


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk."""

    annotations: Annotations  # what its files say
    image_folder: Path  # its image paths are relative to this
    # where the annotations come from, as plain JSON values; kept in the cache's provenance
    sources: dict[str, Any] = field(default_factory=dict)

    def image_path(self, row: int) -> Path:
        """Where the image of a row lies."""
        return self.image_folder / self.annotations.image_paths[row]
