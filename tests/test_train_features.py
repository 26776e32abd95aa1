"""Features for training: the same bits from memory and from the cache's file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError
from msdn.train.loop import batches
from msdn.train.loop.batches import (
    IN_FILE,
    IN_RAM,
    ON_GPU,
    FeatureSource,
    free_gpu_memory,
    free_memory,
    read_ahead,
)
from msdn.train.models.parts.regions import unit_regions

CPU = torch.device("cpu")


def double(regions: torch.Tensor) -> torch.Tensor:
    return regions.float() * 2


def read(source: FeatureSource, *plan: np.ndarray) -> list[torch.Tensor]:
    return list(source.batches(plan))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_memory_and_map_give_the_same_bits(make_cache: Callable[..., Path], dtype: type) -> None:
    with FeatureCache(make_cache(dtype=dtype)) as cache:
        rows = cache.rows("trainval")
        kept, mapped = (FeatureSource(cache, rows, double, CPU, place) for place in ("memory", "map"))
        assert (kept.place, mapped.place) == (IN_RAM, IN_FILE)
        plan = [rows[::-1], rows[[2, 2, 0]], rows[:0], *(rows[start : start + 1] for start in range(8))]
        for source in (kept, mapped):
            found = read(source, *plan)
            for one, wanted in zip(found, plan, strict=True):
                assert one.dtype == torch.float32
                assert torch.equal(one, torch.from_numpy(cache.read_rows(wanted).astype(np.float32)) * 2)
            assert read(source) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_regions_are_prepared_as_a_loop_does(make_cache: Callable[..., Path], precision: str) -> None:
    dtype = getattr(torch, precision)
    with FeatureCache(make_cache()) as cache:
        rows = cache.rows("trainval")[:3]
        stored = torch.from_numpy(cache.read_rows(rows)).double()
        stored[0, 1] = 0
        found = unit_regions(stored.half(), dtype)
        assert found.dtype == dtype
        for image, wanted in zip(found, stored, strict=True):
            for v, w in zip(image, wanted, strict=True):
                unit = w / max(float(w.norm()), 1e-12)
                torch.testing.assert_close(v.double(), unit, atol=torch.finfo(dtype).eps, rtol=0)


def test_loading_in_parts_gives_every_row(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_ROWS_AT_ONCE", 5)
    with FeatureCache(make_cache()) as cache:
        rows = cache.rows("trainval")
        assert len(rows) % 5
        (kept,) = read(FeatureSource(cache, rows, double, CPU, "memory"), rows)
        assert torch.equal(kept, torch.from_numpy(cache.read_rows(rows)).float() * 2)


def test_auto_takes_memory_only_where_half_of_it_suffices(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureCache(make_cache()) as cache:
        rows = cache.rows("trainval")
        size = 4 * cache.read_rows(rows).size  # prepared: in float32
        monkeypatch.setattr(batches, "free_memory", lambda: 2 * size)
        assert FeatureSource(cache, rows, double, CPU).place == IN_RAM
        monkeypatch.setattr(batches, "free_memory", lambda: 2 * size - 1)
        assert FeatureSource(cache, rows, double, CPU).place == IN_FILE
        monkeypatch.setattr(batches, "free_memory", lambda: size - 1)
        with pytest.raises(TrainError, match="use --features map"):
            FeatureSource(cache, rows, double, CPU, "memory")


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "free_memory", lambda: 1000)
    assert batches._choose_place(500, CPU, "auto") == IN_RAM
    for name, value in {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "x"}.items():
        monkeypatch.setenv(name, value)
    assert batches._choose_place(500, CPU, "auto") == IN_FILE
    assert batches._choose_place(125, CPU, "auto") == IN_RAM


def test_reading_ahead_is_bounded_in_order_and_ends_with_its_reader() -> None:
    fetched: list[int] = []

    def fetch(rows: np.ndarray) -> torch.Tensor:
        fetched.append(int(rows[0]))
        return torch.from_numpy(rows)

    plan = [np.array([number]) for number in range(20)]
    batches_ = read_ahead(fetch, plan, 3)
    assert [int(next(batches_)) for _ in range(4)] == [0, 1, 2, 3]
    batches_.close()
    assert fetched == list(range(len(fetched))) and len(fetched) <= 7
    assert [int(one) for one in read_ahead(fetch, plan, 3)] == list(range(20))


def test_an_error_of_the_reading_thread_reaches_the_caller() -> None:
    def fetch(rows: np.ndarray) -> torch.Tensor:
        raise TrainError("cut short")

    with pytest.raises(TrainError, match="cut short"):
        list(read_ahead(fetch, [np.array([0])], 3))


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
