"""Checkpoints: weights, optimiser, sampler, generators, settings, metrics and the cache's fingerprint.

The digest of all that is the file's last line, so that a checkpoint proves itself at any time: also after a crash
between its writing and the manifest's. The manifest of a finished run names the digest of its last one.
"""

import io
import sys
from hashlib import sha256
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
from msdn.cache.zips import check_stored
from msdn.train.errors import RunError
from msdn.train.loop.settings import TASKS
from msdn.train.measure.selection import KEPT, VALIDATION
from msdn.train.runs.run import VALIDATION_FIGURES

_VERSION = 4
_LAST_LINE = b"\nsha256 "  # then the digest; torch reads a checkpoint with or without it
_DIGITS = 64
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


def save_checkpoint(path: Path, content: dict[str, Any]) -> str:
    """Write a checkpoint, in one piece; return its digest."""
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, **_settle(content)}, buffer)
    digest = sha256(buffer.getbuffer()).hexdigest()
    buffer.seek(0, io.SEEK_END)
    buffer.write(_LAST_LINE + digest.encode())
    replace_file(path, buffer.getvalue())
    return digest


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
    """Read a checkpoint, its digest included; tensors and plain values only, no code is run."""
    if not path.is_file():
        raise RunError(f"{path}: there is no checkpoint; train the model again")
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); train the model again") from error
    end = len(stored) - _DIGITS - len(_LAST_LINE)
    digest = sha256(memoryview(stored)[: max(end, 0)]).hexdigest()
    if stored[max(end, 0) :] != _LAST_LINE + digest.encode():
        raise RunError(
            f"{path}: damaged, it does not fit its own digest; copy the run again, or train the model again"
        )
    try:
        check_stored(io.BytesIO(stored))
        content = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
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
    return {**content, "digest": digest}
