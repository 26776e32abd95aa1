"""A cache whose dataset gained images: its rows are kept, byte for byte, and room is made for more behind them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msdn.cache.annotations import Annotations, arrange
from msdn.cache.copying import copy_rows
from msdn.cache.files import flush_folder
from msdn.cache.header import Header
from msdn.cache.layout import GROWN, MIXED
from msdn.cache.parts import MADE_BY
from msdn.cache.structure import create_structure
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import ExtractError


def in_cache_order(dataset: Dataset, header: Header) -> Dataset:
    """The dataset with the cache's images first, in the cache's order; raises where it lacks one of them."""
    had = header.annotations.image_paths
    annotations = arrange(dataset.annotations, had)
    if annotations.image_paths[: len(had)] != had:
        gone = [path for path in had if path not in set(annotations.image_paths)]
        raise ExtractError(
            f"{header.path}: the dataset's images changed since the cache was started: {len(gone)} are gone, first "
            f"'{gone[0]}'; put them back, or start again with --restart"
        )
    return replace(dataset, annotations=annotations)


def grow(header: Header, partial: Path, dataset: Dataset, recipe: Mapping[str, Any]) -> None:
    """Make `partial` of a cache and of the dataset's further images; it is there with all rows of the cache, or not.

    Args:
        header: of the cache, which may be unfinished, and `partial` itself.
        partial: the unfinished file to write.
        dataset: in the cache's order, with more images.
        recipe: how the rows of these will be made.
    """
    made = {name: header.provenance[name] for name in (*MADE_BY, MIXED) if name in header.provenance}
    kept = {"rows": len(header.states), "fingerprint": header.fingerprint, **made}
    provenance = {**recipe, GROWN: [*header.provenance.get(GROWN, []), kept]}
    copy_cache(header, partial, dataset.annotations, provenance)


def copy_cache(
    header: Header, partial: Path, annotations: Annotations, provenance: Mapping[str, Any]
) -> None:
    """Make `partial` an unfinished copy of a cache, with room for the further images of `annotations`."""
    making = partial.with_name(partial.name + ".growing")
    create_structure(making, annotations, [*header.maps.values()], provenance, header.backbone_state)
    copy_rows(header, making)
    making.replace(partial)
    flush_folder(partial.parent)
