"""What a cache's provenance may say: all that a command will ask of it is checked once, when the cache is opened."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from msdn.cache import layout
from msdn.cache.records import Kind, find_misfit, fits, is_flag, is_plain, is_table, is_text, one_of, whole

WEIGHTS = ("imagenet", "file", "random", "imported")
LIBRARIES = ("torchvision", "timm", "file")
FACTS: Kind = {"*": is_plain}
ROWS: Kind = lambda value: fits(value, [whole(0)]) and len(value) == 2  # noqa: E731 -- a kind is a function

KINDS: dict[str, Kind] = {
    "dataset?": is_text,
    "weights": {"kind": one_of(WEIGHTS), "seed?": whole(0), "sha256?": is_text, "name?": is_text},
    "image_size?": whole(1),
    "block_rows?": whole(1),
    "precision?": is_text,
    "batch_norm?": is_text,
    "compiled?": is_flag,
    "dtype?": is_text,
    "transform?": is_text,
    "maps?": {"*": FACTS},
    "device?": FACTS,
    "versions?": FACTS,
    f"{layout.ANNOTATIONS}?": {"folder?": is_text},
    f"{layout.UNNAMED_IMAGES}?": is_flag,
    f"{layout.COUNTS}?": is_text,
    f"{layout.EXPORTED_MAP}?": is_text,
    f"{layout.GROWN}?": [{"rows": whole(0), "fingerprint": is_text}],
    f"{layout.MIXED}?": [{"rows": ROWS, "device": FACTS}],
    f"{layout.PART}?": {
        "shard": whole(0),
        "of": whole(1),
        "first_row": whole(0),
        "images": whole(1),
        "dataset": is_text,
    },
}
NEVER_NULL = ("device", "versions", "maps", layout.ANNOTATIONS, layout.GROWN, layout.MIXED, layout.PART)
EXTRACTED: dict[str, Kind] = {  # of features that a backbone known here made
    "backbone": {"name": is_text, "library": one_of(LIBRARIES), "sha256?": is_text, "tag?": is_text},
    "maps?": {"*": {"layer": is_text, "norm?": is_flag, "pool?": is_text}},
}


def parse_provenance(text: bytes | str) -> dict[str, Any]:
    """Return what JSON says of a cache's features; raises a `ValueError` that names what is wrong with it."""
    try:
        provenance = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(provenance, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("its provenance holds half a character") from error
    except RecursionError as error:
        raise ValueError("its provenance is nested too deeply") from error
    except ValueError as error:
        raise ValueError("its provenance cannot be read") from error
    check_provenance(provenance)
    return dict(provenance)


def check_provenance(provenance: Any) -> None:
    """Raise a `ValueError` that names what is missing, or is not of its kind."""
    if not is_table(provenance):
        raise ValueError("its provenance is no table of names")
    misfit = find_misfit(provenance, KINDS) or _find_missing(provenance)
    if misfit:
        raise ValueError(f"its provenance lacks '{misfit}', or says something else there than 'msdn' writes")


def _find_missing(provenance: Mapping[str, Any]) -> str | None:
    empty = [name for name in NEVER_NULL if name in provenance and provenance[name] is None]
    backbone = provenance.get("backbone")
    kinds: dict[str, Kind] = EXTRACTED if is_table(backbone) else {}
    if layout.PART in provenance:
        kinds = {**kinds, "device": FACTS, "versions": FACTS}
    misfit = empty[0] if empty else find_misfit(dict(provenance), kinds)
    if (
        not misfit
        and isinstance(backbone, dict)
        and backbone["library"] != "file"
        and backbone["name"].endswith(".py")
    ):
        return "backbone name"  # a file, whose code would be run
    return misfit


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
