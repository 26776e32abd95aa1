"""Gives a finished cache other annotations; its features stay as they are, byte for byte.

The new file is made beside the old one and takes its name when it is whole, so a crash leaves the old one.
Features are copied by the kernel, which shares their blocks where the file system can.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.annotations import Annotations, name_differences, settle_types
from msdn.cache.errors import CacheError
from msdn.cache.files import FileLock, flush_folder
from msdn.cache.header import Header, read_header
from msdn.cache.reader import check_complete
from msdn.cache.structure import create_structure

COPY_BYTES = 2**26


def replace_annotations(
    path: Path, annotations: Annotations, sources: Mapping[str, Any], other_counts: str = ""
) -> list[str]:
    """Put `annotations` in place of the cache's own and return the names of what changed.

    Args:
        path: a finished cache.
        annotations: of the same images, in the same order.
        sources: where what is new comes from, recorded in the provenance.
        other_counts: where splits are now not as large as the known dataset's, what differs.
    """
    path = path.resolve()  # of a link, what it leads to is replaced
    with FileLock(path.with_name(path.name + ".lock"), f"writing {path}"):
        header = read_header(path)
        check_complete(header)
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
                f"{header.path}: its images have no names, and their labels are not those given; are they of "
                "another dataset, or in another order?"
            )
    elif before.image_paths != after.image_paths:
        raise CacheError(
            f"{header.path}: the annotations are of other images, or in another order; they take a new extraction: "
            "'msdn extract' with --restart"
        )


def _rewrite(header: Header, annotations: Annotations, sources: Mapping[str, Any], other_counts: str) -> None:
    making = header.path.with_name(header.path.name + ".annotating")
    provenance = dict(header.provenance)
    provenance[layout.ANNOTATIONS] = {**provenance.get(layout.ANNOTATIONS, {}), **sources}
    provenance.pop(layout.COUNTS, None)
    if other_counts:
        provenance[layout.COUNTS] = other_counts
    if annotations.image_paths != header.annotations.image_paths:
        del provenance[layout.UNNAMED_IMAGES]
    create_structure(making, annotations, [*header.maps.values()], provenance, header.backbone_state)
    try:
        _copy_rows(header, making)
        making.replace(header.path)
    finally:
        making.unlink(missing_ok=True)
    flush_folder(header.path.parent)


def _copy_rows(header: Header, target: Path) -> None:
    """Copy everything that belongs to rows into the places that `target` has for it."""
    places = read_header(target).places
    with header.path.open("rb") as source, target.open("rb+") as sink:
        for name in (*layout.ROW_TABLES, *(spec.dataset for spec in header.maps.values())):
            before, after = header.places[name], places[name]
            _copy_bytes(
                source.fileno(), before.offset, sink.fileno(), after.offset, before.end - before.offset
            )
        os.fsync(sink.fileno())


def _copy_bytes(source: int, start: int, sink: int, target: int, count: int) -> None:
    while count:
        done = _copy_some(source, start, sink, target, min(count, COPY_BYTES))
        start, target, count = start + done, target + done, count - done


def _copy_some(source: int, start: int, sink: int, target: int, count: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            done = os.copy_file_range(source, sink, count, start, target)
        except OSError:  # not between these files: old kernels, some network file systems
            done = 0
        if done:
            return done
    data = os.pread(source, count, start)
    if not data:
        raise CacheError("the cache was cut short while it was copied; nothing was changed")
    return os.pwrite(sink, data, target)
