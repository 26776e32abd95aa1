"""`msdn cache annotate`: other annotations, the same features, another fingerprint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from toy_cache import make_annotations

import msdn.cache.annotate as module
from msdn.cache import FeatureCache, Home
from msdn.cache.annotate import replace_annotations
from msdn.cache.errors import CacheError
from msdn.cache.header import read_header
from msdn.cache.verify import find_damaged_rows
from msdn.cli import main
from msdn.train.errors import RunError
from msdn.train.evaluate import evaluate_run
from msdn.train.runner import train_model
from msdn.train.settings import TrainSettings


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
        trained = train_model(cache, TrainSettings(epochs=1, batch_size=4), tmp_path / "runs")
    np.savez(tmp_path / "v.npz", vectors=np.ones((7, 5), np.float32))
    result = run("cache", "annotate", path, "--vectors", tmp_path / "v.npz")
    assert result.exit_code == 0, result.output
    assert "replaced attribute vectors" in result.stdout
    assert feature_bytes(path) == before
    with FeatureCache(path) as cache:
        assert cache.fingerprint != old
        assert cache.annotations.attribute_vectors.shape == (7, 5)
        assert cache.provenance["annotations"]["vectors"]["file"] == "v.npz"
        assert cache.mask_reasons == {3: "missing"} and find_damaged_rows(cache) == []
        with pytest.raises(RunError, match=r"not the features that .* was trained on"):
            evaluate_run(trained, cache)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


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
    assert "its word vectors belonged to other attributes and are gone" in result.stderr
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
    other = replace(a, image_paths=tuple(reversed(a.image_paths)))
    with pytest.raises(CacheError, match="of other images, or in another order; they take a new extraction"):
        replace_annotations(path, other, {})


def test_a_crash_leaves_the_old_cache(make_cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_cache()
    before = path.read_bytes()

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_copy_some", stop)
    with pytest.raises(KeyboardInterrupt):
        replace_annotations(path, make_annotations(seed=4), {})
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_without_copy_file_range_the_bytes_are_the_same(make_cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_cache()
    before = feature_bytes(path)
    monkeypatch.delattr(module.os, "copy_file_range", raising=False)
    assert replace_annotations(path, make_annotations(seed=4), {}) == ["attributes", "attribute vectors"]
    assert feature_bytes(path) == before


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "what to replace? Give --vectors, --splits, --attributes, or --dataset"),
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
