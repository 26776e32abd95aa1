"""Small caches for tests, made by the real writer."""

from pathlib import Path

import numpy as np

from msdn.cache.annotations import Annotations
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
    features: np.ndarray,
    masked: dict[int, str] | None = None,
    provenance: dict | None = None,
) -> Path:
    """Write `features` [N, h, w, F] through the real writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    create_structure(
        partial_path(path), annotations, features.shape[1:], features.dtype, provenance or PROVENANCE, {}
    )
    with PartialCache(path) as cache:
        good = [row for row in range(len(features)) if row not in (masked or {})]
        cache.write_rows(good, features[good])
        if masked:
            cache.mask_rows(masked)
        cache.finish()
    return path
