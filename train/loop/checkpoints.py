"""Checkpoints: weights, optimiser, sampler, generators, settings, metrics and the cache's fingerprint."""

import io
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch

from msdn.cache.files import replace_file
from msdn.train.errors import RunError
from msdn.train.loop.settings import TASKS
from msdn.train.measure.selection import VALIDATION
from msdn.train.runs.stored import has_figures, has_validation_figures, is_number, is_whole

_VERSION = 2
_PARTS = {
    "epoch": int,
    "settings": dict,
    "fingerprint": str,
    "metrics": list,
    "trainer": dict,
    "kept": dict,
    "parameters": int,
}
_KEPT_FIGURES = ("U", "S", "H", "acc")


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
    if not isinstance(version, int) or version != _VERSION:
        raise RunError(
            f"{path}: checkpoint version {shorten(version)}, expected {_VERSION}; train the model again"
        )
    damaged = _find_damage(content)
    if damaged:
        raise RunError(f"{path}: damaged, its '{damaged}' cannot be read; train the model again")
    return dict(content)


def _find_damage(content: dict[str, Any]) -> str | None:
    """The first part that is missing, or not as `save_checkpoint` was given it."""
    for part, kind in _PARTS.items():
        if not isinstance(content.get(part), kind):
            return part
    if content["epoch"] != len(content["metrics"]):
        return "epoch"
    if not all(_is_record(record) for record in content["metrics"]):
        return "metrics"
    kept = content["kept"]
    return None if all(task in TASKS and _is_kept(kept[task]) for task in kept) else "kept"


def _is_record(record: Any) -> bool:
    """Whether it is what an epoch gave: plain values, its number and its time among them."""
    if not isinstance(record, dict) or not all(_is_plain(*item) for item in record.items()):
        return False
    if record.get("stage") == VALIDATION and not has_validation_figures(record):
        return False
    in_time = is_number(record.get("seconds")) and record["seconds"] >= 0
    return in_time and is_whole(record.get("epoch"), 1)


def _is_plain(name: Any, value: Any) -> bool:
    return isinstance(name, str) and (value is None or isinstance(value, (str, int, float)))


def _is_kept(best: Any) -> bool:
    """Whether it is the best epoch of a task: its number, its figures and its weights."""
    return (
        isinstance(best, dict)
        and best.keys() == {"epoch", *_KEPT_FIGURES, "weights"}
        and is_whole(best["epoch"], 1)
        and has_figures(best, _KEPT_FIGURES)
        and isinstance(best["weights"], dict)
    )
