"""Features for training: the same bits from memory and from the cache's file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError
from msdn.train.loop import batches
from msdn.train.loop.batches import IN_FILE, IN_RAM, ON_GPU, FeatureSource, free_gpu_memory, free_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_memory_and_map_give_the_same_bits(make_cache: Callable[..., Path], dtype: type) -> None:
    with FeatureCache(make_cache(dtype=dtype)) as cache:
        rows = cache.rows("trainval")
        kept, mapped = (FeatureSource(cache, rows, CPU, place) for place in ("memory", "map"))
        assert (kept.place, mapped.place) == (IN_RAM, IN_FILE)
        for wanted in (rows[::-1], rows[[2, 2, 0]], rows[:0]):
            expected = torch.from_numpy(cache.read_rows(wanted).astype(np.float32))
            for source in (kept, mapped):
                assert source.read(wanted).dtype == torch.float32
                assert torch.equal(source.read(wanted), expected)


def test_loading_in_parts_gives_every_row(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_ROWS_AT_ONCE", 5)
    with FeatureCache(make_cache()) as cache:
        rows = cache.rows("trainval")
        assert len(rows) % 5
        kept = FeatureSource(cache, rows, CPU, "memory").read(rows)
        assert torch.equal(kept, torch.from_numpy(cache.read_rows(rows)).float())


def test_auto_takes_memory_only_where_half_of_it_suffices(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureCache(make_cache()) as cache:
        rows = cache.rows("trainval")
        size = cache.read_rows(rows).nbytes
        monkeypatch.setattr(batches, "free_memory", lambda: 2 * size)
        assert FeatureSource(cache, rows, CPU).place == IN_RAM
        monkeypatch.setattr(batches, "free_memory", lambda: 2 * size - 1)
        assert FeatureSource(cache, rows, CPU).place == IN_FILE
        monkeypatch.setattr(batches, "free_memory", lambda: size - 1)
        with pytest.raises(TrainError, match="use --features map"):
            FeatureSource(cache, rows, CPU, "memory")


def test_free_memory_is_plausible() -> None:
    assert 2**20 < free_memory() < 2**50


class Gpu:
    """Stands in for torch.cuda: so many bytes in all, some given out, some kept by the allocator for the next."""

    def __init__(self, patch: pytest.MonkeyPatch, total: int, allocated: int, reserved: int) -> None:
        self.total, self.allocated, self.reserved = total, allocated, reserved
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (self.total - self.reserved, self.total))
        patch.setattr(torch.cuda, "memory_allocated", lambda device: self.allocated)
        patch.setattr(torch.cuda, "memory_reserved", lambda device: self.reserved)


def test_memory_that_the_allocator_keeps_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first phase's features are freed for torch, not for the GPU: those of the second take their place."""
    device = torch.device("cuda")
    gpu = Gpu(monkeypatch, total=1000, allocated=0, reserved=0)
    monkeypatch.setattr(batches, "free_memory", lambda: 10**9)
    assert batches._choose_place(450, device, "auto") == ON_GPU
    gpu.allocated, gpu.reserved = 100, 700  # of the first phase
    assert free_gpu_memory(device) == 900
    assert batches._choose_place(450, device, "auto") == ON_GPU
    gpu.allocated = 650
    assert batches._choose_place(450, device, "auto") == IN_RAM
    assert batches._choose_place(450, device, "map") == IN_FILE
