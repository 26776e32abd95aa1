"""A cache whose dataset gained images: its rows are kept, byte for byte, and room is made for more behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.annotations import Annotations, arrange, keep_removed
from msdn.cache.copying import copy_rows
from msdn.cache.files import new_file
from msdn.cache.header import Header
from msdn.cache.layout import DONE, GROWN, MIXED
from msdn.cache.parts import MADE_BY
from msdn.cache.structure import write_structure
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import ExtractError


def in_cache_order(dataset: Dataset, header: Header) -> Dataset:
    """The dataset with the cache's images first, in the cache's order; raises where it lacks one.

    Of a folder of one's own, images may be gone that never gave features: their rows stay, in no split.
    """
    had = header.annotations.image_paths
    is_own = "folder" in dataset.sources
    without = np.flatnonzero(header.states != DONE).tolist() if is_own else []
    annotations = arrange(keep_removed(dataset.annotations, header.annotations, without), had)
    if annotations.image_paths[: len(had)] != had:
        here = set(annotations.image_paths)
        gone = [path for path in had if path not in here]
        count, it = (
            ("1 image is gone,", "it") if len(gone) == 1 else (f"{len(gone)} images are gone, first", "them")
        )
        raise ExtractError(
            f"{header.path}: the dataset's images changed since the cache was started: {count} '{gone[0]}'; put {it} "
            "back, or start again with --restart"
        )
    return replace(dataset, annotations=annotations)


def removed_rows(dataset: Dataset, header: Header) -> np.ndarray:
    """The rows of a cache whose image the dataset does not have any more."""
    here = set(dataset.annotations.image_paths)
    return np.array(
        [n for n, path in enumerate(header.annotations.image_paths) if path not in here], np.int64
    )


def grow(
    header: Header, partial: Path, dataset: Dataset, recipe: Mapping[str, Any], damaged: Sequence[int]
) -> None:
    """Make `partial` of a cache and of the dataset's further images; it is there with all rows of the cache, or not.

    Args:
        header: of the cache, which may be unfinished, and `partial` itself.
        partial: the unfinished file to write.
        dataset: in the cache's order, with more images.
        recipe: how the rows of these will be made.
        damaged: rows of the cache that will be made again.
    """
    made = {name: header.provenance[name] for name in (*MADE_BY, MIXED) if name in header.provenance}
    kept = {"rows": len(header.states), "fingerprint": header.fingerprint, **made}
    provenance = {**recipe, GROWN: [*header.provenance.get(GROWN, []), kept]}
    copy_cache(header, partial, dataset.annotations, provenance, damaged)


def copy_cache(
    header: Header,
    partial: Path,
    annotations: Annotations,
    provenance: Mapping[str, Any],
    damaged: Sequence[int],
) -> None:
    """Make `partial` an unfinished copy of a cache, with room for the further images of `annotations`."""
    with new_file(partial) as making:
        write_structure(making, annotations, [*header.maps.values()], provenance, header.backbone_state)
        copy_rows(header, making, damaged=damaged)
