"""Checkpoints: weights, optimiser, sampler, generators, settings, metrics and the cache's fingerprint."""

import io
from pathlib import Path
from typing import Any

import torch

from msdn.cache.files import replace_file
from msdn.train.errors import RunError

_VERSION = 1
_PARTS = {
    "epoch": int,
    "settings": dict,
    "fingerprint": str,
    "metrics": list,
    "trainer": dict,
    "kept": dict,
    "parameters": int,
}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint, in one piece."""
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, **content}, buffer)
    replace_file(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only, no code is run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path}: there is no checkpoint; train the model again") from error
    except Exception as error:  # torch raises whatever the damaged bytes lead to
        raise RunError(f"{path}: not a readable checkpoint; train the model again") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != _VERSION or not _is_complete(content):
        raise RunError(
            f"{path}: checkpoint version {version}, expected a whole one of version {_VERSION}; "
            "train the model again"
        )
    return content


def _is_complete(content: dict[str, Any]) -> bool:
    good = all(isinstance(content.get(part), kind) for part, kind in _PARTS.items())
    return good and content["epoch"] == len(content["metrics"])
