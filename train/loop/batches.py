"""What a training is fed with: which images and classes, from which memory, and which images a step sees."""

import json
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError
from msdn.train.loop.ranks import processes_here
from msdn.train.models.parts.problem import AttributeGroup, Problem, problem_of

# Of a train class's images, for S on validation: as large a share as test-seen images have.
_HOLD_OUT_EVERY = 5
_TORCH_TYPES = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32}
_ROWS_AT_ONCE = 64
_AHEAD = 3  # batches read from the file before they are needed
ON_GPU, IN_RAM, IN_FILE = "GPU memory", "RAM", "read from the file"


@dataclass(frozen=True)
class Division:
    """The images and classes that one training trains on and is measured on.

    Attributes:
        problem: the classes, which the labels number.
        labels: the class of every image of the cache; −1 where it is none of the problem's.
        rows: what is trained on.
        unseen_rows: images of unseen classes, to measure.
        seen_rows: other images of seen classes, to measure.
    """

    problem: Problem
    labels: np.ndarray
    rows: np.ndarray
    unseen_rows: np.ndarray
    seen_rows: np.ndarray


def test_division(cache: FeatureCache, groups: tuple[AttributeGroup, ...] = ()) -> Division:
    """Train on all training classes, measure on the test images."""
    if not len(cache.rows("trainval")):
        raise TrainError(f"{cache.path}: all training images are masked, there is nothing to train on")
    return Division(
        problem_of(cache, groups),
        cache.annotations.with_images_only().labels,
        cache.rows("trainval"),
        cache.rows("test_unseen"),
        cache.rows("test_seen"),
    )


def validation_division(cache: FeatureCache, groups: tuple[AttributeGroup, ...] = ()) -> Division:
    """Train on the train classes; the validation classes stand in for unseen ones, held-out images for seen ones.

    Classes that are neither do not compete, and no test image belongs to any row.
    """
    whole = problem_of(cache, groups)
    labels = cache.annotations.with_images_only().labels
    train, val = cache.rows("train"), cache.rows("val")
    seen = np.unique(labels[train])
    val = val[~np.isin(labels[val], seen)]
    held_out = _hold_out(train, labels)
    if not len(val) or not len(held_out):
        missing = "images: no training class has two images"
        if not len(val):
            missing = "classes: its 'val' split has no class that is not in 'train' too"
        raise TrainError(
            f"{cache.path}: no validation {missing}; use --select last, or annotate the cache with other splits"
        )
    classes = np.union1d(seen, labels[val])
    numbers = np.full(len(whole.attributes), -1)
    numbers[classes] = np.arange(len(classes))
    problem = replace(
        whole,
        attributes=whole.attributes[classes],
        seen=numbers[seen],
        unseen=np.setdiff1d(np.arange(len(classes)), numbers[seen]),
    )
    return Division(problem, numbers[labels], np.setdiff1d(train, held_out), val, held_out)


def _hold_out(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One image in five of each class, and at least one of two."""
    of_classes = [rows[labels[rows] == label][1::_HOLD_OUT_EVERY] for label in np.unique(labels[rows])]
    return np.sort(np.concatenate(of_classes)) if of_classes else rows[:0]


class FeatureSource:
    """Gives batches of prepared features on the device; the bits are the same wherever they are kept.

    Attributes:
        place: where they are kept: `ON_GPU` or `IN_RAM`, prepared, or `IN_FILE`.
    """

    def __init__(
        self,
        cache: FeatureCache,
        rows: np.ndarray,
        prepare: Callable[[Tensor], Tensor],
        device: torch.device,
        place: str = "auto",
    ) -> None:
        """Serve `rows` of the cache's chosen map.

        Args:
            cache: the features.
            rows: those that will be asked for.
            prepare: turns regions [B, R, F], as they are stored, into what the model takes, [B, ...].
            device: where batches go.
            place: "auto", "memory" or "map" (read from the file, a few batches ahead).
        """
        self._cache, self._prepare, self._device = cache, prepare, device
        self._rows = np.sort(rows)
        _, height, width, channels = cache.shape
        self._stored = (height * width, channels), _TORCH_TYPES[np.dtype(cache.dtype)]
        one = prepare(torch.zeros(1, *self._stored[0], dtype=self._stored[1]))
        self.place = _choose_place(len(rows) * one.numel() * one.element_size(), device, place)
        self._kept = None if self.place == IN_FILE else self._load(one)

    def batches(self, plan: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """The features of each group of rows, in order; what has to be fetched is fetched while others are in use."""
        if not len(plan):
            return
        if self._kept is not None and self._kept.device.type == self._device.type:
            for rows in self._positions(plan, self._kept.device):
                yield self._kept.index_select(0, rows)
            return
        expect = None if self._kept is not None else self._cache.expect_rows
        with closing(read_ahead(self._fetch, plan, _AHEAD, expect)) as fetched:
            for batch in fetched:
                moved = batch.to(self._device, non_blocking=True)
                yield self._prepare(moved) if self._kept is None else moved

    def _positions(self, plan: Sequence[np.ndarray], device: torch.device) -> Iterable[Tensor]:
        """Where the rows are kept: one transfer for all of them."""
        positions = torch.from_numpy(np.searchsorted(self._rows, np.concatenate(plan)))
        return positions.to(device).split([len(rows) for rows in plan])

    def _fetch(self, rows: np.ndarray) -> Tensor:
        """The features of rows from the file or from RAM, in memory that a GPU can copy from."""
        pinned = self._device.type == "cuda"
        if self._kept is not None:
            out = torch.empty((len(rows), *self._kept.shape[1:]), dtype=self._kept.dtype, pin_memory=pinned)
            return torch.index_select(
                self._kept, 0, torch.from_numpy(np.searchsorted(self._rows, rows)), out=out
            )
        size, dtype = self._stored
        out = torch.empty((len(rows), *size), dtype=dtype, pin_memory=pinned)
        self._cache.read_rows(rows, out=out.numpy())
        return out

    def _load(self, one: Tensor) -> Tensor:
        """All rows, prepared where they are kept."""
        home = self._device if self.place == ON_GPU else torch.device("cpu")
        kept = torch.empty((len(self._rows), *one.shape[1:]), dtype=one.dtype, device=home)
        for start in range(0, len(self._rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            kept[part] = self._prepare(torch.from_numpy(self._cache.read_rows(self._rows[part])).to(home))
        return kept


def read_ahead(
    fetch: Callable[[np.ndarray], Tensor],
    plan: Sequence[np.ndarray],
    ahead: int,
    expect: Callable[[np.ndarray], None] | None = None,
) -> Generator[Tensor, None, None]:
    """What `fetch` gives for each part of the plan, in order; a thread is at most `ahead` parts in front.

    `expect` is told of each part as soon as it is among those that come next.
    """
    with ThreadPoolExecutor(1, "features") as pool:
        waiting: deque[Future[Tensor]] = deque()
        try:
            for rows in plan:
                if expect is not None:
                    expect(rows)
                waiting.append(pool.submit(fetch, rows))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _choose_place(needed: int, device: torch.device, place: str) -> str:
    """Where features of so many bytes are kept; "auto" takes at most half of what is free.

    Of torchrun's processes on one machine, each has features of its own in RAM.
    """
    if place == "map":
        return IN_FILE
    usable = 1.0 if place == "memory" else 0.5
    if device.type == "cuda" and needed <= usable * free_gpu_memory(device):
        return ON_GPU
    in_ram = needed * processes_here()
    if in_ram <= usable * free_memory():
        return IN_RAM
    if place == "memory":
        raise TrainError(
            f"the features take {in_ram / 2**30:.1f} GiB and {free_memory() / 2**30:.1f} GiB are free; "
            "use --features map, which reads them from the cache"
        )
    return IN_FILE


def free_gpu_memory(device: torch.device) -> int:
    """Bytes that a GPU has left, with those that torch's allocator keeps from what was freed before."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)


def free_memory() -> int:
    """Bytes of RAM that can be had without swapping, within the container's limit."""
    pages = os.sysconf("SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES")
    free = pages * os.sysconf("SC_PAGE_SIZE")
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - _container_use())
    return max(free, 0)


def _container_use() -> int:
    """Bytes that the container holds, without the file pages that it can drop."""
    group = Path("/sys/fs/cgroup")
    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int((group / "memory.current").read_text()) - int(statistics["file"])


class Sampler(ABC):
    """Draws the rows of one step after another; how the published code does it, not epochs of a permutation."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        """Take the training rows, the label of each, the batch size and the generator's seed."""
        self.rows = rows
        self.batch_size = batch_size
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def steps_in(self, epoch: int) -> int:
        """Steps of an epoch, from 1: E epochs have (images · E) // batch in all, the published number; at least 1."""
        images, batch = len(self.rows), self.batch_size
        return images * epoch // batch - images * (epoch - 1) // batch if images >= batch else 1

    @property
    def state(self) -> str:
        """The generator's state; assigning it back repeats the draws that followed."""
        return json.dumps(self._rng.bit_generator.state)

    @state.setter
    def state(self, state: str) -> None:
        self._rng.bit_generator.state = json.loads(state)

    @abstractmethod
    def draw(self) -> np.ndarray:
        """Draw the rows of one step."""


class RandomSampler(Sampler):
    """A fresh random batch of distinct images at every step."""

    def draw(self) -> np.ndarray:
        """Draw `batch_size` rows, or all where there are fewer."""
        return self._rng.choice(self.rows, min(self.batch_size, len(self.rows)), replace=False)


class BalancedSampler(Sampler):
    """Distinct classes, then equally many images of each, with replacement."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        """Group the rows by class."""
        super().__init__(rows, labels, batch_size, seed)
        self._rows_of_class = [rows[labels == label] for label in np.unique(labels)]

    def draw(self) -> np.ndarray:
        """Draw min(S, batch) of the S classes, then max(batch // S, 1) images of each."""
        classes = len(self._rows_of_class)
        chosen = self._rng.choice(classes, min(classes, self.batch_size), replace=False)
        each = max(self.batch_size // classes, 1)
        return np.concatenate([self._rng.choice(self._rows_of_class[label], each) for label in chosen])


SAMPLERS: dict[str, type[Sampler]] = {"random": RandomSampler, "balanced": BalancedSampler}
