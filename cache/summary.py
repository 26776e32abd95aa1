"""What a person wants to know of a cache file, line by line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache import layout
from msdn.cache.header import Header, read_header
from msdn.cache.layout import MapSpec

RANDOM_NOTE = " (no knowledge of the world: results say nothing about published figures)"


def summarise(path: Path) -> Iterator[tuple[str, str]]:
    """Yield names and values for display."""
    header = read_header(path)
    yield "file", f"{path} ({path.stat().st_size / 1e9:.2f} GB)"
    yield "dataset", header.annotations.dataset
    for spec in header.maps.values():
        yield f"map {spec.name}", _describe_map(spec, len(header.states))
    yield "state", _describe_state(header)
    yield from _describe_annotations(header)
    yield from _describe_provenance(header)
    if not (header.states == layout.TODO).any():
        yield "fingerprint", header.fingerprint


def _describe_map(spec: MapSpec, n: int) -> str:
    signs = {None: "", False: ", never negative", True: ", signed"}
    size = f"{n} images x {spec.height}x{spec.width} regions x {spec.channels} channels"
    return f"{size}, {spec.dtype}{signs[spec.signed]}"


def _describe_state(header: Header) -> str:
    todo = int((header.states == layout.TODO).sum())
    if todo:
        return f"unfinished: {todo} of {len(header.states)} images to go; repeat the command that began it"
    masked = len(header.masked_rows)
    return f"complete, {masked} images masked" if masked else "complete"


def _describe_annotations(header: Header) -> Iterator[tuple[str, str]]:
    a = header.annotations
    yield "classes", f"{len(a.class_names)}: {len(a.seen_classes)} seen, {len(a.unseen_classes)} unseen"
    vectors = "none" if a.attribute_vectors is None else f"{a.attribute_vectors.shape[1]}-d vectors"
    named = "named" if a.attribute_names else "unnamed"
    yield "attributes", f"{a.attributes.shape[1]}, {named}, {vectors}"
    for name, rows in a.splits.items():
        masked = len(np.intersect1d(rows, header.masked_rows))
        yield f"split {name}", f"{len(rows)} images" + (f", {masked} masked" if masked else "")
    for row, reason in header.mask_reasons.items():
        yield "masked", f"{a.image_paths[row]}: {reason}"


def _describe_provenance(header: Header) -> Iterator[tuple[str, str]]:
    for key, value in header.provenance.items():
        text = _flatten(value)
        if key == "weights" and isinstance(value, dict) and value.get("kind") == "random":
            text += RANDOM_NOTE
        yield key.replace("_", " "), text


def _flatten(value: Any) -> str:
    """Write nested facts in one line."""
    if not isinstance(value, dict):
        return str(value)
    inner = {k: f"({_flatten(v)})" if isinstance(v, dict) else v for k, v in value.items()}
    return ", ".join(f"{k} {v}" for k, v in inner.items())
