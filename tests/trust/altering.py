"""Changes a cache as a stranger would who knows the format: every checksum is right again afterwards."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

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


def move(name: str, **how: object) -> Callable[[dict], None]:
    """Change type, offset or shape of a dataset."""

    def change(facts: dict) -> None:
        kind, offset, *shape = facts["places"][name]
        facts["places"][name] = [how.get("kind", kind), how.get("offset", offset), *how.get("shape", shape)]

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
