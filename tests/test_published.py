"""Out into the published layout and back in: nothing is lost, and foreign files are checked."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from toy_cache import make_annotations
from toy_dataset import TOY, write_toy_dataset
from toy_published import run, write_foreign

from msdn.cache import FeatureCache, layout, published, published_reading
from msdn.cache.partial import PartialCache
from msdn.extract.datasets import registry


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setenv("MSDN_HOME", str(tmp_path / "other"))
    return tmp_path / "other"


@pytest.mark.parametrize("compress", [[], ["--compress"]])
def test_export_and_import_give_back_the_same_cache(
    make_cache, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, compress: list[str]
) -> None:
    monkeypatch.setattr(published, "BLOCK_BYTES", 5 * 16 * 9 * 4)  # several blocks
    path, out = make_cache(masked={4: "missing"}), tmp_path / "out.hdf5"
    assert run("cache", "export", path, out, *compress).exit_code == 0
    result = run("cache", "import", out, "--dataset", "toy")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(home / "features/toy-224-random.h5")
    with FeatureCache(path) as before, FeatureCache(result.stdout.strip()) as after:
        rows = np.setdiff1d(np.arange(30), [4])
        np.testing.assert_array_equal(before.read_rows(rows), after.read_rows(rows))
        assert before.read_rows(rows).any() and after.dtype == np.float16
        assert after.fingerprint == before.fingerprint  # rows, labels, splits, attributes, vectors
        assert after.annotations.image_paths == before.annotations.image_paths
        assert after.annotations.class_names == before.annotations.class_names
        assert after.mask_reasons == {4: "missing"}
        assert after.provenance["weights"] == before.provenance["weights"]


def test_an_exported_file_is_what_published_scripts_read(make_cache, tmp_path: Path) -> None:
    path, out = make_cache(), tmp_path / "out.hdf5"
    result = run("cache", "export", path, out)
    assert "backbone: random weights" in result.stderr
    a = make_annotations()
    with FeatureCache(path) as cache, h5py.File(out) as file:
        maps = file["feature_map"][()]
        assert maps.shape == (30, 16, 3, 3) and maps.dtype == np.float32
        for row in range(30):
            for region in range(9):
                expected = cache.read_rows([row])[0, region]
                np.testing.assert_array_equal(maps[row, :, region // 3, region % 3], expected)
        np.testing.assert_array_equal(file["labels"][()], a.labels)
        np.testing.assert_array_equal(file["test_unseen_loc"][()], a.splits["test_unseen"])
        np.testing.assert_allclose(np.linalg.norm(file["att"][()], axis=1), 1)
        np.testing.assert_array_equal(file["original_att"][()], a.attributes)
    assert "already exists" in run("cache", "export", path, out).stderr


def test_an_export_never_replaces_its_own_cache(make_cache, tmp_path: Path) -> None:
    path = make_cache()
    before = path.read_bytes()
    (tmp_path / "link.h5").symlink_to(path)
    for out in (path, tmp_path / "link.h5"):
        result = run("cache", "export", path, out, "--force")
        assert result.exit_code == 1 and f"{out}: is the cache itself; choose another name" in result.stderr
    assert path.read_bytes() == before
    assert run("cache", "export", path, tmp_path / "out.hdf5").exit_code == 0
    assert run("cache", "export", path, tmp_path / "out.hdf5", "--force").exit_code == 0


def test_an_export_that_cannot_be_written_leaves_nothing(make_cache, tmp_path: Path, monkeypatch) -> None:
    path = make_cache()
    assert (
        f"there is no folder {tmp_path / 'none'}"
        in run("cache", "export", path, tmp_path / "none/out.hdf5").stderr
    )
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "only 0.00 GB are free" in run("cache", "export", path, tmp_path / "out.hdf5").stderr
    monkeypatch.undo()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(published, "_blocks", stop)
    assert run("cache", "export", path, tmp_path / "out.hdf5").exit_code == 130
    assert not list(tmp_path.glob("out*"))


def test_a_foreign_file_can_be_trained_from_at_once(tmp_path: Path, home: Path, one_thread) -> None:
    source = write_foreign(tmp_path / "feature_map.hdf5")
    result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 0, result.output
    assert "classes and images have numbers only" in result.stderr
    with h5py.File(source) as file, FeatureCache(result.stdout.strip()) as cache:
        maps = file["feature_map"][()].transpose(0, 2, 3, 1).reshape(30, 9, 16)
        np.testing.assert_array_equal(cache.read_rows(np.arange(30)), maps.astype(np.float16))
        assert cache.provenance["weights"]["kind"] == "imported"
    assert run("train", "--dataset", "toy", "--epochs", "1", "--batch-size", "4").exit_code == 0


def test_lists_in_the_home_give_names_then_or_later(tmp_path: Path, home: Path) -> None:
    source = write_foreign(tmp_path / "feature_map.hdf5")
    path = Path(run("cache", "import", source, "--dataset", "toy").stdout.strip())
    write_toy_dataset(home / "data")
    result = run("cache", "annotate", path, "--dataset", "toy")
    assert result.exit_code == 0, result.output
    named = run("cache", "import", source, "--dataset", "toy", "--out", tmp_path / "named.h5")
    assert named.exit_code == 0 and "numbered" not in named.stderr, named.output
    for cache_path in (path, tmp_path / "named.h5"):
        with FeatureCache(cache_path) as cache:
            assert cache.annotations.image_paths == make_annotations().image_paths
            assert cache.annotations.class_names == make_annotations().class_names


def test_maps_of_any_size_are_imported(tmp_path: Path, home: Path) -> None:
    """As of a vision transformer: 14 x 14 patches of 768 channels, some of them negative."""
    maps = np.random.RandomState(0).standard_normal((30, 768, 14, 14)).astype(np.float32)
    source = write_foreign(tmp_path / "vit.hdf5", feature_map=None)
    with h5py.File(source, "r+") as file:
        file["feature_map"] = maps
    result = run("cache", "import", source, "--dataset", "toy", "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(home / "features/toy-14x14-imported.h5")
    with FeatureCache(result.stdout.strip()) as cache:
        assert cache.shape == (30, 14, 14, 768) and cache.signed is None
        assert cache.provenance["image_size"] is None  # nobody knows it: not every stride is 32
        np.testing.assert_array_equal(cache.read_rows([3])[0, 15], maps[3, :, 1, 1])
    out = tmp_path / "out.hdf5"
    assert run("cache", "export", home / "features/toy-14x14-imported.h5", out).exit_code == 0
    again = run("cache", "import", out, "--dataset", "toy", "--restart")
    assert again.stdout == result.stdout, again.output


def test_one_of_several_maps_is_exported(make_cache, tmp_path: Path, home: Path) -> None:
    path, out = make_cache(more={"tokens": (4, 4, 32)}), tmp_path / "out.hdf5"
    wrong = run("cache", "export", path, out, "--map", "token")
    assert wrong.exit_code == 2 and "Did you mean 'tokens'? Known: regions, tokens" in wrong.stderr
    assert run("cache", "export", path, out, "--map", "tokens").exit_code == 0
    result = run("cache", "import", out, "--dataset", "toy")
    assert result.stdout.strip() == str(home / "features/toy-224-random_tokens.h5"), result.output
    with FeatureCache(path, "tokens") as before, FeatureCache(result.stdout.strip()) as after:
        np.testing.assert_array_equal(after.read_rows(np.arange(30)), before.read_rows(np.arange(30)))
        assert [*after.maps] == ["regions"] and after.provenance["exported_map"] == "tokens"


def test_a_file_of_other_counts_is_not_taken_for_the_dataset(tmp_path: Path, home: Path) -> None:
    source = write_foreign(tmp_path / "f.hdf5")
    result = run("cache", "import", source, "--dataset", "cub")
    assert result.exit_code == 1 and not home.exists(), result.output
    for part in ("f.hdf5: holds 16 trainval", "'cub' has 7057 trainval, 1764", "--allow-other-counts"):
        assert part in result.stderr
    allowed = run("cache", "import", source, "--dataset", "cub", "--allow-other-counts")
    assert allowed.exit_code == 0 and "do not compare it with published figures" in allowed.stderr, (
        allowed.output
    )
    with FeatureCache(allowed.stdout.strip()) as cache:
        assert "'cub' has 7057 trainval" in cache.provenance[layout.COUNTS]


def test_a_file_of_the_datasets_counts_is_taken(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"trainval": 16, "test_seen": 4, "test_unseen": 10}
    monkeypatch.setitem(registry.DATASETS, "toy", replace(TOY, counts=counts))
    result = run("cache", "import", write_foreign(tmp_path / "f.hdf5"), "--dataset", "toy")
    assert result.exit_code == 0 and "figure" not in result.stderr, result.output
    with FeatureCache(result.stdout.strip()) as cache:
        assert layout.COUNTS not in cache.provenance


def test_an_interrupted_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_reading, "BLOCK_BYTES", 7 * 16 * 9 * 4)
    source = write_foreign(tmp_path / "feature_map.hdf5")
    write = PartialCache.write_rows
    written: list[int] = []

    def stop_after_two(cache: PartialCache, rows: list[int], features: np.ndarray) -> None:
        if len(written) == 14:
            raise KeyboardInterrupt
        written.extend(rows)
        write(cache, rows, features)

    monkeypatch.setattr(PartialCache, "write_rows", stop_after_two)
    assert run("cache", "import", source, "--dataset", "toy").exit_code == 130
    again: list[int] = []
    monkeypatch.setattr(PartialCache, "write_rows", lambda c, r, f: (again.extend(r), write(c, r, f))[1])
    assert run("cache", "import", source, "--dataset", "toy").exit_code == 0
    assert written == list(range(14)) and again == list(range(14, 30))


def test_rows_of_zeros_are_masked_and_named(tmp_path: Path) -> None:
    maps = np.ones((30, 16, 3, 3), np.float32)
    maps[8] = 0
    result = run("cache", "import", write_foreign(tmp_path / "f.hdf5", feature_map=maps), "--dataset", "toy")
    assert "row 8 is masked, never trained or tested on: all zero" in result.stderr
    with FeatureCache(result.stdout.strip()) as cache:
        assert cache.masked_rows.tolist() == [8]


HUGE, BROKEN = np.ones((30, 16, 3, 3), np.float32), np.ones((30, 16, 3, 3), np.float32)
HUGE[3, 2, 1, 1], BROKEN[5, 2, 1, 1] = 1e5, np.nan


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"feature_map": None}, "'feature_map' is missing, expected a published feature file"),
        ({"labels": None}, "'labels' is missing"),
        ({"test_seen_loc": None}, "'test_seen_loc' is missing"),
        ({"att": None, "original_att": None}, "neither 'original_att' nor 'att' is there"),
        ({"feature_map": np.ones((30, 16))}, "expected float (N, F, h, w)"),
        ({"labels": np.zeros(29, int)}, "29 labels for 30 feature maps"),
        ({"labels": np.full(30, 0.5)}, "'labels' holds values that are not whole numbers"),
        ({"labels": np.full(30, 77)}, "labels run from 77 to 77"),
        ({"feature_map": HUGE}, "row 3 holds features beyond float16; repeat with '--dtype float32'"),
        ({"feature_map": BROKEN}, "row 5 of the feature maps holds values that are not finite"),
    ],
)
def test_unfit_files_are_refused(tmp_path: Path, home: Path, changes: dict, message: str) -> None:
    result = run("cache", "import", write_foreign(tmp_path / "f.hdf5", **changes), "--dataset", "toy")
    assert result.exit_code == 1 and message in result.stderr, result.output
    assert not list(home.glob("features/*.h5"))


def test_files_of_other_kinds_are_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "text").write_text("hello")
    assert "not an HDF5 file" in run("cache", "import", tmp_path / "text", "--dataset", "toy").stderr
    assert "no such file" in run("cache", "import", tmp_path / "none", "--dataset", "toy").stderr
    write_toy_dataset(home / "data", seed=3, per_class=4)
    other = run("cache", "import", write_foreign(tmp_path / "f.hdf5"), "--dataset", "toy")
    assert "are not those of 'toy' in this home" in other.stderr
