"""Caches, and files that take a cache's place, as somebody would make them who means harm."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from toy_cache import PROVENANCE, write_cache
from toy_runs import split_annotations
from trust.altering import INDICES, put_index, put_provenance, put_start, put_table

from msdn.cache import layout
from msdn.cache.header import read_header

Craft = Callable[[Path, Path], None]  # takes a good cache to change, and the file of the canary

ESCAPES = "\x1b]0;pwned\x07\x1b[2J\x1b[31m\u202e\x9b31m[bold red]x[/bold red][/]"


def alter(change: Callable[[h5py.File, Path], None], keeps_length: bool = True) -> Craft:
    """Change the HDF5 structure, and make the file as long as it was, so that only HDF5 would notice."""

    def craft(path: Path, canary: Path) -> None:
        size = path.stat().st_size
        with h5py.File(path, "r+", libver="v108") as file:
            change(file, canary)
        if keeps_length:
            os.truncate(path, size)

    return craft


def replaced(name: str, make: Callable[[h5py.File, Path], None]) -> Craft:
    """Put something else in a dataset's place in the structure."""

    def change(file: h5py.File, canary: Path) -> None:
        file.move(name, "kept")  # its bytes stay where they are
        make(file, canary)

    return alter(change)


def _external(name: str) -> Craft:
    def make(file: h5py.File, canary: Path) -> None:
        size = canary.stat().st_size
        file.create_dataset(name, (size,), "u1", external=[(str(canary), 0, size)])

    return replaced(name, make)


def _virtual(file: h5py.File, canary: Path) -> None:
    plan = h5py.VirtualLayout((84,), "i8")
    plan[:] = h5py.VirtualSource(str(canary), "labels", (84,))
    file.create_virtual_dataset("labels", plan)


def _cycle(file: h5py.File, _canary: Path) -> None:
    file["splits/again"] = file["/"]
    file["backbone/again"] = file["splits"]


def zeros(start: Callable[[int, int], int], count: int = 64) -> Craft:
    """Overwrite bytes of the structure; `start` takes where it begins and where the first dataset lies."""

    def craft(path: Path, _canary: Path) -> None:
        places = read_header(path).places.values()
        first = min(place.offset for place in places if place.bytes)
        with path.open("rb+") as file:
            file.seek(start(layout.ALIGNMENT, first))
            file.write(bytes(count))

    return craft


def provenance(text: str | dict) -> Craft:
    """Another provenance, under right checksums."""
    whole = text if isinstance(text, str) else json.dumps({**PROVENANCE, **text})
    return lambda path, _canary: put_provenance(path, whole)


def annotated(**changes: object) -> Craft:
    """A cache whose annotations are others, made by the real writer where it would take them."""

    def craft(path: Path, _canary: Path) -> None:
        a = split_annotations()
        shape = read_header(path).shape
        values = {name: change(a) if callable(change) else change for name, change in changes.items()}
        path.unlink()
        features = np.random.RandomState(0).standard_normal(shape).astype(np.float16)
        write_cache(path, replace(a, **values), features, {3: ESCAPES + "\nmore"})

    return craft


def table(name: str, values: Callable[[np.ndarray], np.ndarray]) -> Craft:
    """Other values of a dataset, under right checksums."""

    def craft(path: Path, _canary: Path) -> None:
        place = read_header(path).places[name]
        with path.open("rb") as file:
            file.seek(place.offset)
            before = np.fromfile(file, place.dtype, int(np.prod(place.shape))).reshape(place.shape)
        put_table(path, name, values(before))

    return craft


def _sparse(path: Path, _canary: Path) -> None:
    def grow(facts: dict) -> None:
        start, count = facts["bytes"], 2**28
        for name in ("labels", "image_paths", *layout.ROW_TABLES, "features"):
            kind, _, _, *rest = facts["places"][name]
            facts["places"][name] = [kind, start, count, *rest]
            start += count * int(np.prod(rest or [1])) * np.dtype(kind).itemsize
        facts["bytes"] = 2**42

    put_index(path, grow)
    os.truncate(path, 2**42)


def _vlen_heap(path: Path, _canary: Path) -> None:
    """A file of an older schema whose heap of texts is zero: it once sent the library into an endless loop."""
    path.unlink()
    with h5py.File(path, "w") as file:
        file.attrs.update(format="msdn-cache", schema=1)
        file.create_dataset("image_paths", data=["a" * 50] * 500, dtype=h5py.string_dtype())
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL")
    content[start + 16 : start + 80] = bytes(64)
    path.write_bytes(content)


def _instead(make: Callable[[Path], object]) -> Craft:
    def craft(path: Path, _canary: Path) -> None:
        path.unlink()
        make(path)

    return craft


def indexed(content: bytes) -> Craft:
    """Any bytes as the index, under a right checksum."""
    return lambda path, _canary: put_start(path, content)


def indexed_by(change: Callable[[dict], object]) -> Craft:
    """What the index says, changed."""
    return lambda path, _canary: put_index(path, change)


def _path_of(target: bytes) -> Callable[[np.ndarray], np.ndarray]:
    def change(before: np.ndarray) -> np.ndarray:
        texts = before.tolist()
        texts[0] = target
        return np.array(texts)

    return change


def _link_to(path: Path, canary: Path) -> None:
    path.unlink()
    path.symlink_to(canary)


HARMLESS: dict[str, Craft] = {  # only the structure is changed, which is never read
    "external storage of labels": _external("labels"),
    "external storage of features": _external("features"),
    "external link": replaced(
        "labels", lambda f, c: f.__setitem__("labels", h5py.ExternalLink(str(c), "/labels"))
    ),
    "soft link": replaced("labels", lambda f, _: f.__setitem__("labels", h5py.SoftLink("/row_states"))),
    "virtual dataset": replaced("labels", _virtual),
    "variable-length texts": replaced(
        "class_names", lambda f, _: f.create_dataset("class_names", data=["a"] * 9)
    ),
    "compound": replaced("labels", lambda f, _: f.__setitem__("labels", np.zeros(9, [("a", "i4")]))),
    "petabytes": replaced(
        "labels", lambda f, _: f.create_dataset("labels", (10**15,), "i8", chunks=(10**6,))
    ),
    "groups in a circle": alter(_cycle),
    "zeros in the superblock": zeros(lambda start, _: start),
    "zeros in the root group": zeros(lambda start, _: start + 48),
    "zeros in object headers": zeros(lambda start, _: start + 200, 512),
    "zeros before the first dataset": zeros(lambda _, first: first - 64),
}
NAMES: dict[str, Craft] = {  # what they say is shown, so that nothing happens
    "escapes in class names": annotated(class_names=lambda a: tuple(f"{ESCAPES}{c}" for c in range(12))),
    "lines in class names": annotated(class_names=lambda a: tuple(f"a\r\nError: {c}" for c in range(12))),
    "escapes in attribute names": annotated(
        attribute_names=lambda a: tuple(f"{ESCAPES}{k}" for k in range(a.attributes.shape[1]))
    ),
    "formulas as names": annotated(class_names=lambda a: tuple(f"=cmd|'/c calc'!A{c}" for c in range(12))),
    "escapes in the dataset's name": annotated(dataset=f"toy{ESCAPES}"),
    "escapes in image paths": annotated(
        image_paths=lambda a: tuple(f"{ESCAPES}{n}.jpg" for n in range(len(a.labels)))
    ),
    "escapes in the provenance": provenance({"transform": ESCAPES, "versions": {ESCAPES: ESCAPES}}),
}
BROKEN: dict[str, Craft] = {
    **{
        f"index: {name}": (lambda path, _, change=change: put_index(path, change))
        for name, (change, _) in INDICES.items()
    },
    "index of nothing": indexed(b""),
    "index of deep nesting": indexed(b"[" * 100_000),
    "index of half a character": indexed(b'{"bytes": 1, "digest": "\\ud800", "places": {}}'),
    "index of a huge number": indexed(b'{"bytes": ' + b"9" * 10_000 + b"}"),
    "gigabytes of nothing": _sparse,
    "provenance {}": provenance("{}"),
    "provenance 5": provenance("5"),
    "provenance null": provenance("null"),
    "provenance of a list": provenance('["weights"]'),
    "provenance of no JSON": provenance("{"),
    "provenance that is not UTF-8": lambda path, _: put_provenance(path, b'{"dataset": "\xff"}'),
    "provenance of half a character": provenance('{"dataset": "\\ud800", "weights": {"kind": "random"}}'),
    "provenance of deep nesting": provenance("[" * 200_000 + "]" * 200_000),
    "provenance of NaN": provenance('{"weights": {"kind": "random", "seed": NaN}}'),
    "weights of a list": provenance({"weights": ["random"]}),
    "weights of another kind": provenance({"weights": {"kind": {"random": 1}}}),
    "half a part": provenance({"part": {"shard": 0}}),
    "part of nothing": provenance(
        {"part": {"shard": -1, "of": 0, "first_row": 0, "images": 1, "dataset": "a"}}
    ),
    "grown by a number": provenance({"grown": 5}),
    "mixed by a short list": provenance({"mixed_devices": [{"rows": [1], "device": {}}]}),
    "a device that is a text": provenance({"device": "cpu", "block_rows": "4"}),
    "block of no rows": provenance({"block_rows": 0}),
    "a folder that is a number": provenance({"annotations": {"folder": 7}}),
    "annotations of a list": provenance({"annotations": []}),
    "a backbone that is a file of the same archive": provenance(
        {"backbone": {"name": "evil.py", "library": "torchvision"}, "maps": {"regions": {"layer": "4"}}}
    ),
    "a backbone of numbers": provenance({"backbone": {"name": 1, "library": []}}),
    "an image outside its folder": table("image_paths", _path_of(b"../../canary")),
    "an image at the root": table("image_paths", _path_of(b"/etc/hostname")),
    "a name that is not UTF-8": table("class_names", _path_of(b"\xff")),
    "labels out of range": table("labels", lambda labels: labels + 2**40),
    "labels below zero": table("labels", lambda labels: labels - 5),
    "attributes that are not finite": table("attributes", lambda values: values * np.nan),
    "splits out of range": table("splits/trainval", lambda rows: rows + 10**9),
    "no images": table("image_paths", lambda texts: texts[:0]),
    "signs of nothing": table("map_signs", lambda signs: signs + 100),
    "maps of other names": table("map_names", lambda names: np.array([b"../regions"])),
    "heap of zeros in an older file": _vlen_heap,
    "a pipe": _instead(os.mkfifo),
    "a folder": _instead(Path.mkdir),
    "a link to itself": _instead(lambda path: path.symlink_to(path)),
    "a device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to another file": _link_to,
    "nothing": _instead(Path.touch),
    "terabytes of zeros": _instead(lambda path: (path.touch(), os.truncate(path, 2**42))),
}
