"""`msdn cache annotate`: other annotations, the same features, another fingerprint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner
from toy_cache import make_annotations

from msdn.cache import FeatureCache, Home, copying
from msdn.cache.annotate import replace_annotations
from msdn.cache.errors import CacheError
from msdn.cache.header import read_header
from msdn.cache.reader import find_damaged_rows
from msdn.cli import main
from msdn.train.errors import RunError
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.models.registry import settings_of


def run(*arguments: str | Path):
    return CliRunner().invoke(main, [*map(str, arguments)], prog_name="msdn", env={"COLUMNS": "200"})


def feature_bytes(path: Path) -> bytes:
    place = read_header(path).places["features"]
    return path.read_bytes()[place.offset : place.end]


def test_other_vectors_leave_features_and_change_the_fingerprint(
    make_cache, tmp_path: Path, one_thread
) -> None:
    path = make_cache(masked={3: "missing"})
    before = feature_bytes(path)
    with FeatureCache(path) as cache:
        old = cache.fingerprint
        trained = train_model(cache, settings_of(epochs=1, batch_size=4), tmp_path / "runs")
    np.savez(tmp_path / "v.npz", vectors=np.ones((7, 5), np.float32))
    result = run("cache", "annotate", path, "--vectors", tmp_path / "v.npz")
    assert result.exit_code == 0, result.output
    assert "replaced attribute vectors" in result.stdout
    assert feature_bytes(path) == before
    with FeatureCache(path) as cache:
        assert cache.fingerprint != old
        assert cache.annotations.attribute_vectors.shape == (7, 5)
        assert cache.provenance["annotations"]["vectors"]["file"] == "v.npz"
        assert cache.mask_reasons == {3: "missing"} and not list(find_damaged_rows(cache.header))
        with pytest.raises(RunError, match=r"not the features that .* was trained on"):
            evaluate_run(trained, cache)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_counts_other_than_the_known_datasets_are_marked(make_cache, tmp_path: Path) -> None:
    path = make_cache(annotations=replace(make_annotations(), dataset="cub"))
    np.savez(tmp_path / "v.npz", vectors=np.ones((7, 5), np.float32))
    result = run("cache", "annotate", path, "--vectors", tmp_path / "v.npz")
    assert result.exit_code == 0 and "7 attributes" in result.stderr and "312 attributes" in result.stderr
    with FeatureCache(path) as cache:
        assert "'cub' has" in cache.provenance["counts"]


def test_splits_and_attributes_from_csv(make_cache, tmp_path: Path) -> None:
    path = make_cache()
    classes = [f"class_{number}" for number in range(6)]
    lines = [f"{name},{'unseen' if number in (0, 3) else 'seen'}" for number, name in enumerate(classes)]
    (tmp_path / "s.csv").write_text("class,split\n" + "\n".join(lines) + "\n")
    rng = np.random.RandomState(5)
    table = [f"{name}," + ",".join(map(str, rng.uniform(1, 9, 4).tolist())) for name in reversed(classes)]
    (tmp_path / "a.csv").write_text("class,a,b,c,d\n" + "\n".join(table) + "\n")
    result = run(
        "cache", "annotate", path, "--splits", tmp_path / "s.csv", "--attributes", tmp_path / "a.csv"
    )
    assert result.exit_code == 0, result.output
    assert "its word vectors belonged to other attributes and were removed" in result.stderr
    with FeatureCache(path) as cache:
        a = cache.annotations
        assert a.unseen_classes.tolist() == [0, 3]
        assert a.attribute_names == ("a", "b", "c", "d") and a.attributes.shape == (6, 4)
        assert a.attributes[5, 0] == float(table[0].split(",")[1])
        assert set(cache.provenance["annotations"]) == {"splits", "attributes"}


def test_the_same_annotations_change_nothing(make_cache) -> None:
    path = make_cache()
    before = path.read_bytes()
    assert replace_annotations(path, make_annotations(), {"x": 1}) == []
    assert path.read_bytes() == before


def test_annotations_of_other_images_are_refused(make_cache) -> None:
    path = make_cache()
    a = make_annotations()
    other = replace(a, image_paths=("another.jpg", *a.image_paths[1:]))
    with pytest.raises(CacheError, match="for other images; extract the features again"):
        replace_annotations(path, other, {})


def test_annotations_in_another_order_are_put_into_the_caches(make_cache) -> None:
    path = make_cache()
    a, n = make_annotations(), len(make_annotations().labels)
    other = replace(
        a,
        image_paths=a.image_paths[::-1],
        labels=a.labels[::-1],
        splits={name: np.sort(n - 1 - rows) for name, rows in a.splits.items()},
    )
    assert replace_annotations(path, other, {}) == []
    assert replace_annotations(path, replace(other, attributes=a.attributes + 1), {}) == ["attributes"]
    np.testing.assert_array_equal(read_header(path).annotations.labels, a.labels)


def test_through_a_link_the_cache_itself_is_replaced(make_cache, tmp_path: Path) -> None:
    path, link = make_cache(), tmp_path / "link.h5"
    link.symlink_to(path)
    np.savez(tmp_path / "v.npz", vectors=np.ones((7, 5), np.float32))
    result = run("cache", "annotate", link, "--vectors", tmp_path / "v.npz")
    assert result.exit_code == 0, result.output
    assert link.is_symlink() and not path.is_symlink()
    with FeatureCache(path) as cache:
        assert cache.annotations.attribute_vectors.shape == (7, 5)
    assert sorted(file.name for file in tmp_path.glob("*.h5*")) == ["link.h5"]


def write_class_table(path: Path, names: tuple[str, ...] | None, attributes: np.ndarray) -> Path:
    cells = {} if names is None else {"allclasses_names": np.array([[name] for name in names], object)}
    scipy.io.savemat(path, {"original_att": attributes.T, **cells})
    return path


NUMBERED = tuple(f"class {number}" for number in range(1, 7))
NAMES = tuple(f"class_{number}" for number in range(6))


@pytest.mark.parametrize(
    "before, names, after",
    [(NUMBERED, NAMES, NAMES), (NUMBERED, None, NUMBERED), (NAMES, NAMES, NAMES), (NAMES, None, NAMES)],
)
def test_a_class_table_gives_names_to_numbered_classes(
    make_cache, tmp_path: Path, before: tuple, names: tuple | None, after: tuple
) -> None:
    path = make_cache(annotations=replace(make_annotations(), class_names=before))
    attributes = np.random.RandomState(3).uniform(0, 9, (6, 7))
    table = write_class_table(tmp_path / "att_splits.mat", names, attributes)
    result = run("cache", "annotate", path, "--attributes", table)
    assert result.exit_code == 0, result.output
    with FeatureCache(path) as cache:
        a = cache.annotations
        assert a.class_names == after and a.attribute_names == make_annotations().attribute_names
        np.testing.assert_array_equal(a.attributes, attributes)
        np.testing.assert_array_equal(a.attribute_vectors, make_annotations().attribute_vectors)


def test_a_class_table_of_other_attributes_takes_names_and_vectors_away(make_cache, tmp_path: Path) -> None:
    path = make_cache()
    table = write_class_table(tmp_path / "att_splits.mat", NAMES, np.ones((6, 4)) + np.eye(6, 4))
    assert "add new ones with --vectors" in run("cache", "annotate", path, "--attributes", table).stderr
    with FeatureCache(path) as cache:
        assert cache.annotations.attributes.shape == (6, 4)
        assert cache.annotations.attribute_names == () and cache.annotations.attribute_vectors is None


@pytest.mark.parametrize(
    "names, count, message",
    [
        (NAMES[::-1], 6, "att_splits.mat: its classes are not those of the cache"),
        (NAMES[:5], 5, "att_splits.mat: describes 5 classes, but the cache has 6"),
        (None, 7, "att_splits.mat: describes 7 classes, but the cache has 6"),
    ],
)
def test_a_class_table_of_other_classes_is_refused(
    make_cache, tmp_path: Path, names: tuple | None, count: int, message: str
) -> None:
    table = write_class_table(tmp_path / "att_splits.mat", names, np.ones((count, 7)))
    result = run("cache", "annotate", make_cache(), "--attributes", table)
    assert result.exit_code == 1 and message in result.stderr, result.output


def test_a_crash_leaves_the_old_cache(make_cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_cache()
    before = path.read_bytes()

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(copying, "_copy_in_kernel", stop)
    with pytest.raises(KeyboardInterrupt):
        replace_annotations(path, make_annotations(seed=4), {})
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_without_copy_file_range_the_bytes_are_the_same(make_cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_cache()
    before = feature_bytes(path)
    monkeypatch.delattr(copying.os, "copy_file_range", raising=False)
    assert replace_annotations(path, make_annotations(seed=4), {}) == ["attributes", "attribute vectors"]
    assert feature_bytes(path) == before


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "nothing to replace: give --vectors, --splits, --attributes, or --dataset"),
        (["--dataset", "cub", "--vectors", "x.npz"], 2, "--dataset takes everything from the dataset"),
        (["--vectors", "none.npz"], 1, "none.npz: no such file; 'msdn data vectors' makes one"),
        (["--splits", "none.csv"], 1, "none.csv"),
        (["--attributes", "none.mat"], 1, "none.mat: no such file"),
        (["--dataset", "plumages"], 2, "unknown dataset 'plumages'"),
    ],
)
def test_bad_input_gives_one_sentence(
    make_cache, tmp_path: Path, arguments: list, code: int, message: str
) -> None:
    path = make_cache()
    before = path.read_bytes()
    result = run("cache", "annotate", path, "--home", tmp_path / "home", *arguments)
    assert result.exit_code == code and message in result.stderr, result.output
    assert path.read_bytes() == before
    assert Home(tmp_path / "home").features.is_dir()
