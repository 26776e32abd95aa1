"""No figure from bytes that nobody checked: every row is compared with its checksum before a model sees it."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from toy_cache import make_annotations, write_cache, zero_rows
from toy_published import run as run_plain

from msdn.cache import CacheError, FeatureCache, layout, reader
from msdn.cache.annotate import replace_annotations
from msdn.cache.checksums import crc_row
from msdn.cache.errors import MsdnError
from msdn.cache.header import Header, read_header
from msdn.cache.layout import MAIN
from msdn.cache.reader import find_damaged_rows
from msdn.train.loop.batches import FeatureSource
from msdn.train.loop.training import train_model
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run, find_runs

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
ZEROED = 60


def swap_rows(path: Path, first: int, second: int) -> None:
    """Let two rows' features change places."""
    place = read_header(path).places["features"]
    content = bytearray(path.read_bytes())
    one, other = (
        slice(place.start_of(row), place.start_of(row) + place.row_bytes) for row in (first, second)
    )
    content[one], content[other] = content[other], content[one]
    path.write_bytes(content)


def lengthen(path: Path) -> None:
    """Let the file become longer than it says."""
    with path.open("ab") as file:
        file.write(bytes(4096))


def flip(path: Path, at: int, bits: int = 4) -> None:
    """Change bits of one byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bits]))


@pytest.fixture
def path(make_cache: Callable[..., Path]) -> Path:
    """A cache with as many images of unseen classes as are to be damaged."""
    path = make_cache(annotations=make_annotations(n_classes=18, per_class=10))
    assert len(read_header(path).annotations.splits["test_unseen"]) == ZEROED
    return path


@pytest.fixture
def run(path: Path) -> Run:
    settings = settings_of("baseline", epochs=1, batch_size=16)
    with FeatureCache(path) as cache:
        return train_model(cache, settings, path.parents[1] / "runs")


def assert_named(done: Result, *parts: str) -> None:
    """One sentence on stderr, with these parts."""
    assert done.exit_code == 1 and "Traceback" not in done.output
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize("name", [MAIN, "global"])
def test_a_damaged_row_is_refused_when_it_is_read(make_cache: Callable[..., Path], name: str) -> None:
    path = make_cache(more={"global": (1, 1, 32)})
    zero_rows(path, np.array([11]), "features" if name == MAIN else "features_global")
    with FeatureCache(path, name) as cache:
        good = cache.read_rows(np.array([3, 10, 12]))
        for _ in range(2):  # also when it is asked for again
            with pytest.raises(CacheError, match=rf"row 11 \(class_2/11.jpg\) in map {name}") as caught:
                cache.read_rows(np.array([3, 11]))
        sentence = str(caught.value)
        assert sentence.startswith(f"{path}: ") and "\n" not in sentence
        assert "msdn cache verify" in sentence and "--retry-bad" in sentence
        np.testing.assert_array_equal(cache.read_rows(np.array([3, 10, 12])), good)
        other = "global" if name == MAIN else MAIN
        cache.read_rows(np.arange(30), map=other)


def test_a_row_is_checked_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr(reader, "crc_row", lambda row: checked.append(1) or crc_row(row))
    with FeatureCache(path) as cache:
        cache.read_rows(np.array([5, 7, 5, 5]))
        assert len(checked) == 2
        cache.read_rows(np.array([7, 8, 5]), out=np.empty((3, 9, 16), np.float16))
        assert len(checked) == 3
        cache.read_rows(np.arange(180))
        cache.read_rows(np.arange(180))
        assert len(checked) == 180
        zero_rows(path, np.array([9]))
        cache.read_rows(np.array([9]))
    with FeatureCache(path) as again, pytest.raises(CacheError, match="row 9 "):
        again.read_rows(np.array([9]))


def test_threads_that_read_at_once_all_find_it(path: Path) -> None:
    zero_rows(path, np.array([170]))
    with FeatureCache(path) as cache, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(cache.read_rows, np.arange(180)) for _ in range(8)]
        assert all(isinstance(one.exception(), CacheError) for one in asked)
        fine = [pool.submit(cache.read_rows, np.arange(170)) for _ in range(8)]
        assert all(one.exception() is None for one in fine)


@pytest.mark.parametrize("place", ["memory", "map"])
def test_no_batch_comes_of_a_damaged_row(path: Path, place: str) -> None:
    zero_rows(path, np.array([40]))
    with FeatureCache(path) as cache, pytest.raises(CacheError, match="row 40 "):
        source = FeatureSource(cache, np.arange(60), torch.Tensor.float, torch.device("cpu"), place)
        for _ in source.batches([np.arange(40), np.arange(35, 45)]):
            pass


def damage_rows(path: Path) -> str:
    zero_rows(path, read_header(path).annotations.splits["test_unseen"])
    return "row 120 (class_12/120.jpg)"


def damage_length(path: Path) -> str:
    lengthen(path)
    return "bytes long, expected"


def damage_order(path: Path) -> str:
    swap_rows(path, 121, 122)
    return "row 121 (class_12/121.jpg)"


DAMAGES = [damage_rows, damage_length, damage_order]


@pytest.mark.parametrize("damage", DAMAGES)
def test_evaluate_names_it_and_keeps_the_results(
    path: Path, run: Run, run_msdn: Msdn, damage: Callable[[Path], str]
) -> None:
    assert run_msdn("evaluate", "--run", run.path).exit_code == 0
    before = {file: file.read_bytes() for file in run.path.iterdir() if file.is_file()}
    named = damage(path)
    assert_named(run_msdn("evaluate", "--run", run.path), str(path), named)
    assert before == {file: file.read_bytes() for file in run.path.iterdir() if file.is_file()}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["memory", "map"])
def test_train_names_it_and_leaves_no_figure(
    path: Path, run_msdn: Msdn, damage: Callable[[Path], str], place: str
) -> None:
    named = damage(path)
    words = ("--epochs", 1, "--model", "baseline", "--device", "cpu", "--watch-test", "--features", place)
    assert_named(run_msdn("train", "--cache", path, *words), str(path), named)
    runs = find_runs(path.parents[1] / "runs")
    assert all(one.manifest["status"] == "failed" and not one.results.exists() for one in runs)
    assert all(named in one.manifest["reason"] for one in runs)


def test_train_names_a_damaged_training_row(path: Path, run_msdn: Msdn) -> None:
    rows = read_header(path).annotations.splits["trainval"]
    zero_rows(path, rows[-1:])
    done = run_msdn("train", "--cache", path, "--epochs", 1, "--model", "baseline", "--device", "cpu")
    assert_named(done, f"row {rows[-1]} ")


@pytest.mark.parametrize("damage", DAMAGES)
def test_predict_names_it_and_writes_nothing(
    path: Path, run: Run, run_msdn: Msdn, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    named, table = damage(path), tmp_path / "answers.csv"
    asked = ("--cache", path, "--rows", "0-130", "--csv", table)
    assert_named(run_msdn("predict", "--run", run.path, *asked), str(path), named)
    assert not table.exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_export_names_it_and_writes_nothing(
    path: Path, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    named, out = damage(path), tmp_path / "out.hdf5"
    done = run_plain("cache", "export", path, out)
    assert_named(done, str(path), named)
    assert not list(tmp_path.glob("out.hdf5*"))


def test_annotations_are_not_put_to_damaged_rows(path: Path) -> None:
    damage_rows(path)
    before = path.read_bytes()
    other = make_annotations(n_classes=18, per_class=10, seed=4)
    with pytest.raises(CacheError, match=r"60 of 180 rows are damaged, first row 120 \(class_12/120.jpg\)"):
        replace_annotations(path, other, {})
    assert path.read_bytes() == before and [one.name for one in path.parent.iterdir()] == [path.name]


def test_two_rows_that_changed_places_with_their_checksums_are_another_cache(
    path: Path, run: Run, run_msdn: Msdn
) -> None:
    swap_rows(path, 121, 122)
    places = read_header(path).places
    content = bytearray(path.read_bytes())
    for table in (layout.CHECKSUMS, layout.CRC32):
        place = places[table]
        one, other = (slice(place.start_of(r), place.start_of(r) + place.row_bytes) for r in (121, 122))
        content[one], content[other] = content[other], content[one]
    path.write_bytes(content)
    assert_named(run_msdn("evaluate", "--run", run.path, "--cache", path), str(path))
    assert not run.results.exists()


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """A small cache of two maps with one image masked."""
    rng = np.random.RandomState(4)
    maps = {
        name: rng.standard_normal((30, *size)) for name, size in ((MAIN, (2, 2, 8)), ("global", (1, 1, 8)))
    }
    maps = {name: values.astype(np.float16) for name, values in maps.items()}
    return write_cache(tmp_path / "a.h5", make_annotations(), maps, {4: "missing"}, signed=True)


@pytest.mark.parametrize("table", layout.ROW_TABLES)
@pytest.mark.parametrize("row", [4, 8], ids=["masked", "done"])
def test_a_row_table_that_changed_is_found(masked: Path, table: str, row: int) -> None:
    if (table, row) == (layout.REASONS, 8):
        return  # a row that is done has no reason, and nobody reads it
    place = read_header(masked).places[table]
    for bit in range(8):
        flip(masked, place.start_of(row), 1 << bit)
        with pytest.raises(CacheError, match=r"a\.h5: "):
            read_everything(masked)
        flip(masked, place.start_of(row), 1 << bit)
    read_everything(masked)


def read_everything(path: Path) -> tuple[object, ...]:
    """All that is ever read of a cache, in comparable form; raises where a command would."""
    with FeatureCache(path) as cache:
        header: Header = cache.header
        damaged = list(find_damaged_rows(header))
        if damaged:
            raise CacheError(f"{path}: {damaged}")
        good = np.flatnonzero(header.states == layout.DONE)
        tables = (header.states, header.checksums, header.crc32, *vars(header.annotations).values())
        return (
            *(cache.read_rows(good, map=name).tobytes() for name in cache.maps),
            *(one.tobytes() if isinstance(one, np.ndarray) else repr(one) for one in tables),
            json.dumps(header.provenance),
            repr((header.maps, header.mask_reasons, header.backbone_state, header.fingerprint)),
        )


def assert_flips_are_found(path: Path, places: list[int]) -> None:
    """Every flip is refused in a sentence, or nothing that is read changes."""
    expected = read_everything(path)
    for at in places:
        bits = 1 << at % 8
        flip(path, at, bits)
        try:
            assert read_everything(path) == expected, f"byte {at} changed in silence"
        except MsdnError as error:
            assert re.search(r"a\.h5: ", str(error)) and "\n" not in str(error), at
        flip(path, at, bits)


def test_no_byte_of_a_cache_changes_what_is_read(masked: Path) -> None:
    size = masked.stat().st_size
    assert_flips_are_found(masked, np.random.default_rng(0).integers(0, size, 300).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(4))
def test_no_byte_at_all_of_a_cache_changes_what_is_read(masked: Path, first: int) -> None:
    assert_flips_are_found(masked, [*range(first, masked.stat().st_size, 4)])
