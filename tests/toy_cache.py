"""Small caches for tests, made by the real writer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from msdn.cache.annotations import Annotations
from msdn.cache.header import read_header
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.structure import create_structure

PROVENANCE = {"dataset": "toy", "image_size": 224, "weights": {"kind": "random", "seed": 0}}


def make_annotations(
    n_classes: int = 6, per_class: int = 5, n_attributes: int = 7, seed: int = 0
) -> Annotations:
    """Annotations in which the last third of the classes is unseen; one image of each seen class is tested."""
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(n_classes), per_class)
    unseen = labels >= n_classes - n_classes // 3
    tested = ~unseen & (np.arange(len(labels)) % per_class == 0)
    val = ~unseen & ~tested & (labels == 0)
    splits = {
        "trainval": ~unseen & ~tested,
        "train": ~unseen & ~tested & ~val,
        "val": val,
        "test_seen": tested,
        "test_unseen": unseen,
    }
    return Annotations(
        dataset="toy",
        image_paths=tuple(f"class_{label}/{row}.jpg" for row, label in enumerate(labels)),
        labels=labels,
        class_names=tuple(f"class_{c}" for c in range(n_classes)),
        attributes=rng.uniform(0, 100, (n_classes, n_attributes)),
        attribute_names=tuple(f"part {k} color: red" for k in range(n_attributes)),
        attribute_vectors=rng.standard_normal((n_attributes, 8)).astype(np.float32),
        splits={name: np.flatnonzero(chosen) for name, chosen in splits.items()},
    )


def write_cache(
    path: Path,
    annotations: Annotations,
    features: np.ndarray | Mapping[str, np.ndarray],
    masked: dict[int, str] | None = None,
    provenance: dict | None = None,
    signed: bool | None = False,
) -> Path:
    """Write `features` [N, h, w, C], of the main map or of each one named, through the real writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    maps = {MAIN: features} if isinstance(features, np.ndarray) else features
    begin_cache(path, annotations, maps, provenance, signed)
    with PartialCache(path) as cache:
        good = [row for row in range(len(annotations.labels)) if row not in (masked or {})]
        cache.write_rows(good, {name: values[good] for name, values in maps.items()})
        if masked:
            cache.mask_rows(masked)
        cache.finish()
    return path


def begin_cache(
    path: Path,
    annotations: Annotations,
    maps: Mapping[str, np.ndarray],
    provenance: dict | None = None,
    signed: bool | None = False,
) -> Path:
    """Make the unfinished file of the cache `path`, whose maps are as large as these."""
    specs = [spec_of(name, values, signed) for name, values in maps.items()]
    create_structure(partial_path(path), annotations, specs, provenance or PROVENANCE, {})
    return partial_path(path)


def spec_of(name: str, values: np.ndarray, signed: bool | None = False) -> MapSpec:
    """Describe a map by its features [N, h, w, C]."""
    return MapSpec(name, *values.shape[1:], values.dtype, signed)


def zero_rows(path: Path, rows: np.ndarray, dataset: str = "features") -> None:
    """Let the features of rows become zeros, as a disk does that lost them."""
    place = read_header(path).places[dataset]
    with path.open("r+b") as file:
        for row in rows.tolist():
            file.seek(place.start_of(row))
            file.write(bytes(place.row_bytes))
