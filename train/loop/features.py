"""Batches of features for a model: from the cache's file, or whole in RAM or GPU memory where they fit."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError

_TORCH_TYPES = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32}
_ROWS_AT_ONCE = 256


class FeatureSource:
    """Gives rows as float32 tensors [B, R, F] on the device; the bits are the same wherever they are kept.

    Attributes:
        place: "memory" (in the cache's precision, on the device or else in RAM) or "map" (read at each step).
    """

    def __init__(
        self, cache: FeatureCache, rows: np.ndarray, device: torch.device, place: str = "auto"
    ) -> None:
        """Serve `rows` of the cache; `place` is "auto", "memory" or "map"."""
        self._cache = cache
        self._device = device
        self._rows = np.sort(rows)
        self._type = _TORCH_TYPES[np.dtype(cache.dtype)]
        self._size = (cache.shape[1] * cache.shape[2], cache.shape[3])  # R, F
        home = _choose_home(self._bytes(len(rows)), device, place)
        self.place = "map" if home is None else "memory"
        self._kept = None if home is None else self._load().to(home)

    def read(self, rows: np.ndarray) -> Tensor:
        """Features of these rows, float32, on the device."""
        if self._kept is None:
            return self._read_file(rows).to(self._device).float()
        positions = torch.from_numpy(np.searchsorted(self._rows, rows)).to(self._kept.device)
        return self._kept.index_select(0, positions).to(self._device).float()

    def _bytes(self, rows: int) -> int:
        regions, channels = self._size
        return rows * regions * channels * self._type.itemsize

    def _read_file(self, rows: np.ndarray) -> Tensor:
        features = torch.empty((len(rows), *self._size), dtype=self._type)
        self._cache.read_rows(rows, out=features.numpy())
        return features

    def _load(self) -> Tensor:
        kept = torch.empty((len(self._rows), *self._size), dtype=self._type)
        for start in range(0, len(self._rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            self._cache.read_rows(self._rows[part], out=kept[part].numpy())
        return kept


def _choose_home(needed: int, device: torch.device, place: str) -> torch.device | None:
    """The memory to keep the features in, None for the cache's file; "auto" takes at most half of what is free."""
    if place == "map":
        return None
    usable = 1.0 if place == "memory" else 0.5
    if device.type == "cuda" and needed <= usable * torch.cuda.mem_get_info(device)[0]:
        return device
    if needed <= usable * free_memory():
        return torch.device("cpu")
    if place == "memory":
        raise TrainError(
            f"the features take {needed / 2**30:.1f} GiB and {free_memory() / 2**30:.1f} GiB are free; "
            "use --features map, which reads them from the cache"
        )
    return None


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
