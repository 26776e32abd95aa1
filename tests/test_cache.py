"""The cache: what is written is read back, and nothing broken is ever taken for whole."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_cache import PROVENANCE, begin_cache, make_annotations, write_cache

from msdn.cache import CacheError, FeatureCache, layout
from msdn.cache.annotations import AnnotationError, check_annotations
from msdn.cache.header import read_header
from msdn.cache.home import Home, choose_cache, find_caches
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.partial import PartialCache, partial_path
from msdn.cache.reader import find_damaged_rows
from msdn.cache.structure import create_structure


def make_features(n: int, dtype: type = np.float16) -> np.ndarray:
    return np.random.RandomState(3).standard_normal((n, 2, 2, 8)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_and_annotations_come_back_as_written(tmp_path: Path, dtype: type) -> None:
    annotations = make_annotations()
    features = make_features(len(annotations.labels), dtype)
    with FeatureCache(write_cache(tmp_path / "a.h5", annotations, features)) as cache:
        rows = np.array([7, 0, 29, 7])
        np.testing.assert_array_equal(cache.read_rows(rows), features[rows].reshape(4, 4, 8))
        assert cache.dtype == dtype and cache.shape == (30, 2, 2, 8)
        assert cache.provenance == PROVENANCE
        back = cache.annotations
        for name in ("dataset", "image_paths", "class_names", "attribute_names"):
            assert getattr(back, name) == getattr(annotations, name)
        for name in ("labels", "attributes", "attribute_vectors"):
            np.testing.assert_array_equal(getattr(back, name), getattr(annotations, name))
        for name, split in annotations.splits.items():
            np.testing.assert_array_equal(back.splits[name], split)


def test_any_hdf5_tool_reads_the_features(tmp_path: Path) -> None:
    features = make_features(30)
    path = write_cache(tmp_path / "a.h5", make_annotations(), features)
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["features"][()], features)
        assert (file["row_states"][()] == layout.DONE).all()


def test_features_of_real_size_start_on_a_page(tmp_path: Path) -> None:
    annotations = make_annotations(n_classes=3, per_class=2)
    path = write_cache(tmp_path / "a.h5", annotations, np.zeros((6, 7, 7, 2048), np.float16))
    assert read_header(path).places["features"].offset % layout.ALIGNMENT == 0


def test_reading_into_an_array_of_ones_own(make_cache) -> None:
    with FeatureCache(make_cache()) as cache:
        out = np.empty((2, 9, 16), np.float16)
        assert cache.read_rows(np.array([1, 2]), out) is out
        with pytest.raises(ValueError, match="contiguous float16 array of shape"):
            cache.read_rows(np.array([1]), out)
        with pytest.raises(IndexError, match="rows run from -1"):
            cache.read_rows(np.array([-1]))
        assert cache.read_rows(np.array([], np.int64)).shape == (0, 9, 16)


def test_masked_rows_leave_their_splits(make_cache) -> None:
    annotations = make_annotations()
    row = int(annotations.splits["trainval"][0])
    with FeatureCache(make_cache(masked={row: "not an image"})) as cache:
        assert row not in cache.rows("trainval")
        assert len(cache.rows("trainval")) == len(annotations.splits["trainval"]) - 1
        assert cache.mask_reasons == {row: "not an image"}


def test_fingerprint_follows_content_alone(make_cache, tmp_path: Path) -> None:
    def print_of(name: str, **changes: object) -> str:
        with FeatureCache(make_cache(tmp_path / name, **changes)) as cache:
            return cache.fingerprint

    first, annotations = print_of("1.h5"), make_annotations()
    assert print_of("2.h5", provenance={"weights": {"kind": "file"}}) == first
    assert print_of("3.h5", seed=1) != first
    assert print_of("4.h5", masked={0: "missing"}) != first
    assert print_of("5.h5", annotations=replace(annotations, attributes=annotations.attributes + 1)) != first
    assert print_of("6.h5", annotations=replace(annotations, attribute_vectors=None)) != first


def test_row_written_is_row_read_whatever_the_order(tmp_path: Path) -> None:
    annotations, features = make_annotations(), make_features(30)
    final = tmp_path / "a.h5"
    begin_cache(final, annotations, {MAIN: features})
    for rows in ([5, 3], [0, 1, 2, 4], list(range(6, 30))):
        with PartialCache(final) as cache:
            assert set(rows) <= set(cache.unfinished_rows.tolist())
            cache.write_rows(rows, {MAIN: features[rows]})
    with PartialCache(final) as cache:
        cache.finish()
    with FeatureCache(final) as cache:
        np.testing.assert_array_equal(cache.read_rows(np.arange(30)), features.reshape(30, 4, 8))
        assert not list(find_damaged_rows(cache.header))


def test_an_unfinished_cache_is_never_finished_nor_read(tmp_path: Path) -> None:
    final = tmp_path / "a.h5"
    begin_cache(final, make_annotations(), {MAIN: make_features(30)})
    with PartialCache(final) as cache, pytest.raises(CacheError, match="30 rows are not extracted yet"):
        cache.finish()
    with pytest.raises(
        CacheError, match=r"incomplete, 30 of 30 images not extracted yet; repeat the command"
    ):
        FeatureCache(partial_path(final))


def test_masked_rows_are_tried_again_in_an_unfinished_cache(tmp_path: Path) -> None:
    final = tmp_path / "a.h5"
    begin_cache(final, make_annotations(), {MAIN: make_features(30)})
    with PartialCache(final) as cache:
        cache.mask_rows({4: "missing"})
        assert 4 in cache.unfinished_rows
        with pytest.raises(ValueError, match=r"'regions' are \(1, 8\), expected \(1, 2, 2, 8\)"):
            cache.write_rows([4], {MAIN: np.zeros((1, 8), np.float16)})
        with pytest.raises(ValueError, match="features of maps global; the cache has regions"):
            cache.write_rows([4], {"global": np.zeros((1, 2, 2, 8), np.float16)})


def test_a_flipped_byte_is_found(make_cache) -> None:
    path = make_cache()
    place = read_header(path).places["features"]
    with path.open("r+b") as file:
        file.seek(place.start_of(11) + 5)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    with FeatureCache(path) as cache:
        assert list(find_damaged_rows(cache.header)) == [(MAIN, 11)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_file_cut_short_anywhere_is_refused(make_cache, tmp_path: Path, share: float) -> None:
    path = make_cache(tmp_path / "cut.h5")
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    with pytest.raises(CacheError, match=r"damaged|cut short|not an HDF5 file"):
        FeatureCache(path)
    path.unlink()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 0.999), value=st.integers(0, 255))
def test_a_damaged_header_gives_a_sentence_or_changes_nothing(
    make_cache, tmp_path: Path, where: float, value: int
) -> None:
    path = make_cache(tmp_path / "damaged.h5")
    end = read_header(path).places["features"].offset
    with FeatureCache(path) as cache:
        fingerprint, rows = cache.fingerprint, cache.read_rows(np.arange(cache.shape[0]))
    with path.open("r+b") as file:
        file.seek(int(end * where))
        file.write(bytes([value]))
    try:
        with FeatureCache(path) as cache:
            np.testing.assert_array_equal(cache.read_rows(np.arange(cache.shape[0])), rows)
            assert cache.fingerprint == fingerprint or list(find_damaged_rows(cache.header))
    except (CacheError, AnnotationError):
        pass
    path.unlink()


def test_a_cache_cut_short_after_opening_is_an_error_not_a_crash(make_cache) -> None:
    path = make_cache()
    with FeatureCache(path) as cache:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 100)
        with pytest.raises(CacheError, match="cut short while it was in use"):
            cache.read_rows(np.array([29]))


def test_foreign_and_older_files_are_refused(make_cache, tmp_path: Path) -> None:
    older = make_cache(tmp_path / "older.h5")
    older.write_bytes(older.read_bytes().replace(b"msdn-cache 3 ", b"msdn-cache 0 ", 1))
    with pytest.raises(
        CacheError, match=r"older.h5: schema version 0, expected 3; make it again: .*--restart"
    ):
        FeatureCache(older)
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["feature_map"] = np.zeros(3)
    with pytest.raises(CacheError, match=r"not a cache made by .*published feature file. .msdn cache import"):
        FeatureCache(foreign)
    with pytest.raises(CacheError, match="no such file"):
        FeatureCache(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("features")
    with pytest.raises(CacheError, match="not an HDF5 file"):
        FeatureCache(tmp_path / "text.h5")


def test_a_copy_that_another_tool_made_is_refused_with_the_way_back(make_cache, tmp_path: Path) -> None:
    original, copy = make_cache(), tmp_path / "copy.h5"
    with h5py.File(original, "r") as source, h5py.File(copy, "w") as target:
        target.attrs.update(source.attrs)
        for name in source:
            source.copy(name, target)
    with pytest.raises(CacheError, match=r"copy.h5: .*another tool.*use the original, or .*--restart"):
        FeatureCache(copy)


def test_a_disk_too_small_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        CacheError, match=r"need .* GB, but only .* are free; make room or choose another place"
    ):
        create_structure(
            tmp_path / "a.h5.partial",
            make_annotations(),
            [MapSpec(MAIN, 7, 7, 10**12, np.dtype(np.float16), signed=False)],
            PROVENANCE,
            {},
        )
    assert list(tmp_path.iterdir()) == []


def test_choosing_a_cache(make_cache, tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(CacheError, match=r"no cache of 'toy' .* with: msdn extract --dataset toy --home "):
        choose_cache(home, "toy", None, ["toy"])
    with pytest.raises(CacheError, match=r"Did you mean 'toy'\? Known: cub, toy\. .*--dataset FOLDER"):
        choose_cache(home, "toyy", None, ["toy", "cub"])
    first = make_cache(home.features / "toy-224-random.h5")
    make_cache(home.features / "toy-2-224-random.h5")
    assert choose_cache(home, "toy", None) == first
    second = make_cache(home.features / "toy-448-imagenet.h5")
    assert find_caches(home, "toy") == [first, second]
    with pytest.raises(
        CacheError, match=r"several caches of 'toy' fit: .*224.*448.*; choose one with --cache"
    ):
        choose_cache(home, "toy", None)
    assert choose_cache(home, "toy", second) == second


def swap_first(splits: dict[str, np.ndarray], name: str, row: int) -> dict[str, np.ndarray]:
    return splits | {name: np.concatenate([[row], splits[name][1:]])}


MISTAKES = {
    "5 labels for 30 images": lambda a: replace(a, labels=a.labels[:5]),
    "5 class names for 6 rows": lambda a: replace(a, class_names=a.class_names[:5]),
    "two classes have the same name": lambda a: replace(a, class_names=("x",) * 6),
    "labels run from 1 to 6, expected 0 to 5": lambda a: replace(a, labels=a.labels + 1),
    "attributes hold values that are not finite": lambda a: replace(a, attributes=a.attributes * np.nan),
    "1 attribute names for 7 attributes": lambda a: replace(a, attribute_names=("x",)),
    "2 attribute vectors for 7": lambda a: replace(a, attribute_vectors=a.attribute_vectors[:2]),
    "vectors hold values that are not finite": lambda a: replace(
        a, attribute_vectors=a.attribute_vectors / 0 * 0
    ),
    "splits are train, trainval": lambda a: replace(
        a, splits={k: a.splits[k] for k in ("train", "trainval")}
    ),
    "split 'val' holds row 1..99": lambda a: replace(a, splits=a.splits | {"val": np.array([1, 99])}),
    "split 'val' names an image twice": lambda a: replace(a, splits=a.splits | {"val": np.array([1, 1])}),
    "'trainval' and 'test_seen' share 1 images": lambda a: replace(
        a, splits=swap_first(a.splits, "test_seen", 1)
    ),
    "split 'test_unseen' is empty": lambda a: replace(
        a, splits=a.splits | {"test_unseen": np.array([], int)}
    ),
    "together are not 'trainval'": lambda a: replace(a, splits=a.splits | {"val": a.splits["val"][1:]}),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("message", MISTAKES)
def test_contradictions_in_annotations_are_named(message: str) -> None:
    check_annotations(make_annotations())
    with pytest.raises(AnnotationError, match=message):
        check_annotations(MISTAKES[message](make_annotations()))
