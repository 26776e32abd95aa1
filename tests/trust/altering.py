"""Changes a cache as a stranger would who knows the format: every checksum is right again afterwards."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from msdn.cache.header import read_header
from msdn.cache.layout import ROW_TABLES, SCHEMA, digest_metadata, is_map


def put_index(path: Path, change: Callable[[dict], object]) -> None:
    """Change what the index of a cache says, and make its checksum right."""
    facts = read_facts(path)
    changed = change(facts)
    put_start(path, json.dumps(facts if changed is None else changed).encode())


def read_facts(path: Path) -> dict:
    """What the index of a cache says."""
    with path.open("rb") as file:
        length = int(file.readline().split()[3])
        return dict(json.loads(file.read(length)))


def put_start(path: Path, content: bytes) -> None:
    """Write any bytes as the index, under a right checksum."""
    start = f"msdn-cache {SCHEMA} {sha256(content).hexdigest()} {len(content)}\n".encode() + content
    with path.open("rb+") as file:
        file.write(start + b"\0")


def move(name: str, **how: Any) -> Callable[[dict], None]:
    """Change type and offset of a dataset, or its shape by a function."""

    def change(facts: dict) -> None:
        kind, offset, *shape = facts["places"][name]
        sizes = how["shape"](shape) if "shape" in how else shape
        facts["places"][name] = [how.get("kind", kind), how.get("offset", offset), *sizes]

    return change


def put_table(path: Path, name: str, values: np.ndarray) -> None:
    """Replace the bytes of a dataset by others of its type, at the end of the file where they are more or fewer."""
    place = read_header(path).places[name]
    values = np.ascontiguousarray(values, place.dtype if place.dtype.kind != "S" else None)
    facts = read_facts(path)
    offset = place.offset if values.nbytes == place.bytes else facts["bytes"]
    with path.open("rb+") as file:
        file.seek(offset)
        file.write(values.tobytes())

    def change(facts: dict) -> None:
        facts["places"][name] = [values.dtype.str, offset, *values.shape]
        facts["bytes"] = max(facts["bytes"], offset + values.nbytes)
        facts["digest"] = digest_of(path, facts)

    put_index(path, change)


def digest_of(path: Path, facts: dict) -> str:
    """The digest of what lies in the file now."""
    arrays, maps = {}, {}
    with path.open("rb") as file:
        for name, (kind, offset, *shape) in facts["places"].items():
            if is_map(name):
                maps[name] = (np.dtype(kind), tuple(shape))
            elif name not in ROW_TABLES:
                file.seek(offset)
                arrays[name] = np.fromfile(file, kind, int(np.prod(shape))).reshape(shape)
    return digest_metadata(arrays, maps)


def put_provenance(path: Path, text: str | bytes) -> None:
    """Replace the provenance by any text."""
    put_table(path, "provenance", np.frombuffer(text if isinstance(text, bytes) else text.encode(), np.uint8))


def _put_together(facts: dict) -> None:
    facts["places"]["labels"][1] = facts["places"]["features"][1]


INDICES: dict[str, tuple[Callable[[dict], object], str]] = {  # an index that is wrong, and what is said of it
    "list": (lambda facts: [facts], "its index is not as"),
    "number": (lambda facts: 5, "its index is not as"),
    "no digest": (lambda facts: {**facts, "digest": None}, "its index is not as"),
    "no places": (lambda facts: {**facts, "places": []}, "its index is not as"),
    "longer": (lambda facts: {**facts, "bytes": facts["bytes"] + 1}, "bytes long, expected"),
    "objects": (move("labels", kind="|O8"), "its index is not as"),
    "compound": (move("labels", kind="<i8,<i8"), "its index is not as"),
    "swapped": (move("labels", kind=">i8"), "its index is not as"),
    "typed otherwise": (move("labels", kind="<u8"), "'labels' is uint64"),
    "five dimensions": (move("features", shape=lambda _: [1] * 5), "its index is not as"),
    "flat features": (move("features", shape=lambda shape: [shape[0], 8]), "'features', which is not part"),
    "negative": (move("labels", offset=-8), "its index is not as"),
    "broken": (move("labels", offset=1.5), "its index is not as"),
    "in the index": (move("labels", offset=0), "'labels' has no place"),
    "behind the end": (move("labels", offset=2**40), "'labels' has no place"),
    "huge": (move("labels", shape=lambda _: [2**50]), "'labels' has no place"),
    "fewer labels": (move("labels", shape=lambda shape: [shape[0] - 1]), "'labels' has shape"),
    "fewer rows": (move("features", shape=lambda shape: [shape[0] - 1, *shape[1:]]), "'features' has shape"),
    "fewer columns": (move("row_crc32", shape=lambda shape: [shape[0], 0]), "'row_crc32' has shape"),
    "stranger": (lambda facts: facts["places"].update(notes=["|u1", 0, 0]), "'notes', which is not part"),
    "state of texts": (
        lambda facts: facts["places"].update({"backbone/a": ["|S3", 0, 0]}),
        "'backbone/a', which",
    ),
    "no split": (lambda facts: facts["places"].pop("splits/val") and None, "'splits/val' is missing"),
    "two in one place": (_put_together, "has no place in the file"),
}
