"""Published feature files, vectors, tables, images, runs and links as somebody would make them who means harm."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from own_data import write_folder
from PIL import Image
from toy_published import write_foreign
from trust.fenced import MARKER

Words = tuple[object, ...]
ESCAPES = "\x1b]0;pwned\x07\x1b[2J\u202e"


@dataclass(frozen=True)
class Place:
    """Where a crafted file goes: an empty folder, a home with a cache and a run in it, and the canary."""

    folder: Path
    home: Path
    cache: Path
    run: Path
    canary: Path


Craft = Callable[[Place], Iterator[Words]]  # makes the files, and yields the commands that meet them


def imported(change: Callable[[h5py.File, Path], object], without: str = "") -> Craft:
    """A published feature file, changed."""

    def craft(place: Place) -> Iterator[Words]:
        path = write_foreign(place.folder / "foreign.hdf5")
        with h5py.File(path, "r+") as file:
            if without:
                del file[without]
            change(file, place.canary)
        yield from _import(path)

    return craft


def _import(path: Path) -> Iterator[Words]:
    yield "cache", "import", path, "--dataset", "toy", "--out", path.with_name("imported.h5")
    yield "cache", "info", path


def _virtual(file: h5py.File, canary: Path) -> None:
    plan = h5py.VirtualLayout((30,), "i8")
    plan[:] = h5py.VirtualSource(str(canary), "labels", (30,))
    file.create_virtual_dataset("labels", plan)


def _external(name: str, shape: tuple[int, ...], kind: str) -> Craft:
    def change(file: h5py.File, canary: Path) -> None:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        file.create_dataset(name, shape, kind, external=[(str(canary), 0, size)])

    return imported(change, name)


def _heap(place: Place) -> Iterator[Words]:
    path = write_foreign(place.folder / "foreign.hdf5")
    with h5py.File(path, "r+") as file:
        extra = file.create_group("msdn")
        for name in ("image_paths", "class_names", "attribute_names"):
            extra.create_dataset(name, data=["a" * 50] * 500, dtype=h5py.string_dtype())
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL")
    while start >= 0:
        content[start + 16 : start + 80] = bytes(64)
        start = content.find(b"GCOL", start + 80)
    path.write_bytes(content)
    yield from _import(path)


def _provenance(text: str, masked: str = "{}") -> Craft:
    def change(file: h5py.File, _canary: Path) -> None:
        extra = file.create_group("msdn")
        counts = {"image_paths": 30, "class_names": 6, "attribute_names": 7}
        for name, count in counts.items():
            extra.create_dataset(name, data=[f"{name}{n}" for n in range(count)], dtype=h5py.string_dtype())
        for name in ("trainval", "test_seen", "test_unseen"):
            extra[f"splits/{name}"] = file[f"{name}_loc"][()]
        extra["splits/train"], extra["splits/val"] = file["trainval_loc"][()], np.zeros(0, np.int64)
        extra.attrs["provenance"], extra.attrs["masked"] = text, masked

    return imported(change)


def _cut(place: Place) -> Iterator[Words]:
    path = write_foreign(place.folder / "foreign.hdf5")
    os.truncate(path, path.stat().st_size // 2)
    yield from _import(path)


IMPORTS: dict[str, Craft] = {
    "labels in the canary": _external("labels", (30,), "u1"),
    "features in the canary": _external("feature_map", (30, 1, 1, 1), "f4"),
    "texts in the canary": imported(
        lambda f, c: f.create_dataset("msdn/class_names", (1,), "S40", external=[(str(c), 0, 40)])
    ),
    "labels behind a link": imported(
        lambda f, c: f.__setitem__("labels", h5py.ExternalLink(str(c), "/a")), "labels"
    ),
    "labels behind a soft link": imported(
        lambda f, _: f.__setitem__("labels", h5py.SoftLink("/labels")), "labels"
    ),
    "labels of another file": imported(_virtual, "labels"),
    "petabytes of labels": imported(
        lambda f, _: f.create_dataset("labels", (10**15,), "i8", chunks=(10**6,)), "labels"
    ),
    "gigabytes of attributes": imported(
        lambda f, _: f.create_dataset("original_att", (10**5, 10**5), "f8", chunks=(1000, 1000)),
        "original_att",
    ),
    "a bomb of attributes": imported(
        lambda f, _: f.create_dataset(
            "w2v_att", data=np.zeros((2**14, 2**12)), compression=9, chunks=(2**12, 2**12)
        ),
        "w2v_att",
    ),
    "features of nothing": imported(
        lambda f, _: f.create_dataset("feature_map", (30, 2**20, 64, 64), "f4", chunks=(1, 2**10, 8, 8)),
        "feature_map",
    ),
    "a million rows of nothing": imported(
        lambda f, _: f.create_dataset("feature_map", (10**7, 16, 3, 3), "f4", chunks=(10**3, 16, 3, 3)),
        "feature_map",
    ),
    "labels of pairs": imported(lambda f, _: f.__setitem__("labels", np.zeros(30, [("a", "i4")])), "labels"),
    "labels of references": imported(
        lambda f, _: f.create_dataset("labels", data=[f.ref] * 30, dtype=h5py.ref_dtype), "labels"
    ),
    "labels that are a group": imported(lambda f, _: f.create_group("labels"), "labels"),
    "labels that are nothing": imported(lambda f, _: f.__setitem__("labels", h5py.Empty("i8")), "labels"),
    "a heap of zeros": _heap,
    "half a file": _cut,
    "an import's provenance {}": _provenance("{}"),
    "an import's provenance 5": _provenance("5"),
    "an import's provenance nested": _provenance("[" * 100_000 + "]" * 100_000),
    "an import's backbone": _provenance(
        json.dumps(
            {
                "dataset": "toy",
                "weights": {"kind": "random", "seed": 0},
                "image_size": 224,
                "backbone": [ESCAPES],
            }
        )
    ),
    "an import's masks": _provenance(
        json.dumps({"dataset": "toy", "weights": {"kind": "random", "seed": 0}, "image_size": 224}),
        '{"a": 5}',
    ),
}


class _Runs:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path(MARKER),)


def annotating(option: str, name: str, content: Callable[[Place], bytes]) -> Craft:
    """A file that `cache annotate` and `data vectors` read."""

    def craft(place: Place) -> Iterator[Words]:
        path = place.folder / name
        path.write_bytes(content(place))
        yield "cache", "annotate", place.cache, option, path
        if option == "--vectors":
            write_folder(place.folder / "own")
            yield "data", "vectors", place.folder / "own", "--from", path, "--home", place.home

    return craft


def _npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def _npy(header: str) -> bytes:
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header.encode()


def _objects() -> bytes:
    file = io.BytesIO()
    np.savez(file, vectors=np.array([_Runs()], object))
    return file.getvalue()


def _mat(*parts: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(parts)


def _matrix(kind: int, shape: tuple[int, ...], name: bytes, data: bytes) -> bytes:
    flags = struct.pack("<IIII", 6, 8, kind, 0)
    sizes = struct.pack(f"<II{len(shape)}i", 5, 4 * len(shape), *shape).ljust(
        16 + 8 * (len(shape) > 2), b"\0"
    )
    named = struct.pack("<II", 1, len(name)) + name.ljust(-(-len(name) // 8) * 8, b"\0")
    inner = flags + sizes + named + data
    return struct.pack("<II", 14, len(inner)) + inner


def _bomb() -> bytes:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(80)) + packer.flush()
    start = zlib.compress(_matrix(6, (1, 1), b"att", b""))
    return _mat(struct.pack("<II", 15, len(start)) + start, struct.pack("<II", 15, len(packed)) + packed)


def _nested() -> bytes:
    cell = b""
    for _ in range(2000):
        cell = _matrix(1, (1, 1), b"att", cell)
    return _mat(cell)


TABLES: dict[str, Craft] = {
    "vectors that run": annotating("--vectors", "v.pkl", lambda _: pickle.dumps(_Runs())),
    "vectors that run, by text": annotating(
        "--vectors", "v.pkl", lambda _: b"cos\nsystem\n(S'touch code-was-run'\ntR."
    ),
    "vectors that fill the memo": annotating("--vectors", "v.pkl", lambda _: b"\x80\x02Nr\xff\xff\xff\x7f."),
    "vectors of a long text": annotating(
        "--vectors", "v.pkl", lambda _: b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f."
    ),
    "vectors of objects": annotating("--vectors", "v.npz", lambda _: _objects()),
    "a bomb of vectors": annotating("--vectors", "v.npz", lambda _: _npz(vectors=bytes(2**29))),
    "exabytes of vectors": annotating(
        "--vectors",
        "v.npz",
        lambda _: _npz(vectors=_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1 << 50, 300)}\n")),
    ),
    "a header of brackets": annotating("--vectors", "v.npz", lambda _: _npz(vectors=_npy("(" * 9000))),
    "a bomb of words": annotating("--vectors", "v.gz", lambda _: gzip.compress(b"wing " + b"1 " * 2**28)),
    "words without an end": annotating("--vectors", "v.txt", lambda _: b"1" * 2**24),
    "a bomb of a matrix": annotating("--attributes", "a.mat", lambda _: _bomb()),
    "matrices in matrices": annotating("--attributes", "a.mat", lambda _: _nested()),
    "a matrix of billions": annotating(
        "--attributes", "a.mat", lambda _: _mat(_matrix(1, (2**30, 2**30), b"att", b""))
    ),
    "a matrix of -1": annotating("--attributes", "a.mat", lambda _: _mat(_matrix(6, (-1, -1), b"att", b""))),
    "attributes of zero bytes": annotating("--attributes", "a.csv", lambda _: bytes(2**20)),
    "splits of escapes": annotating(
        "--splits", "s.csv", lambda _: f"image,split\n{ESCAPES},{ESCAPES}\n".encode()
    ),
    "splits of one cell": annotating("--splits", "s.csv", lambda _: b'image,split\n"' + b"a" * 2**24),
}


def own(change: Callable[[Place, Path], object]) -> Craft:
    """A folder of images with something in it."""

    def craft(place: Place) -> Iterator[Words]:
        folder = write_folder(place.folder / "own")
        change(place, folder)
        yield "data", "check", folder
        yield "predict", folder / "images", "--home", place.home, "--device", "cpu"

    return craft


def _png(path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(2**20), 9)) + chunk(b"IEND", b"")
    )


def _tar(path: Path, **how: object) -> None:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("../../crane/1.png")
        for name, value in how.items():
            setattr(info, name, value)
        tar.addfile(info, io.BytesIO(bytes(info.size)) if info.isreg() else None)


def _text_chunk(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path)
    content = path.read_bytes()
    data = b"Comment\0\0" + zlib.compress(bytes(2**28), 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    path.write_bytes(content[:33] + chunk + content[33:])


IMAGES: dict[str, Craft] = {
    "an image of gigapixels": own(lambda _, f: _png(f / "images/crane/9.png", 60_000, 60_000)),
    "an image of no size": own(lambda _, f: _png(f / "images/crane/9.png", 0, 0)),
    "an image's comment of gigabytes": own(lambda _, f: _text_chunk(f / "images/crane/9.png")),
    "a tar that leads out": own(lambda _, f: _tar(f / "images/a.tar", size=512)),
    "a tar of exabytes": own(lambda _, f: _tar(f / "images/a.tar", size=2**60, type=b"D")),
    "a tar of links": own(
        lambda p, f: _tar(f / "images/a.tar", type=tarfile.SYMTYPE, linkname=str(p.canary))
    ),
    "an image that is a link": own(lambda p, f: (f / "images/crane/9.png").symlink_to(p.canary)),
    "an image that is a pipe": own(lambda _, f: os.mkfifo(f / "images/crane/9.png")),
    "attributes that are a pipe": own(
        lambda _, f: (f / "attributes.csv").unlink() or os.mkfifo(f / "attributes.csv")
    ),
    "an image named by escapes": own(lambda _, f: (f / f"images/crane/{ESCAPES}.png").write_bytes(b"")),
}


def of_run(name: str, content: Callable[[Place], bytes], size: int = 0) -> Craft:
    """Another file in a run's folder, as long as `size` says."""

    def craft(place: Place) -> Iterator[Words]:
        (place.run / name).write_bytes(content(place))
        if size:
            os.truncate(place.run / name, size)
        yield from _meet(place)

    return craft


def of_pipe(name: str) -> Craft:
    """A pipe, which nobody writes to, in a run's folder."""

    def craft(place: Place) -> Iterator[Words]:
        (place.run / name).unlink(missing_ok=True)
        os.mkfifo(place.run / name)
        yield from _meet(place)

    return craft


def _meet(place: Place) -> Iterator[Words]:
    at = "--home", place.home
    yield "runs", *at
    yield "runs", "show", place.run.name, *at
    yield "evaluate", "--device", "cpu", *at
    yield "predict", "--cache", place.cache, "--rows", "0-3", "--device", "cpu", *at
    yield "compare", *at
    yield "report", "--device", "cpu", *at


def linked(name: str, *words: str) -> Craft:
    """A link to the canary where msdn writes; the canary must stay as it is."""

    def craft(place: Place) -> Iterator[Words]:
        path = place.folder / name.format(run=place.run, cache=place.cache)
        path.unlink(missing_ok=True)
        path.symlink_to(place.canary)
        yield tuple(word.format(run=place.run, cache=place.cache, home=place.home) for word in words)

    return craft


def _torch(place: Place) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"model": _Runs()}, file)
    return file.getvalue()


def _torch_bomb(place: Place) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(place.run / "checkpoint.pt") as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        largest = max(source.infolist(), key=lambda member: member.file_size)
        for member in source.infolist():
            content = bytes(2**31) if member.filename == largest.filename else source.read(member)
            archive.writestr(member.filename, content)
    return file.getvalue()


AT = "--home", "{home}"
TRAIN = "train", "--cache", "{cache}", "--epochs", "1", "--device", "cpu"
RUNS: dict[str, Craft] = {
    "a manifest of 5": of_run("manifest.json", lambda _: b"5"),
    "a manifest of nesting": of_run("manifest.json", lambda _: b"[" * 10**6),
    "a manifest of half a character": of_run(
        "manifest.json", lambda _: b'{"dataset": "\\ud800", "settings": {}}'
    ),
    "results of lists": of_run("results.json", lambda _: b"[[]]"),
    "a basis that is a bomb": of_run("basis.npz", lambda _: _npz(facts=bytes(2**29))),
    "metrics of nesting": of_run("metrics.jsonl", lambda _: b"[" * 10**6 + b"\n"),
    "a checkpoint that runs": of_run("checkpoint.pt", _torch),
    "a manifest that is a pipe": of_pipe("manifest.json"),
    "results that are a pipe": of_pipe("results.json"),
    "metrics that are a pipe": of_pipe("metrics.jsonl"),
    "a basis that is a pipe": of_pipe("basis.npz"),
    "a checkpoint that is a pipe": of_pipe("checkpoint.pt"),
    "a checkpoint that is a bomb": of_run("checkpoint.pt", _torch_bomb),
    "terabytes of a manifest": of_run("manifest.json", lambda _: b"", 2**40),
    "a checkpoint of nothing": of_run("checkpoint.pt", lambda _: b""),
    "a lock that is a link": linked("{cache}.lock", "cache", "annotate", "{cache}", "--vectors", "{cache}"),
    "a run's metrics that are a link": linked("{run}/metrics.jsonl", "train", "--resume", "{run}", *AT),
    "an unfinished cache that is a link": linked(
        "imported.h5.partial", "cache", "import", "{cache}", "--dataset", "toy", "--out", "imported.h5"
    ),
    "a new cache that is a link": linked(
        "{cache}.annotating", "cache", "annotate", "{cache}", "--vectors", "{cache}"
    ),
    "results on their way that are a link": linked(
        "{run}/results.json.partial", "evaluate", "--device", "cpu", *AT
    ),
    "a manifest on its way that is a link": linked("{run}/manifest.json.partial", *TRAIN, *AT),
}
