"""Checkpoints: weights, optimiser, sampler, generators, settings, metrics and the cache's fingerprint."""

import io
import sys
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch

from msdn.cache.files import replace_file
from msdn.cache.records import (
    Kind,
    find_misfit,
    fits,
    is_duration,
    is_figure,
    is_nothing,
    is_plain,
    is_table,
    is_text,
    whole,
)
from msdn.train.errors import RunError
from msdn.train.loop.settings import TASKS
from msdn.train.measure.selection import KEPT, VALIDATION
from msdn.train.runs.run import VALIDATION_FIGURES

_VERSION = 3
_RECORD: dict[str, Kind] = {"epoch": whole(1), "seconds": is_duration, "*": is_plain}
_BEST: dict[str, Kind] = {
    "epoch": whole(1),
    **dict.fromkeys(KEPT, is_figure),
    "weights": is_table,
    "*": is_nothing,
}


def _is_record(value: Any) -> bool:
    """What an epoch gave: plain values, and figures where it was to validate."""
    validates = isinstance(value, dict) and value.get("phase") == VALIDATION
    return fits(value, _RECORD | VALIDATION_FIGURES if validates else _RECORD)


_CHECKPOINT: dict[str, Kind] = {
    "epoch": whole(0),
    "settings": is_table,
    "fingerprint": is_text,
    "metrics": [_is_record],
    "trainer": is_table,
    "kept": {**{f"{task}?": _BEST for task in TASKS}, "*": is_nothing},
    "parameters": whole(0),
}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint, in one piece."""
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, **_settle(content)}, buffer)
    replace_file(path, buffer.getvalue())


def _settle(value: Any) -> Any:
    """The same values, of which only equal texts are one object: pickle writes what is shared in another way.

    So a run that was stopped and resumed ends with the same bytes as one that never stopped.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        settled: Any = type(value)((_settle(key), _settle(one)) for key, one in value.items())
        if hasattr(value, "_metadata"):  # of a network's state
            settled._metadata = _settle(value._metadata)
        return settled
    return type(value)(map(_settle, value)) if isinstance(value, (list, tuple)) else value


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only, no code is run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path}: there is no checkpoint; train the model again") from error
    except Exception as error:  # torch raises whatever the damaged bytes lead to
        raise RunError(f"{path}: not a readable checkpoint; train the model again") from error
    version = content.get("version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version != _VERSION:
        raise RunError(
            f"{path}: checkpoint version {shorten(version)}, expected {_VERSION}; train the model again"
        )
    damaged = find_misfit(content, _CHECKPOINT)
    if damaged is None and content["epoch"] != len(content["metrics"]):
        damaged = "epoch"
    if damaged:
        raise RunError(f"{path}: damaged, its '{damaged}' cannot be read; train the model again")
    return dict(content)
