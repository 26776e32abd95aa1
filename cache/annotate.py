"""Gives a finished cache other annotations; its features stay as they are, byte for byte.

The new file is made beside the old one and takes its name when it is whole, so a crash leaves the old one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations, arrange, keep_removed, name_differences, settle_types
from msdn.cache.copying import copy_rows
from msdn.cache.errors import CacheError
from msdn.cache.files import FileLock, new_file
from msdn.cache.header import Header, read_header
from msdn.cache.reader import check_complete
from msdn.cache.structure import write_structure


def replace_annotations(
    path: Path, annotations: Annotations, sources: Mapping[str, Any], other_counts: str = ""
) -> list[str]:
    """Put `annotations` in place of the cache's own and return the names of what changed.

    Args:
        path: a finished cache.
        annotations: of the same images, in any order; the cache keeps its own.
        sources: where what is new comes from, recorded in the provenance.
        other_counts: where splits are now not as large as the known dataset's, what differs.
    """
    path = path.resolve()  # of a link, what it leads to is replaced
    with FileLock(path.with_name(path.name + ".lock"), f"writing {path}"):
        header = read_header(path)
        check_complete(header)
        if not header.provenance.get(layout.UNNAMED_IMAGES):
            annotations = keep_removed(annotations, header.annotations, header.masked_rows.tolist())
            annotations = arrange(annotations, header.annotations.image_paths)
        _check_same_images(header, annotations)
        changed = name_differences(header.annotations, annotations)
        if annotations.image_paths != header.annotations.image_paths:
            changed.append("image paths")
        if changed:
            _rewrite(header, settle_types(annotations), sources, other_counts)
        return changed


def _check_same_images(header: Header, annotations: Annotations) -> None:
    before, after = header.annotations, annotations
    if header.provenance.get(layout.UNNAMED_IMAGES):  # imported without their paths: labels tell as much
        if not np.array_equal(before.labels, after.labels):
            raise CacheError(
                f"{header.path}: its images have no names, and their labels are not the labels given; are they from "
                "another dataset, or in another order?"
            )
    elif before.image_paths != after.image_paths:
        raise CacheError(
            f"{header.path}: the annotations are for other images; extract the features again: "
            "'msdn extract' with --restart"
        )


def _rewrite(header: Header, annotations: Annotations, sources: Mapping[str, Any], other_counts: str) -> None:
    provenance = dict(header.provenance)
    provenance[layout.ANNOTATIONS] = {**provenance.get(layout.ANNOTATIONS, {}), **sources}
    provenance.pop(layout.COUNTS, None)
    if other_counts:
        provenance[layout.COUNTS] = other_counts
    if annotations.image_paths != header.annotations.image_paths:
        del provenance[layout.UNNAMED_IMAGES]
    with new_file(header.path) as making:
        write_structure(making, annotations, [*header.maps.values()], provenance, header.backbone_state)
        copy_rows(header, making)
