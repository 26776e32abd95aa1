"""JSON files of our own: a seal tells damage, and each says by name what its values must be.

A sealed file holds a digest of its content: whoever reads it again learns of a flipped digit, and of an edit by hand.

A kind is a question about a value, a list of one kind, or a table of names and kinds. In a table `name?` may be missing
or null, and `*` is the kind of every other name; without it, other names may hold anything.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Union

from msdn.cache.files import replace_file

LARGEST = 2**26  # bytes; the results of 21,000 classes take some 2**22
Kind = Union[Callable[[Any], bool], "list[Kind]", "dict[str, Kind]"]
SEAL = "seal"


def read_json(file: Path) -> Any:
    """What a file of JSON holds; raises `OSError`, or a `ValueError` whatever else is wrong with it."""
    return parse_json(read_text(file))


def read_text(file: Path) -> str:
    """A file of text as it is; raises as `read_json` does."""
    if file.exists() and not file.is_file():
        raise ValueError("not a file")  # a pipe would never end
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MiB")
    return content.decode()


def parse_json(text: str) -> Any:
    """What a text of JSON says; raises a `ValueError` whatever is wrong with it."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def seal(record: Mapping[str, Any], indent: int | None = 2) -> bytes:
    """A table as JSON with its seal."""
    stored = json.loads(json.dumps(record))
    stored.pop(SEAL, None)
    text = json.dumps(stored | {SEAL: _digest(stored)}, indent=indent)
    return (text + "\n").encode()


def write_sealed(file: Path, record: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a table as JSON with its seal; a crash leaves the old content or the new, never a part."""
    replace_file(file, seal(record, indent))


def read_sealed(file: Path) -> dict[str, Any]:
    """What `write_sealed` wrote; raises `OSError`, or a `ValueError` where the file holds anything else."""
    record = read_json(file)
    if not isinstance(record, dict) or SEAL not in record:
        raise ValueError("it has no seal: damaged, or not written by this version of msdn")
    if record.pop(SEAL) != _digest(record):
        raise ValueError("damaged, or changed by hand: its content does not fit its seal")
    return record


def _digest(record: dict[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def find_misfit(record: dict[Any, Any], kinds: "dict[str, Kind]") -> str | None:
    """The first name whose value is missing or not of its kind; None where all are as they should be."""
    for name, kind in kinds.items():
        plain = name.removesuffix("?")
        if name == "*" or (plain != name and record.get(plain) is None):
            continue
        if plain not in record or not fits(record[plain], kind):
            return plain
    if "*" in kinds:
        named = {name.removesuffix("?") for name in kinds}
        others = (name for name in record if name not in named)
        return next((repr(n) for n in others if type(n) is not str or not fits(record[n], kinds["*"])), None)
    return None


def fits(value: Any, kind: Kind) -> bool:
    """Whether a value is of a kind."""
    if isinstance(kind, dict):
        return isinstance(value, dict) and find_misfit(value, kind) is None
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(one, kind[0]) for one in value)
    return kind(value)


def is_text(value: Any) -> bool:
    """A text that is not empty and can be shown: half a surrogate pair cannot."""
    return isinstance(value, str) and value != "" and value.encode(errors="ignore").decode() == value


def is_table(value: Any) -> bool:
    """A table of names, whatever they hold."""
    return isinstance(value, dict)


def is_flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A finite number that fits into a float; a truth value is none."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )


def is_duration(value: Any) -> bool:
    """Seconds."""
    return is_number(value) and value >= 0


def is_figure(value: Any) -> bool:
    """A figure in percent, or null where no image can tell."""
    return value is None or (is_number(value) and 0 <= value <= 100 + 1e-9)


def is_plain(value: Any) -> bool:
    """Neither a table nor a list."""
    return value is None or isinstance(value, (str, int, float))


def is_time(value: Any) -> bool:
    """A moment, with its time zone."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def is_nothing(value: Any) -> bool:
    """As `*`: no other name is allowed."""
    return False


def whole(least: int) -> Kind:
    """A whole number of at least so much, that JSON readers do not round."""
    return lambda value: type(value) is int and least <= value < 2**53


def one_of(choices: Iterable[str]) -> Kind:
    """One of these texts."""
    known = tuple(choices)
    return lambda value: value in known
