"""The file format: several maps, nothing but fixed sizes, and nothing read that we would not have written."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_cache import PROVENANCE, begin_cache, make_annotations, spec_of, write_cache
from toy_published import run

from msdn.cache import CacheError, FeatureCache, layout
from msdn.cache.annotate import replace_annotations
from msdn.cache.annotations import name_differences
from msdn.cache.errors import MsdnError, UnknownNameError
from msdn.cache.header import read_header
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.reader import find_damaged_rows
from msdn.cache.structure import create_structure

N = 30
SIZES = {MAIN: (3, 3, 16), "global": (1, 1, 256), "before_last": (2, 2, 64)}


def make_maps(dtype: type = np.float16) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(4)
    return {name: rng.standard_normal((N, *size)).astype(dtype) for name, size in SIZES.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache of three maps, one image masked."""
    return write_cache(tmp_path / "a.h5", make_annotations(), make_maps(), {4: "missing"}, signed=True)


def flip_byte(path: Path, dataset: str, row: int) -> None:
    place = read_header(path).places[dataset]
    with path.open("r+b") as file:
        file.seek(place.start_of(row) + place.row_bytes // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))


def test_every_map_comes_back(path: Path) -> None:
    maps, rows = make_maps(), np.array([7, 0, 29, 7])
    with FeatureCache(path) as cache:
        assert [*cache.maps] == [*SIZES] and cache.map.name == MAIN and cache.signed is True
        for name, values in maps.items():
            expected = values[rows].reshape(4, -1, values.shape[3])
            np.testing.assert_array_equal(cache.read_rows(rows, map=name), expected)
            assert read_header(path).places[cache.maps[name].dataset].offset % layout.ALIGNMENT == 0
        assert cache.crc32.shape == cache.checksums.shape == (N, 3)
    with FeatureCache(path, "global") as cache:
        assert cache.shape == (N, 1, 1, 256) and cache.map == MapSpec("global", 1, 1, 256, cache.dtype, True)
        np.testing.assert_array_equal(cache.read_rows(rows), maps["global"][rows].reshape(4, 1, 256))
        assert cache.read_rows(rows, map=MAIN).shape == (4, 9, 16)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features_before_last"][5], maps["before_last"][5])
        assert file["image_paths"].asstr()[0] == "class_0/0.jpg"


def test_a_map_that_is_not_there_is_named_beside_those_that_are(path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'globe'.*'global'.*before_last, global, regions in .*a\.h5"):
        FeatureCache(path, "globe")
    with FeatureCache(path) as cache, pytest.raises(UnknownNameError, match="unknown map 'features'"):
        cache.read_rows([1], map="features")


def test_the_fingerprint_covers_every_map(tmp_path: Path, path: Path) -> None:
    prints = {FeatureCache(path).fingerprint, FeatureCache(path, "global").fingerprint}
    assert len(prints) == 1
    for name in SIZES:
        maps = make_maps()
        maps[name][11, 0, 0, 0] += 1
        prints.add(FeatureCache(write_cache(tmp_path / "b.h5", make_annotations(), maps)).fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("name", SIZES)
def test_verify_finds_a_flipped_byte_in_each_map(path: Path, name: str) -> None:
    assert "29 rows of 3 maps and all annotations" in run("cache", "verify", path).stdout
    flip_byte(path, "features" if name == MAIN else f"features_{name}", 11)
    result = run("cache", "verify", path)
    assert result.exit_code == 1 and "1 of 30 rows are damaged" in result.stderr
    assert result.stdout.startswith(f"map {name}, row 11 (class_2/11.jpg)") and result.stdout.count("\n") == 1


@pytest.mark.parametrize("table", [layout.CRC32, layout.CHECKSUMS])
def test_a_damaged_checksum_is_found(path: Path, table: str) -> None:
    flip_byte(path, table, 8)
    with FeatureCache(path) as cache:
        assert [row for _, row in find_damaged_rows(cache.header)] == [8]


KILLED = """
import os, signal, sys
from pathlib import Path
from test_cache_format import fill
calls = 0
def count(function):
    def counted(*arguments):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return counted
os.pwrite, os.fsync, os.replace = map(count, (os.pwrite, os.fsync, os.replace))
fill(Path(sys.argv[1]))
print(calls)
"""


def fill(final: Path) -> None:
    """Fill the cache `final` with three maps, five rows at a time, going on where it stopped."""
    maps = make_maps()
    if not partial_path(final).exists():
        begin_cache(final, make_annotations(), maps)
    with PartialCache(final) as cache:
        rows = cache.unfinished_rows.tolist()
        for start in range(0, len(rows), 5):
            chosen = rows[start : start + 5]
            cache.write_rows(chosen, {name: values[chosen] for name, values in maps.items()})
        cache.finish()


ROW_CALLS = 30 * 6 + 6 * 2 + 3  # six writes a row, two flushes a block, and the end: flush, name, folder


def fill_until(call: int, final: Path) -> subprocess.CompletedProcess[str]:
    """Fill a cache in a process that is killed before its so-manieth call; without one it says how many it made."""
    program = f"import sys; sys.path[:0] = {sys.path!r}\n{KILLED}"
    command = [sys.executable, "-c", program, str(final), str(call)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_killed_at_any_write_the_bytes_are_the_same(tmp_path: Path) -> None:
    whole, pieces = tmp_path / "whole.h5", tmp_path / "pieces.h5"
    fill(whole)
    time.sleep(1.1)  # HDF5 dates what is not told to be undated, by the second
    created = int(fill_until(0, tmp_path / "counted.h5").stdout) - ROW_CALLS
    for call in (1, 2, created // 2, created - 1, created + 8, 17, 31, 34, 40):
        assert fill_until(call, pieces).returncode == -9, call
    assert not pieces.exists() and 5 <= (read_header(partial_path(pieces)).states == layout.DONE).sum() < N
    fill(pieces)
    assert pieces.read_bytes() == whole.read_bytes()


def test_annotating_copies_every_map(path: Path) -> None:
    before = {name: FeatureCache(path).read_rows(np.arange(N), map=name) for name in SIZES}
    assert replace_annotations(path, make_annotations(seed=4), {}) == ["attributes", "attribute vectors"]
    with FeatureCache(path) as cache:
        assert not list(find_damaged_rows(cache.header)) and cache.mask_reasons == {4: "missing"}
        for name, values in before.items():
            np.testing.assert_array_equal(cache.read_rows(np.arange(N), map=name), values)


def test_info_lists_every_map(path: Path) -> None:
    shown = run("cache", "info", path).stdout
    assert "map global" in shown and "30 images x 1x1 regions x 256 channels, float16, signed" in shown


def test_close_twice_and_a_read_after_it(make_cache: Callable[..., Path]) -> None:
    cache = FeatureCache(make_cache())
    cache.close()
    cache.close()
    with pytest.raises(CacheError, match=r"toy-224-random.h5: was closed; open"):
        cache.read_rows(np.array([0]))


@pytest.mark.parametrize(
    "names, message",
    [
        (["global"], "maps are global, expected 'regions' first"),
        ([MAIN, "global", "global"], "no name twice"),
        ([MAIN, "Global"], "'Global', expected lower-case letters"),
        ([MAIN, "a/b"], "'a/b'"),
    ],
)
def test_maps_have_plain_names(tmp_path: Path, names: list[str], message: str) -> None:
    specs = [spec_of(name, np.zeros((N, 1, 1, 8), np.float16)) for name in names]
    with pytest.raises(CacheError, match=message):
        create_structure(tmp_path / "a.h5.partial", make_annotations(), specs, PROVENANCE, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["ends\0", "a\0b.jpg", "\udcff.jpg"])
def test_texts_that_would_not_come_back_are_refused(tmp_path: Path, text: str) -> None:
    a = make_annotations()
    with pytest.raises(CacheError, match=r"contains a zero byte|is not UTF-8"):
        write_cache(tmp_path / "a.h5", replace(a, image_paths=(text, *a.image_paths[1:])), make_maps())
    with pytest.raises(CacheError, match=r"contains a zero byte|is not UTF-8"):
        write_cache(tmp_path / "a.h5", a, make_maps(), masked={3: text})


def test_texts_in_any_script_come_back(tmp_path: Path) -> None:
    a = make_annotations()
    a = replace(a, dataset="Vögel", class_names=("鳥", "", *a.class_names[2:]), attribute_names=())
    path = write_cache(tmp_path / "a.h5", a, make_maps(), masked={3: "…" * 100})
    with FeatureCache(path) as cache:
        assert cache.annotations.dataset == "Vögel" and cache.annotations.class_names == a.class_names
        assert cache.annotations.attribute_names == () and cache.mask_reasons == {3: "…" * 80}


def test_every_type_has_a_fixed_size_and_every_dataset_lies_in_one_piece(path: Path) -> None:
    seen = []

    def check(name: str, thing: h5py.Dataset | h5py.Group) -> None:
        if isinstance(thing, h5py.Dataset):
            seen.append(name)
            assert thing.dtype.kind in "fiuS" and thing.chunks is None and thing.compression is None
            assert not thing.id.get_type().detect_class(h5py.h5t.VLEN)

    with h5py.File(path) as file:
        file.visititems(check)
        for name in file.attrs:
            kind = file.attrs.get_id(name).get_type()
            assert kind.get_class() == h5py.h5t.INTEGER or not kind.is_variable_str()
    assert {"dataset", "provenance", "image_paths", "splits/val", "features_global", "row_crc32"} <= {*seen}


def replace_dataset(file: h5py.File, name: str, **how: object) -> None:
    values = file[name][()]
    del file[name]
    file.create_dataset(name, data=values, **how)


def make_variable(file: h5py.File, _folder: Path) -> None:
    replace_dataset(file, "class_names", dtype=h5py.string_dtype())


def make_soft(file: h5py.File, _folder: Path) -> None:
    file.move("labels", "row")
    file["labels"] = h5py.SoftLink("/row")


def make_external(file: h5py.File, folder: Path) -> None:
    del file["labels"]
    file["labels"] = h5py.ExternalLink(str(folder / "other.h5"), "/labels")


def make_external_storage(file: h5py.File, folder: Path) -> None:
    del file["labels"]
    file.create_dataset("labels", (N,), "i8", external=[(str(folder / "secret"), 0, 240)])


def make_virtual(file: h5py.File, folder: Path) -> None:
    plan = h5py.VirtualLayout((N,), "i8")
    plan[:] = h5py.VirtualSource(str(folder / "other.h5"), "labels", (N,))
    del file["labels"]
    file.create_virtual_dataset("labels", plan)


def make_nowhere(file: h5py.File, _folder: Path) -> None:
    del file["labels"]
    file.create_dataset("labels", (10**15,), "i8")


def make_compound(file: h5py.File, _folder: Path) -> None:
    del file["labels"]
    file["labels"] = np.zeros(N, [("a", "i4"), ("b", "i4")])


def make_typed_otherwise(file: h5py.File, _folder: Path) -> None:
    replace_dataset(file, "attributes", dtype="f4")


def make_swapped(file: h5py.File, _folder: Path) -> None:
    replace_dataset(file, "labels", dtype=">i8")


def add_stranger(file: h5py.File, _folder: Path) -> None:
    file["notes"] = np.arange(3)


def add_map(file: h5py.File, _folder: Path) -> None:
    file["features_more"] = np.zeros((N, 1, 1, 8), np.float16)


def take_split(file: h5py.File, _folder: Path) -> None:
    del file["splits/val"]


def change_label(file: h5py.File, _folder: Path) -> None:
    file["labels"][0] = 1


def change_sign(file: h5py.File, _folder: Path) -> None:
    file[layout.MAP_SIGNS][1] = 0


def change_digest(file: h5py.File, _folder: Path) -> None:
    file.attrs["digest"] = "a text of variable length"


ALTERED = [
    *(
        make_variable,
        make_soft,
        make_external,
        make_external_storage,
        make_virtual,
        make_nowhere,
        make_compound,
    ),
    *(
        make_typed_otherwise,
        make_swapped,
        add_stranger,
        add_map,
        take_split,
        change_label,
        change_sign,
        change_digest,
    ),
]


@pytest.mark.parametrize("alter", ALTERED, ids=lambda alter: alter.__name__)
def test_what_else_is_written_into_the_structure_is_refused_or_makes_no_difference(
    path: Path, tmp_path: Path, alter: Callable[[h5py.File, Path], None]
) -> None:
    (tmp_path / "secret").write_bytes(bytes(240))
    before, content = read_header(path), path.read_bytes()
    with h5py.File(path, "r+") as file:
        alter(file, tmp_path)
    assert path.read_bytes() != content
    try:
        after = read_header(path)
    except CacheError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert not name_differences(before.annotations, after.annotations)
        assert (before.fingerprint, before.maps) == (after.fingerprint, after.maps)


def test_the_library_is_never_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("HDF5 was asked")

    monkeypatch.setattr(h5py, "File", refuse)
    monkeypatch.setattr(h5py, "is_hdf5", refuse)
    for command in ("info", "verify"):
        assert run("cache", command, path).exit_code == 0


def test_the_places_are_those_that_the_library_names(path: Path) -> None:
    places = read_header(path).places
    with h5py.File(path) as file:
        assert file.userblock_size == layout.ALIGNMENT
        names = []
        file.visititems(lambda name, thing: names.append(name) if isinstance(thing, h5py.Dataset) else None)
        assert sorted(names) == sorted(places)
        for name, place in places.items():
            assert (file[name].id.get_offset() or 0, file[name].shape, file[name].dtype) == (
                place.offset,
                place.shape,
                place.dtype,
            )
    assert all(place.offset % layout.ALIGNMENT == 0 for place in places.values() if place.bytes >= 4096)


@pytest.mark.parametrize("more", [1, 5000])
def test_a_longer_file_is_damaged_too(path: Path, more: int) -> None:
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(more))
    with pytest.raises(CacheError, match=rf"{size + more} bytes long, expected {size}"):
        FeatureCache(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 0.999), count=st.sampled_from([1, 8, 64, 512]))
def test_zeros_in_the_header_give_a_sentence_or_change_nothing(path: Path, where: float, count: int) -> None:
    """Zeros in the heap of variable-length texts once sent the HDF5 library into an endless loop."""
    whole = path.read_bytes()
    end = read_header(path).places["features"].offset
    start = int(end * where)
    damaged = path.with_name("damaged.h5")
    damaged.write_bytes(whole[:start] + bytes(count) + whole[start + count :])
    try:
        with FeatureCache(damaged) as cache, FeatureCache(path) as before:
            assert cache.fingerprint == before.fingerprint or list(find_damaged_rows(cache.header))
    except MsdnError as error:
        assert "\n" not in str(error)


def test_an_older_schema_is_told_before_any_of_its_texts_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs.update(format="msdn-cache", schema=1, provenance="{}")
        file["row_states"] = np.zeros(3, np.uint8)
    with pytest.raises(CacheError, match=r"old.h5: .*older schema than 3.*--restart"):
        read_header(tmp_path / "old.h5")
