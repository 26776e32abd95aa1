"""What a dataset's file says about it: where its parts lie, what they must count, how to get them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msdn.cache.annotations import Annotations

UNDATED = "undated"  # in `Dataset.sources`: a file of lists that does not say when it was made


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset in the layout of the published benchmarks; all paths are relative to the home's data folder.

    Attributes:
        images: the folder that the image lists' paths are relative to.
        annotations: the folder of `res101.mat` and `att_splits.mat`.
        how_to_get: one sentence for whoever lacks the files.
        attribute_names: files that may hold the attributes' names, the first that exists is read.
        attribute_vectors: an .npz file with the array `vectors` [K, D], read where it exists.
        counts: known sizes of splits, checked where given.
        flat: all images lie in one folder, so that of the listed paths only the file's name counts.
        make: `module:function` that draws the dataset into a given folder, for one that ships with the project;
            called with the folder and a progress callback, and found only when needed.
    """

    name: str
    images: str
    annotations: str
    how_to_get: str
    attribute_names: tuple[str, ...] = ()
    attribute_vectors: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    flat: bool = False
    make: str | None = None


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
