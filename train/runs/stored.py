"""Values read from files that may be damaged or crafted: what they must be before anything relies on them. No torch."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COMPARED = ("acc", "U", "S", "H", "AUSUC")
_MOST_DIGITS = 300  # of a whole number; much longer ones fit into no float
_DEEPEST = 20  # lists in lists; what we write has four levels
_TOO_DEEP = "it is nested too deeply"


def read_json(file: Path) -> Any:
    """What a file of JSON holds; raises `OSError`, or `ValueError` whatever else is wrong with it."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_int=_parse_whole)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check_depth(content, _DEEPEST)
    json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair could not be printed
    return content


def is_number(value: Any) -> bool:
    """Whether it is a finite number that fits into a float; a truth value is none."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )


def is_whole(value: Any, at_least: int) -> bool:
    """Whether it is a whole number of at least so much; a truth value is none."""
    return type(value) is int and value >= at_least


def is_figure(value: Any) -> bool:
    """Whether it is a figure in percent, or None, where no image can tell."""
    return value is None or (is_number(value) and 0 <= value <= 100 + 1e-9)


def has_figures(record: dict[str, Any], names: Iterable[str]) -> bool:
    """Whether a record holds all these figures."""
    return all(name in record and is_figure(record[name]) for name in names)


def has_validation_figures(record: dict[str, Any]) -> bool:
    """Whether a record holds what was measured on validation classes."""
    return has_figures(record, (f"val_{name}" for name in COMPARED)) and is_number(record.get("val_margin"))


def _parse_whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)


def _check_depth(content: Any, allowed: int) -> None:
    if isinstance(content, (dict, list)):
        if not allowed:
            raise ValueError(_TOO_DEEP)
        for part in content.values() if isinstance(content, dict) else content:
            _check_depth(part, allowed - 1)
