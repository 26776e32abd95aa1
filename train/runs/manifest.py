"""The manifest of a run's folder: written in one piece, and refused where it is not what a run would have written."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

from msdn.cache.files import replace_file
from msdn.train.errors import RunError
from msdn.train.loop.settings import RunSettings
from msdn.train.measure.selection import kept_tasks
from msdn.train.runs.stored import has_figures, has_validation_figures, is_number, is_whole, read_json

VERSION = 1
MANIFEST = "manifest.json"
FINISHED = "finished"
VALIDATED = "validated"  # the status of a run that was only to choose on validation classes
_STATUSES = ("running", "interrupted", "failed", FINISHED, VALIDATED)
_PLACES = ("auto", "memory", "map")  # where features are read from


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest into the run's folder `path`."""
    replace_file(path / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest in the run's folder `path`; the settings in it are the caller's to check."""
    file = path / MANIFEST
    try:
        manifest = read_json(file)
    except FileNotFoundError as error:
        raise RunError(f"{path}: not a run folder, it has no {MANIFEST}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: cannot be read as a manifest ({error})") from error
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if version != VERSION:
        raise RunError(
            f"{file}: manifest version {shorten(version)}, expected {VERSION}; train the model again"
        )
    for key, is_good in _NEEDED.items():
        if key not in manifest:
            raise RunError(f"{file}: damaged, '{key}' is missing; train the model again")
        if not is_good(manifest[key]):
            raise _damaged(file, key, manifest[key])
    for key, is_good in _OPTIONAL.items():
        if manifest.get(key) is not None and not is_good(manifest[key]):
            raise _damaged(file, key, manifest[key])
    return dict(manifest)


def check_chosen(path: Path, manifest: dict[str, Any], settings: RunSettings) -> None:
    """Refuse a choice that training with these settings, so far, cannot have made."""
    chosen = manifest.get("chosen")
    if chosen is None:
        good = settings.select == "last" or manifest["status"] not in (FINISHED, VALIDATED)
    else:
        good = isinstance(chosen, dict) and _CHOSEN[settings.select](chosen, settings)
    if not good:
        raise _damaged(path / MANIFEST, "chosen", chosen)


def _damaged(file: Path, key: str, value: Any) -> RunError:
    return RunError(f"{file}: damaged, '{key}' is {shorten(value)}; train the model again")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_cache(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(value.get(key)) for key in ("path", "fingerprint"))


def _is_environment(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, (str, int)) for one in value.values())


def _is_choice_on_validation(chosen: dict[str, Any], settings: RunSettings) -> bool:
    return (
        _is_epoch(chosen.get("epochs"), settings)
        and is_number(chosen.get("margin"))
        and has_validation_figures(chosen)
    )


def _is_choice_on_test(chosen: dict[str, Any], settings: RunSettings) -> bool:
    return chosen.keys() == set(kept_tasks(settings)) and all(
        isinstance(best, dict)
        and _is_epoch(best.get("epoch"), settings)
        and has_figures(best, ("U", "S", "H", "acc"))
        for best in chosen.values()
    )


def _is_epoch(value: Any, settings: RunSettings) -> bool:
    return is_whole(value, 1) and value <= settings.passes


_NEEDED: dict[str, Callable[[Any], bool]] = {
    "status": lambda value: value in _STATUSES,
    "dataset": _is_text,
    "settings": lambda value: isinstance(value, dict),
    "cache": _is_cache,
    "weights": _is_text,
    "masked_images": lambda value: is_whole(value, 0),
    "device": _is_text,
    "features": lambda value: value in _PLACES,
    "environment": _is_environment,
    "started": _is_time,
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "preset": _is_text,
    "overrides": lambda value: isinstance(value, dict),
    "watch_test": lambda value: isinstance(value, bool),
    "reason": lambda value: isinstance(value, str),
}
_CHOSEN: dict[str, Callable[[dict[str, Any], RunSettings], bool]] = {
    "last": lambda chosen, settings: False,
    "val": _is_choice_on_validation,
    "test": _is_choice_on_test,
}
