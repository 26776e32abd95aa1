"""Names weights in a cache's file name, so that features of different ones never collide; without torch."""

from collections.abc import Mapping
from typing import Any

HASH_DIGITS = 8  # of a file's weights, enough to tell them apart


def weights_tag(description: Mapping[str, Any]) -> str:
    """Return the name of weights that are described as in a cache's provenance."""
    kind: str = description["kind"]
    if kind == "random" and description["seed"] != 0:
        return f"random{description['seed']}"
    return f"file_{description['sha256'][:HASH_DIGITS]}" if kind == "file" else kind
