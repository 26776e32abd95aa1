"""The kinds of files that are fuzzed: a good sample of each, how it is damaged, and how the commands read it."""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import torch
from click.testing import CliRunner
from own_data import CLASSES, image_splits, write_folder
from PIL import Image
from toy_cache import make_annotations, write_cache
from toy_dataset import TOY, write_toy_annotations
from toy_published import write_foreign
from toy_published_weights import random_model, released_state
from toy_results import FIGURES, make_run
from trust import hdf5
from trust import mutations as m
from trust.forked import Forked

from msdn.app.report.subjects import Subject
from msdn.app.report.sweeps import read_sweep
from msdn.cache import FeatureCache, Home, published_reading
from msdn.cache.errors import MsdnError
from msdn.cache.header import read_header
from msdn.cache.layout import ROW_TABLES
from msdn.cache.published import write_published
from msdn.cache.published_reading import PublishedReader
from msdn.cache.reader import check_complete, refuse_damaged_rows
from msdn.cache.records import write_sealed
from msdn.cli import main
from msdn.extract import tars
from msdn.extract.backbones.entry import make_plan
from msdn.extract.backbones.registry import find_backbone
from msdn.extract.backbones.weights import read_state
from msdn.extract.datasets.proposed_splits import read_dataset
from msdn.extract.datasets.spec import Source
from msdn.extract.downloads.download import Receipt, read_receipt, write_receipt
from msdn.extract.downloads.unpack import unpack
from msdn.extract.own.folder import open_own_dataset
from msdn.extract.pipeline.reading import read_image
from msdn.extract.vectors.file import read_vectors, write_vectors
from msdn.extract.vectors.safe_pickle import load_array
from msdn.extract.vectors.words import read_spelling, read_word_vectors
from msdn.train.groups.groups import read_groups
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import load_model
from msdn.train.measure.published_weights import load_published
from msdn.train.models import registry
from msdn.train.models.parts.problem import problem_of
from msdn.train.runs.basis import load_basis
from msdn.train.runs.results import kept_result
from msdn.train.runs.run import Run, metrics_lines

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Sample:
    """A good file.

    Attributes:
        file: its place below the format's folder.
        read: how commands read it, from that folder; raises an `MsdnError` for what it refuses.
        exact: ways to damage it of which every change has to be found.
        loose: ways whose result a stranger might have written: whatever is read has to be in order.
        magic: how many bytes at its start are looked at first.
    """

    file: str
    read: Read
    exact: tuple[m.Mutator, ...] = ()
    loose: tuple[m.Mutator, ...] = ()
    magic: int = 4


@dataclass(frozen=True)
class Format:
    """Samples of one kind, made in a folder of their own."""

    name: str
    make: Callable[[Path], list[Sample]]
    samples: list[Sample] = field(default_factory=list)


def _refuse_nothing(value: Any) -> Any:
    """What is left out with a warning counts as refused."""
    if not value:
        raise MsdnError("left out")
    return value


# caches -----------------------------------------------------------------------------------------------------------


def _toy_features(seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).uniform(0.5, 2, (30, 2, 2, 16)).astype(np.float16)


def _read_cache(folder: Path, file: str) -> Any:
    """What training reads, each row as `read_rows` checks it."""
    with FeatureCache(folder / file) as cache:
        rows = np.setdiff1d(np.arange(cache.shape[0]), cache.masked_rows)
        values = cache.read_rows(rows)
        return values, cache.annotations, cache.provenance, cache.mask_reasons, cache.backbone_state


def _verify_cache(folder: Path, file: str) -> Any:
    """What 'msdn cache verify' says of a cache whose rows are all whole."""
    header = read_header(folder / file)
    check_complete(header)
    refuse_damaged_rows(header)
    return header.fingerprint


def _caches(folder: Path, which: str) -> list[Sample]:
    """A cache for each way to read it.

    The fingerprint is of the strong checksums, which `read_rows` does not compute: it is proved as 'msdn cache verify'
    reads it. Who writes an index with a right checksum may choose it, but no features, labels or names.
    """
    path = write_cache(folder / "read.h5", make_annotations(), _toy_features(), {7: "not an image"})
    parts = hdf5.cache_parts(path)
    marks = [parts.places[name] for name in ROW_TABLES]
    features = parts.places["features"]
    metadata = [place for name, place in parts.places.items() if name not in (*ROW_TABLES, "features")]
    regions = {"cache": [*parts.index, *metadata, *parts.gaps], "features": [features], "marks": marks}
    ways = tuple(m.in_regions(lambda _content, found=found: found) for found in [regions[which]])
    if which == "cache":
        ways += (m.in_regions(lambda _content: metadata), m.in_regions(lambda _content: parts.index))
    samples = {"read.h5": (_read_cache, ways), "verified.h5": (_verify_cache, ways)}
    if which == "cache":
        samples["indexed.h5"] = (_read_cache, (hdf5.in_index(m.damage_json), hdf5.in_index(m.flip_digit)))
    for name in samples:
        (folder / name).write_bytes(path.read_bytes())
    return [
        Sample(name, partial(read, file=name), exact=exact, magic=8)
        for name, (read, exact) in samples.items()
    ]


def _published(folder: Path) -> list[Sample]:
    """Files as others publish them, in the old and the new structure of HDF5, and one that was exported here.

    Each is opened by `PublishedReader` itself, whose process is forked (see `forked.py`).
    """
    write_foreign(folder / "foreign.h5")
    with (
        h5py.File(folder / "foreign.h5", "r") as source,
        h5py.File(folder / "latest.h5", "w", libver="latest") as target,
    ):
        for name in source:
            source.copy(name, target)
    path = write_cache(folder / "cache.h5", make_annotations(), _toy_features(), {7: "not an image"})
    with FeatureCache(path) as cache:
        write_published(cache, folder / "own.h5", compress=True)

    def read(folder: Path, name: str) -> Any:
        with patch.object(published_reading, "Apart", Forked), PublishedReader(folder / name) as file:
            return file.lists, list(file.read_blocks(np.arange(file.lists.shape[0])))

    def ways(name: str) -> tuple[m.Mutator, ...]:
        headers = hdf5.headers(folder / name)
        return m.behind(8), m.in_regions(lambda content: [*headers, *hdf5.parts(content)])

    checked = hdf5.with_checksums(hdf5.damage_header)
    more = {"foreign.h5": (), "latest.h5": (checked, checked), "own.h5": ()}
    return [
        Sample(name, partial(read, name=name), loose=(*ways(name), *again), magic=8)
        for name, again in more.items()
    ]


# JSON and other text ----------------------------------------------------------------------------------------------


def _json(folder: Path) -> list[Sample]:
    home = Home(folder)
    run = make_run(home, FIGURES, select="val", epochs=4)
    run.path.rename(home.runs / "r")
    run = Run(home.runs / "r")
    records = [{"epoch": n, "epochs": 4, "loss": 1 / n, "seconds": 0.1} for n in (1, 2, 3, 4)]
    run.write_metrics(records)
    run.update(metrics=sha256(metrics_lines(records)).hexdigest())
    row = {"overrides": {"lambda_cal": 0.1}, "settings": {"lambda_cal": 0.1}, "summary": {}}
    spread = {"mean": 40.5, "std": 1.25, "n": 2}
    rows = [
        row | {"settings": {"lambda_cal": v}, "summary": {f: spread for f in FIGURES}} for v in (0.1, 0.4)
    ]
    study = {
        "best": None,
        "study": "s",
        "dataset": "toy",
        "fingerprint": "f",
        "measured_on": "validation",
        "rows": rows,
    }
    write_sealed(folder / "studies.json", study)
    write_receipt(
        home, "toy", Receipt("url", 1, "0" * 64, None, "2026-01-01", 2, 700, {"a": 5}, digests={"a": "00"})
    )
    model = {"path": "/nowhere/ridge.py", "sha256": "12" * 32}
    write_sealed(folder / "models.json", {"ridge": model})

    def kept(folder: Path) -> Any:
        found = _refuse_nothing(kept_result(Run(folder / "runs/r")))
        return {name: value for name, value in found.items() if name != "run"}  # the folder's place

    def remembered(folder: Path) -> Any:
        registry.use_home(Home(folder))
        return _refuse_nothing(dict(registry._remembered))

    def records_of(folder: Path) -> Any:
        return _refuse_nothing(Subject(Run(folder / "runs/r"), 0, "", None, None, None, "").records)

    read: dict[str, Read] = {
        "runs/r/manifest.json": lambda folder: (Run(folder / "runs/r").manifest, kept(folder)),
        "runs/r/results.json": kept,
        "studies.json": lambda folder: _refuse_nothing(read_sweep(folder / "studies.json")),
        "data/downloads/receipts/toy.json": lambda folder: _refuse_nothing(read_receipt(Home(folder), "toy")),
        "models.json": remembered,
    }
    exact = m.flip_digit, m.damage_json, m.damage_bytes
    resealed = (m.sealed_again(m.damage_json),)
    found = [Sample(file, how, exact, resealed, 1) for file, how in read.items()]
    return [*found, Sample("runs/r/metrics.jsonl", records_of, (m.flip_digit, m.damage_bytes), magic=1)]


def _config(folder: Path) -> list[Sample]:
    text = 'quiet = true\nhome = "h"\n[train]\nmodel = "msdn"\nepochs = 3\nlr = 1e-3\nalpha = [0.9, 0.1]\n[runs.list]\n'
    (folder / "msdn.toml").write_text(text + 'dataset = "toy"\n')

    def read(folder: Path) -> Any:
        done = CliRunner().invoke(
            main, ["runs", "list", "--config", str(folder / "msdn.toml")], prog_name="msdn"
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        if done.exit_code:
            raise MsdnError(done.stderr)
        return done.exit_code

    return [Sample("msdn.toml", read, loose=(m.damage_bytes, m.damage_table), magic=1)]


def _csv(folder: Path) -> list[Sample]:
    write_folder(folder / "birds")
    (folder / "birds/splits.csv").write_text(image_splits())
    lines = [f"{number},{'wing' if number < 4 else 'head'}" for number in range(1, 8)]
    (folder / "groups.csv").write_text("\n".join(["attribute,group", *lines]) + "\n")
    (folder / "spelling.csv").write_text("word,replacement\ncolour,color\nbeak,bill\n")
    (folder / "birds/splits2.csv").write_text(
        "class,split\n" + "".join(f"{name},train\n" for name in CLASSES)
    )

    def own(folder: Path) -> Any:
        return open_own_dataset(folder / "birds").annotations

    ways = m.damage_table, m.damage_bytes
    return [
        Sample("birds/attributes.csv", own, loose=ways, magic=1),
        Sample("birds/splits.csv", own, loose=ways, magic=1),
        Sample("groups.csv", lambda folder: read_groups(folder / "groups.csv", [], 7), loose=ways, magic=1),
        Sample("spelling.csv", lambda folder: read_spelling(folder / "spelling.csv"), loose=ways, magic=1),
    ]


# archives ---------------------------------------------------------------------------------------------------------

SOURCE = Source("toy.zip", (), ("toy/a.txt",), rules=((r"toy/(.+)", r"toy/\1"),), room=100_000)
MEMBERS = {"toy/a.txt": b"first\nsecond\n" * 9, "toy/images/b.jpg": bytes(range(256)) * 3, "toy/c.bin": b"c"}


def _unpack(file: str, folder: Path) -> Any:
    goal = folder / "unpacked"
    goal.mkdir(exist_ok=True)
    return unpack(folder / file, SOURCE, goal)


def _zip(folder: Path) -> list[Sample]:
    import zipfile

    for name, packing in (("stored.zip", zipfile.ZIP_STORED), ("packed.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / name, "w", packing) as archive:
            for member, data in MEMBERS.items():
                archive.writestr(member, data)
    ways = m.in_regions(m.zip_parts), m.behind(4), m.damage_zip_names, m.in_zip(m.damage_bytes)
    return [Sample(name, partial(_unpack, name), loose=ways) for name in ("stored.zip", "packed.zip")]


def _tar(folder: Path) -> list[Sample]:
    plain = m.make_tar(MEMBERS)
    (folder / "toy.tgz").write_bytes(m._gzip(plain))
    (folder / "toy.tar").write_bytes(plain)

    def members(folder: Path) -> Any:
        tars._index.cache_clear()
        found = tars.open_tar(folder / "toy.tar").members
        return {name: tars.read_member(folder / "toy.tar", name) for name in found}

    return [
        Sample("toy.tgz", partial(_unpack, "toy.tgz"), loose=(m.in_gzip(m.damage_tar), m.behind(2)), magic=2),
        Sample("toy.tar", members, loose=(m.damage_tar, m.damage_bytes), magic=0),
    ]


# what others publish ----------------------------------------------------------------------------------------------


def _mat(folder: Path) -> list[Sample]:
    import scipy.io

    write_toy_annotations(folder, make_annotations())
    place = "xlsa17/data/TOY"
    for name in ("res101.mat", "att_splits.mat"):
        path = folder / place / name
        content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
        scipy.io.savemat(path, content, do_compression=name == "att_splits.mat")
    ways = m.damage_mat, m.behind(128), m.damage_bytes

    def read(folder: Path) -> Any:
        return read_dataset(TOY, folder).annotations

    return [
        Sample(f"{place}/{name}", read, loose=ways, magic=116) for name in ("res101.mat", "att_splits.mat")
    ]


def _read_pickle(name: str, folder: Path) -> Any:
    return load_array(folder / name)


def _pickle(folder: Path) -> list[Sample]:
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    samples = []
    for protocol in range(6):
        name = f"vectors{protocol}.pkl"
        (folder / name).write_bytes(pickle.dumps(table, protocol))
        samples.append(
            Sample(name, partial(_read_pickle, name), loose=(m.damage_pickle, m.damage_bytes), magic=2)
        )
    return samples


def _vectors(folder: Path) -> list[Sample]:
    values = np.random.RandomState(0).standard_normal((4, 3)).astype(np.float32)
    write_vectors(folder / "vectors.npz", values, ["a", "b", "c", "d"], {"file": "x", "sha256": "0" * 64})
    words = "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip("abcd", values, strict=True))
    (folder / "words.txt").write_text("4 3\n" + words)
    (folder / "words.gz").write_bytes(m._gzip(words.encode()))

    def read(name: str, folder: Path) -> Any:
        return read_word_vectors(folder / name, {"a", "b", "c"}).vectors

    npz = m.in_zip(m.damage_npy), m.in_regions(m.zip_parts), m.behind(4)
    text = m.damage_bytes, m.damage_table
    return [
        Sample(
            "vectors.npz",
            lambda folder: read_vectors(folder / "vectors.npz", ["a", "b", "c", "d"]),
            loose=npz,
        ),
        Sample("words.txt", partial(read, "words.txt"), loose=text, magic=1),
        Sample(
            "words.gz", partial(read, "words.gz"), loose=(m.in_gzip(m.damage_bytes), m.behind(2)), magic=2
        ),
    ]


def _images(folder: Path) -> list[Sample]:
    preparation = make_plan(find_backbone("resnet101"), 64, "", ()).preparation
    pixels = np.random.RandomState(0).randint(0, 255, (48, 40, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    kinds: dict[str, dict[str, Any]] = {
        "a.jpg": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
        "b.png": {},
        "c.gif": {},
        "d.webp": {},
        "e.bmp": {},
        "f.tif": {"compression": "tiff_lzw"},
        "g.jpg": {"progressive": True},
    }
    samples = []
    for name, options in kinds.items():
        image.save(folder / name, **options)
        ways = (
            m.behind(8),
            m.in_regions(lambda content: [(2, 200)]),
            *((m.damage_png,) if name == "b.png" else ()),
        )

        def read(folder: Path, name: str = name) -> Any:
            found = read_image(folder / name, preparation)
            assert found.shape == (64, 64, 3) and found.dtype == np.uint8
            return found

        samples.append(Sample(name, read, loose=ways, magic=2))
    return samples


# weights ----------------------------------------------------------------------------------------------------------


def _with_digest(mutator: m.Mutator) -> m.Mutator:
    """As somebody who knows a checkpoint's last line would write it."""

    def damage(rng: Any, content: bytes) -> bytes:
        damaged = mutator(rng, content)
        body = damaged[:-72]
        return body + b"\nsha256 " + sha256(body).hexdigest().encode()

    return damage


def _weights(folder: Path) -> list[Sample]:
    cache_path = write_cache(folder / "toy.h5", make_annotations(), _toy_features())
    torch.manual_seed(0)
    with FeatureCache(cache_path) as cache:
        run = train_model(
            cache, registry.settings_of("msdn", epochs=1, batch_size=8), folder / "runs", device="cpu"
        )
        torch.save(released_state(random_model(cache)), folder / "published.pth")
        problem = problem_of(cache)
    run.path.rename(folder / "runs/r")
    state = {"conv1.weight": torch.randn(4, 3), "fc.bias": torch.zeros(3)}
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    backbone = find_backbone("resnet101")
    opened = FeatureCache(cache_path)

    def trained(folder: Path) -> Any:
        return load_model(Run(folder / "runs/r"), problem).state_dict()

    def published(folder: Path) -> Any:
        found = load_published(folder / "published.pth", opened, registry.settings_of("msdn"))
        return found.model.state_dict(), found.margin

    inside = m.in_zip(m.damage_bytes)
    in_pickle = m.in_zip(m.damage_pickle)
    zipped = inside, in_pickle, m.in_regions(m.zip_parts)

    def basis(folder: Path) -> Any:
        return load_basis(Run(folder / "runs/r"))

    def state_of(name: str, folder: Path) -> Any:
        return read_state(folder / name, backbone)

    exact = inside, m.behind(4)
    samples = [
        Sample("runs/r/checkpoint.pt", trained, exact, tuple(map(_with_digest, zipped))),
        Sample("runs/r/basis.npz", basis, (m.in_zip(m.damage_npy), m.behind(4))),
        Sample("published.pth", published, loose=zipped),
        Sample("zip.pth", partial(state_of, "zip.pth"), loose=zipped),
        Sample(
            "legacy.pth", partial(state_of, "legacy.pth"), loose=(m.damage_pickle, m.damage_bytes), magic=2
        ),
    ]
    try:
        from safetensors.torch import save_file
    except ImportError:
        return samples
    name = "safe.safetensors"
    save_file(state, folder / name)
    ways = m.damage_bytes, m.in_regions(lambda _content: [(0, 200)])
    return [*samples, Sample(name, partial(state_of, name), loose=ways, magic=0)]


FORMATS = [
    *(Format(name, partial(_caches, which=name)) for name in ("cache", "features", "marks")),
    Format("published", _published),
    Format("json", _json),
    Format("config", _config),
    Format("csv", _csv),
    Format("zip", _zip),
    Format("tar", _tar),
    Format("mat", _mat),
    Format("pickle", _pickle),
    Format("vectors", _vectors),
    Format("images", _images),
    Format("weights", _weights),
]


def digest(value: Any) -> str:
    """Tells two values that were read apart, to the bit."""
    sink = sha256()
    _feed(sink, value)
    return sink.hexdigest()


def _feed(sink: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        sink.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (dict, list, tuple, np.ndarray)) or hasattr(value, "items"):
        items = (
            sorted(value.items(), key=lambda pair: repr(pair[0]))
            if hasattr(value, "items")
            else list(enumerate(value))
        )
        for name, one in items:
            sink.update(repr(name).encode())
            _feed(sink, one)
    elif hasattr(value, "__dataclass_fields__"):
        _feed(sink, {name: getattr(value, name) for name in value.__dataclass_fields__})
    elif isinstance(value, io.IOBase):
        raise TypeError("a file is no value")
    else:
        sink.update(repr(value).encode())
