"""The index in front of a cache's HDF5 structure: what msdn opens a cache by, and what it refuses there."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_cache_format import N, make_maps
from toy_cache import PROVENANCE, make_annotations, write_cache
from trust.altering import INDICES, put_index

from msdn.cache import CacheError, layout
from msdn.cache.header import read_header
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.structure import create_structure


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_cache(tmp_path / "a.h5", make_annotations(), make_maps(), {4: "missing"}, signed=True)


def test_many_statistics_of_a_backbone_have_room_in_the_index(tmp_path: Path) -> None:
    state = {f"layer{number}.0.downsample.norm.running_var": np.ones(64, np.float32) for number in range(900)}
    specs = [MapSpec(MAIN, 1, 1, 8, np.dtype(np.float16), False)]
    create_structure(tmp_path / "a.h5.partial", make_annotations(), specs, PROVENANCE, state)
    header = read_header(tmp_path / "a.h5.partial")
    assert header.backbone_state.keys() == state.keys() and len(header.places) > 900
    with h5py.File(tmp_path / "a.h5.partial") as file:
        assert file.userblock_size > layout.ALIGNMENT and file["features"].shape == (N, 1, 1, 8)


@pytest.mark.parametrize("change, message", INDICES.values(), ids=INDICES)
def test_an_index_that_we_would_not_have_written_is_refused(
    path: Path, change: Callable[[dict], object], message: str
) -> None:
    put_index(path, change)
    with pytest.raises(CacheError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_sizes_are_refused_before_they_are_read(path: Path) -> None:
    """A sparse file of hundreds of gigabytes takes no room on the disk, and must take none in memory."""

    def grow(facts: dict) -> None:
        start, count = facts["bytes"], 2**30
        for name in (
            "labels",
            "image_paths",
            "row_states",
            "mask_reasons",
            "features",
            *("row_crc32", "row_checksums"),
        ):
            kind, _, _, *rest = facts["places"][name]
            facts["places"][name] = [kind, start, count, *rest]
            start += count * int(np.prod(rest or [1])) * np.dtype(kind).itemsize
        for name in ("features_global", "features_before_last"):
            facts["places"].pop(name)
        for name in ("row_crc32", "row_checksums"):
            facts["places"][name][-1] = 1
        facts["bytes"] = 2**46

    put_index(path, grow)
    try:
        os.truncate(path, 2**46)
    except OSError:
        pytest.skip("no file can be that long here")
    with pytest.raises(CacheError, match=r"more than a cache can have"):
        read_header(path)
