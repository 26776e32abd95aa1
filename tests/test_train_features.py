"""Features for training: the same bits from memory and from the cache's file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msdn.cache import FeatureCache
from msdn.train.errors import TrainError
from msdn.train.loop.batches import FeatureSource, free_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_memory_and_map_give_the_same_bits(make_cache: Callable[..., Path], dtype: type) -> None:
    with FeatureCache(make_cache(dtype=dtype)) as cache:
        rows = cache.rows("trainval")
        kept, mapped = (FeatureSource(cache, rows, CPU, place) for place in ("memory", "map"))
        assert (kept.place, mapped.place) == ("memory", "map")
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
        assert FeatureSource(cache, rows, CPU).place == "memory"
        monkeypatch.setattr(batches, "free_memory", lambda: 2 * size - 1)
        assert FeatureSource(cache, rows, CPU).place == "map"
        monkeypatch.setattr(batches, "free_memory", lambda: size - 1)
        with pytest.raises(TrainError, match="use --features map"):
            FeatureSource(cache, rows, CPU, "memory")


def test_free_memory_is_plausible() -> None:
    assert 2**20 < free_memory() < 2**50
