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

    Attributes:
        file: the name of the file at the publisher's.
        mirrors: its addresses, tried in this order.
        proof: the paths that must be there afterwards; of a file that is no archive, the place it goes to.
        rules: pattern of a member's whole path -> its place; members that fit no pattern stay packed.
            Without rules the file is no archive.
        about: rough size of the file in bytes, for people and for the free-space check.
        room: rough size of what is unpacked from it.
        size: exact size of the file.
        checksum: algorithm and hexadecimal digest, or the beginning of one.
        licence: what the publisher allows, as far as stated.
    """

    file: str
    mirrors: tuple[str, ...]
    proof: tuple[str, ...]
    rules: tuple[tuple[str, str], ...] = ()
    about: int | None = None
    room: int = 0
    size: int | None = None
    checksum: tuple[str, str] | None = None
    licence: str = "no licence stated"

    def place(self, member: str) -> str | None:
        """Where a member of the archive goes, or None where it is not wanted."""
        for pattern, goal in self.rules:
            match = re.fullmatch(pattern, member)
            if match:
                return match.expand(goal)
        return None


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset in the layout of the published benchmarks; all paths are relative to the home's data folder.

    Attributes:
        images: the folder that the image lists' paths are relative to.
        annotations: the folder of `res101.mat` and `att_splits.mat`.
        attribute_names: files that may hold the attributes' names, the first that exists is read.
        attribute_vectors: an .npz file with the array `vectors` [K, D], read where it exists.
        counts: known numbers of images in splits, of `classes` and of `attributes`, checked where given.
        flat: all images lie in one folder, so that of the listed paths only the file's name counts.
        make: `module:function` that draws the dataset into a given folder, for one that ships with the project;
            called with the folder and a progress callback, and found only when needed.
        sources: the files to download that no other dataset needs, by a name of their own.
        shared: the names of those that others need too: `xlsa17` (the lists), `glove`, `weights`.
    """

    name: str
    images: str
    annotations: str
    attribute_names: tuple[str, ...] = ()
    attribute_vectors: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    flat: bool = False
    make: str | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    shared: tuple[str, ...] = ()

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
    """A dataset on disk.

    Attributes:
        annotations: what its files say.
        image_folder: the folder its image paths are relative to.
        sources: where the annotations come from, as plain JSON values; kept in the cache's provenance.
    """

    annotations: Annotations
    image_folder: Path
    sources: dict[str, Any] = field(default_factory=dict)

    def image_path(self, row: int) -> Path:
        """Where the image of a row lies."""
        return self.image_folder / self.annotations.image_paths[row]
