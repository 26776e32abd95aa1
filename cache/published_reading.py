"""Reads a published feature file, which anybody may have made: in a process of its own, and nothing but what is plain.

The process that opens it looks at each thing's kind, storage and size before it reads it. Links, virtual datasets and
storage in other files are refused: they would lead to other files of the user's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t, h5z

from msdn.cache.annotations import LOCATIONS, NAME_LISTS, SPLIT_NAMES, Annotations
from msdn.cache.apart import Answer, Apart
from msdn.cache.errors import CacheError, explain_damage
from msdn.cache.index import SIGNATURE
from msdn.cache.layout import MOST_ROWS
from msdn.cache.published import BLOCK_BYTES, EXTRA, MAPS
from msdn.cache.records import fits, is_table, is_text

DAMAGED = "damaged, or not a published feature file"
LARGEST_CHUNK = 4  # blocks: images compressed together in larger pieces are unpacked more than once
LARGEST_LIST = 2**28  # bytes of anything but the features
RATIO = 1100  # bytes that one compressed byte can be: deflate ends at 1,032
FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_LZF}
SECONDS = 5  # of computing for the lists, which are small
TABLES = ("original_att", "att")
VECTORS = "w2v_att"


@dataclass(frozen=True)
class PublishedFile:
    """What a published feature file says beside its features.

    Names, train and val are there only in a file of our own, and so is what follows the shape.
    """

    annotations: Annotations
    shape: tuple[int, int, int, int]  # (N, F, h, w)
    chunk: int = 1  # images that are stored together
    provenance: dict[str, Any] | None = None  # of the cache it was exported from
    masked: dict[int, str] = field(default_factory=dict)  # rows without features, with the reason


class PublishedReader:
    """A published file, open: its lists are read at once, its features block by block."""

    def __init__(self, path: Path) -> None:
        """Open the file `path`, and refuse one that is no published feature file."""
        if not path.is_file():
            raise CacheError(f"{path}: no such file")
        if not _is_hdf5(path):
            raise CacheError(f"{path}: not an HDF5 file, expected a published feature file with '{MAPS}'")
        self._apart = Apart(path, f"{__name__}:open_file")
        try:
            with explain_damage(path, DAMAGED):
                self.lists = _settle(*self._apart.ask("lists", SECONDS))
                _check_shapes(str(path), self.lists)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "PublishedReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process that reads."""
        self._apart.__exit__(None, None, None)

    def read_blocks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield row numbers and their features [n, h, w, F] as stored, in order.

        Blocks follow the file's chunks: one that is compressed across many images is unpacked once, not once an image.
        """
        n, f, h, w = self.lists.shape
        step, chunk = max(1, BLOCK_BYTES // (f * h * w * 4)), self.lists.chunk
        if chunk <= LARGEST_CHUNK * step:
            step = max(chunk, step // chunk * chunk)
        for start in range(0, n, step):
            wanted = rows[(rows >= start) & (rows < start + step)]
            if len(wanted):
                block = self._apart.ask([start, min(n, start + step)])[1][MAPS]
                yield wanted, block[wanted - start].transpose(0, 2, 3, 1)


def _is_hdf5(path: Path) -> bool:
    """Whether HDF5's signature is where it may be: at the start, or behind a block of 512 bytes, 1,024 and so on."""
    place, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
            place = 2 * place or 512
    return False


def _settle(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> PublishedFile:
    lists = Annotations(
        dataset="",
        image_paths=(),
        labels=arrays["labels"],
        class_names=(),
        attributes=arrays["attributes"],
        attribute_names=(),
        attribute_vectors=arrays.get(VECTORS),
        splits={name: np.sort(arrays[key]) for name, key in LOCATIONS.items()},
    )
    shape, chunk = tuple(facts["shape"]), facts["chunk"]
    if EXTRA not in facts:
        return PublishedFile(lists, shape, chunk)
    extra = facts[EXTRA]
    more: dict[str, Any] = {name: tuple(extra[name]) for name in NAME_LISTS}
    more["splits"] = {name: arrays[f"splits/{name}"] for name in SPLIT_NAMES}
    provenance, masked = json.loads(extra["provenance"]), json.loads(extra["masked"])
    if not is_table(provenance) or not fits(masked, {"*": is_text}):
        raise ValueError("what it says of its features is not as 'msdn cache export' writes it")
    masked = {int(row): reason for row, reason in masked.items()}
    return PublishedFile(replace(lists, **more), shape, chunk, provenance, masked)


def _check_shapes(path: str, file: PublishedFile) -> None:
    n, lists = file.shape[0], file.annotations
    if lists.attributes.ndim != 2:
        raise CacheError(f"{path}: attributes have shape {lists.attributes.shape}, expected a table")
    if len(lists.labels) != n:
        raise CacheError(f"{path}: {len(lists.labels)} labels for {n} feature maps")
    named = np.concatenate([*lists.splits.values(), np.array([*file.masked], np.int64)])
    strangers = named[(named < 0) | (named >= n)]
    if len(strangers):
        raise CacheError(f"{path}: its lists name row {strangers[0]}, but rows run from 0 to {n - 1}")


def open_file(path: Path) -> Any:
    """In the process of its own: open the file, and return what answers questions about it."""
    with explain_damage(path, DAMAGED):
        source = _Source(path, h5py.File(path, "r", rdcc_nbytes=BLOCK_BYTES, locking=False))
    return source.answer


class _Source:
    """The open file, of which nothing is read that was not looked at."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path = path
        self._file = file
        self._maps: h5py.Dataset | None = None

    def answer(self, question: Any) -> Answer:
        with explain_damage(self._path, DAMAGED):
            if question == "lists":
                return self._read_lists()
            start, stop = question
            assert self._maps is not None, "the lists come first"
            return None, {MAPS: self._maps[start:stop]}

    def _read_lists(self) -> Answer:
        for name in (MAPS, "labels", *LOCATIONS.values()):
            if name not in self._file:
                raise CacheError(f"{self._path}: '{name}' is missing, expected a published feature file")
        table = next((name for name in TABLES if name in self._file), None)
        if table is None:
            missing = "neither 'original_att' nor 'att' is there"
            raise CacheError(f"{self._path}: {missing}, expected a published feature file")
        maps = self._maps = self._open_maps()
        names = ("labels", *LOCATIONS.values())
        arrays = {name: self._whole_numbers(self._file, name) for name in names}
        arrays["attributes"] = np.asarray(self._numbers(self._file, table), np.float64)
        if VECTORS in self._file:
            arrays[VECTORS] = np.asarray(self._numbers(self._file, VECTORS), np.float32)
        facts = {"shape": maps.shape, "chunk": maps.chunks[0] if maps.chunks else 1}
        if EXTRA in self._file:
            extra = self._own(self._file, EXTRA, h5py.Group)
            facts[EXTRA] = {name: self._texts(extra, name) for name in NAME_LISTS}
            facts[EXTRA] |= {name: self._attribute(extra, name) for name in ("provenance", "masked")}
            self._own(extra, "splits", h5py.Group)
            splits = [f"splits/{name}" for name in SPLIT_NAMES]
            arrays |= {name: self._whole_numbers(extra, name) for name in splits}
        return facts, arrays

    def _own(self, group: h5py.Group, name: str, kind: type) -> Any:
        """A group or a dataset of this very file; nothing that leads elsewhere."""
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CacheError(f"{self._path}: '{name}' is a link to another place, which is not followed")
        thing = group[name]
        if not isinstance(thing, kind):
            raise CacheError(f"{self._path}: '{name}' is no {kind.__name__.lower()}")
        return thing

    def _dataset(self, group: h5py.Group, name: str, largest: int) -> h5py.Dataset:
        """A dataset whose values lie in this file, and are no more than it can hold."""
        data = self._own(group, name, h5py.Dataset)
        plan = data.id.get_create_plist()
        if plan.get_layout() == h5d.VIRTUAL or plan.get_external_count():
            raise CacheError(f"{self._path}: '{name}' lies in another file, which is not read")
        filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
        if not filters <= FILTERS:
            raise CacheError(
                f"{self._path}: '{name}' is packed in a way that is not known here; unpack it with h5repack"
            )
        if data.shape is None:
            raise CacheError(f"{self._path}: '{name}' holds nothing")
        declared, stored = prod(data.shape) * data.dtype.itemsize, data.id.get_storage_size()
        room = self._path.stat().st_size
        chunk = prod(data.chunks or ()) * data.dtype.itemsize
        most = stored * (RATIO if filters or data.chunks else 1)  # masked rows of an export take no room
        if stored > room or declared > most or declared > largest:
            raise CacheError(
                f"{self._path}: '{name}' is said to have {declared / 1e9:.2f} GB, but {stored / 1e9:.2f} GB of the "
                f"file are its own, and up to {largest / 1e9:.2f} GB are read; it is damaged, or made to fill memory"
            )
        if chunk > LARGEST_CHUNK * BLOCK_BYTES:
            raise CacheError(
                f"{self._path}: '{name}' is stored in pieces of {chunk / 1e9:.2f} GB; repack it with h5repack in "
                f"pieces below {LARGEST_CHUNK * BLOCK_BYTES / 1e9:.2f} GB"
            )
        return data

    def _open_maps(self) -> h5py.Dataset:
        maps = self._own(self._file, MAPS, h5py.Dataset)
        shape: tuple[int, ...] = maps.shape or ()
        if len(shape) != 4 or maps.dtype.kind != "f" or 0 in shape:
            got = f"{maps.dtype} of shape {shape}"
            raise CacheError(f"{self._path}: '{MAPS}' is {got}, expected float (N, F, h, w)")
        if shape[0] > MOST_ROWS or prod(shape[1:]) * maps.dtype.itemsize > BLOCK_BYTES:
            raise CacheError(f"{self._path}: '{MAPS}' has shape {shape}, more than a cache can have")
        return self._dataset(self._file, MAPS, 2**60)

    def _numbers(self, group: h5py.Group, name: str) -> np.ndarray:
        data = self._dataset(group, name, LARGEST_LIST)
        if data.dtype.kind not in "iuf":
            raise CacheError(f"{self._path}: '{name}' holds no numbers")
        return np.asarray(data[()])

    def _whole_numbers(self, group: h5py.Group, name: str) -> np.ndarray:
        values = self._numbers(group, name).reshape(-1)
        if not ((values == np.floor(values)) & (np.abs(values) < 2**31)).all():
            raise CacheError(f"{self._path}: '{name}' holds values that are not whole numbers")
        return values.astype(np.int64)

    def _texts(self, group: h5py.Group, name: str) -> list[str]:
        texts = self._dataset(group, name, LARGEST_LIST)
        if texts.id.get_type().get_class() != h5t.STRING:
            raise CacheError(f"{self._path}: '{name}' holds no texts")
        return [*texts.asstr()[()].reshape(-1).tolist()] if texts.size else []

    def _attribute(self, group: h5py.Group, name: str) -> str:
        kind = group.attrs.get_id(name).get_type()
        if kind.get_class() != h5t.STRING:
            raise CacheError(f"{self._path}: '{name}' holds no text")
        return str(group.attrs[name])
