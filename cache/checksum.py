"""Checksums of rows, and the fingerprint that tells two caches apart."""

from collections.abc import Mapping
from hashlib import blake2b, sha256

import numpy as np

from msdn.cache.annotations import Annotations


def checksum_row(row: np.ndarray) -> int:
    """Return a 64-bit checksum of the row's bytes; never 0, which stands for a row without features."""
    digest = blake2b(np.ascontiguousarray(row).data.cast("B"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def fingerprint(annotations: Annotations, checksums: np.ndarray) -> str:
    """Hash what training depends on: rows, labels, splits, attributes and vectors; no times, no versions."""
    digest = sha256()
    arrays = {"checksums": checksums, "labels": annotations.labels, "attributes": annotations.attributes}
    if annotations.attribute_vectors is not None:
        arrays["vectors"] = annotations.attribute_vectors
    arrays |= {f"split {name}": rows for name, rows in annotations.splits.items()}
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def digest_header(annotations: Annotations, backbone_state: Mapping[str, np.ndarray], provenance: str) -> str:
    """Hash everything but the rows, so that damage to it is noticed at every opening."""
    digest = sha256(provenance.encode())
    for text in (
        annotations.dataset,
        *annotations.image_paths,
        *annotations.class_names,
        *annotations.attribute_names,
    ):
        digest.update(text.encode() + b"\0")
    for name in sorted(backbone_state):
        digest.update(name.encode() + np.ascontiguousarray(backbone_state[name]).tobytes())
    digest.update(fingerprint(annotations, np.empty(0, np.uint64)).encode())
    return digest.hexdigest()
