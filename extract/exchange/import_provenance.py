"""Says where an imported cache's features come from: as its export says, or that nobody knows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msdn.cache import layout
from msdn.cache.annotations import Annotations
from msdn.cache.published import PublishedFile
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError

KINDS = ("imagenet", "file", "random", "imported")  # of weights
PIXELS = 32  # of an image side per region
SHA256 = re.compile(r"[0-9a-f]{64}")


def describe_import(
    source: Path, lists: PublishedFile, a: Annotations, dataset: Dataset | None, dtype: str
) -> dict[str, Any]:
    """Return the cache's provenance; `dataset` is what gave names to a file without."""
    if lists.provenance is None:
        facts = _describe_foreign(source, lists, a, dtype)
    else:
        _check_provenance(source, lists.provenance, a.dataset)
        facts = {**lists.provenance, "dtype": dtype}
    if dataset is not None:
        facts[layout.ANNOTATIONS] = {**facts.get(layout.ANNOTATIONS, {}), **dataset.sources}
        facts.pop(layout.UNNAMED_IMAGES, None)
    return facts


def _describe_foreign(source: Path, lists: PublishedFile, a: Annotations, dtype: str) -> dict[str, Any]:
    return {
        "dataset": a.dataset,
        "backbone": "not known: features were imported",
        "weights": {"kind": "imported", "name": source.name, "bytes": source.stat().st_size},
        "image_size": lists.shape[2] * PIXELS,
        "dtype": dtype,
        layout.ANNOTATIONS: {"features": source.name},
        layout.UNNAMED_IMAGES: True,
    }


def _check_provenance(source: Path, provenance: dict[str, Any], dataset: str) -> None:
    """Refuse what no export says: the cache's name is made of it."""
    for name, value, is_fit, expected in _examine(provenance, dataset):
        if not is_fit:
            said = "lacks" if value is None else f"says {value!r:.60} for"
            raise DatasetError(
                f"{source}: its provenance {said} '{name}', expected {expected}; is it what 'msdn cache export' wrote, "
                "and of the dataset that --dataset names?"
            )


def _examine(provenance: dict[str, Any], dataset: str) -> Iterator[tuple[str, Any, bool, str]]:
    """Yield name, value, whether it will do, and what would; each is asked for only when those before will do."""
    yield "dataset", provenance.get("dataset"), provenance.get("dataset") == dataset, f"'{dataset}'"
    size: Any = provenance.get("image_size")
    yield "image_size", size, _is_whole(size) and size > 0, "a whole number of pixels"
    sources = provenance.get(layout.ANNOTATIONS, {})
    yield layout.ANNOTATIONS, sources, isinstance(sources, dict), "names and where they come from"
    weights: Any = provenance.get("weights")
    yield "weights", weights, isinstance(weights, dict), "their description"
    kind = weights.get("kind")
    yield "weights kind", kind, kind in KINDS, f"one of {', '.join(KINDS)}"
    if kind == "random":
        seed = weights.get("seed")
        yield "weights seed", seed, _is_whole(seed) and seed >= 0, "a whole number"
    if kind == "file":
        digest = weights.get("sha256")
        yield "weights sha256", digest, bool(SHA256.fullmatch(str(digest))), "64 hexadecimal digits"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
