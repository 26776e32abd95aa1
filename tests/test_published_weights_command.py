"""`msdn evaluate --checkpoint` as a user types it."""

import dataclasses
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_cache import make_annotations
from toy_published_weights import random_model, released_state, save, with_backbone

from msdn.cache import FeatureCache
from msdn.cli import main
from msdn.train.measure.evaluate import evaluate_published

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def cache(make_cache: Callable[..., Path]) -> FeatureCache:
    """A small open cache without word vectors."""
    annotations = dataclasses.replace(make_annotations(), attribute_vectors=None)
    return FeatureCache(make_cache(annotations=annotations))


@pytest.fixture
def checkpoint(cache: FeatureCache, tmp_path: Path) -> Path:
    """A published checkpoint of that cache, with two tensors of a backbone."""
    return save(tmp_path / "TOY_MSDN.pth", with_backbone(released_state(random_model(cache))))


def msdn(cache: FeatureCache, *arguments: str | Path) -> Result:
    home = cache.path.parents[1]
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--home", str(home)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_evaluate_shows_the_checkpoint(cache: FeatureCache, checkpoint: Path) -> None:
    result = msdn(cache, "--checkpoint", checkpoint, "--model", "msdn", "--cache", cache.path)
    assert result.exit_code == 0, result.output
    assert all(f"│ {name} " in result.stdout for name in ("U", "S", "H", "acc"))
    for line in (
        f"checkpoint: {checkpoint}",
        f"sha256: {sha256(checkpoint.read_bytes()).hexdigest()}",
        f"cache: {cache.path}",
        "weights of the backbone: those of the cache (2 tensors of one in the checkpoint left out)",
        "alpha: 0.9 0.1",
        "margin: 1",
        "selection: unknown (published checkpoints were chosen on the test set)",
        "backbone: random weights – figures say nothing about published results",
    ):
        assert line in result.stdout.splitlines()


@pytest.mark.parametrize("features", ["cache", "dataset", "folder", "both"])
def test_evaluate_gives_a_checkpoints_figures_as_json(
    cache: FeatureCache, checkpoint: Path, tmp_path: Path, features: str
) -> None:
    named: dict[str, list[str | Path]] = {
        "cache": ["--cache", cache.path],
        "dataset": ["--dataset", "toy"],
        "folder": ["--dataset", tmp_path / "toy"],
        "both": ["--dataset", "toy", "--cache", cache.path],
    }
    result = msdn(
        cache, "--checkpoint", checkpoint, *named[features], "--gzsl", "--alpha", "1", "0", "--json"
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    whole = evaluate_published(checkpoint, cache, predict_with={"alpha": (1.0, 0.0)})
    assert figures == {name: value for name, value in whole.items() if name in figures}
    assert set(whole) - set(figures) == {"acc", "class_names", "per_class", "confusion"}
    assert {"U", "S", "H", "chance", "checkpoint", "sha256", "selection"} <= set(figures)
    assert figures["ignored_backbone_tensors"] == 2 and "acc" not in figures


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--checkpoint", "FILE", "--dataset", "toy", "--run", "x"],
            2,
            "--checkpoint and --run name two models",
        ),
        (["--checkpoint", "FILE", "--dataset", "toy", "--model", "baseline"], 2, "'baseline'"),
        (["--checkpoint", "FILE"], 2, "Give their file with --cache, or --dataset NAME"),
        (["--checkpoint", "FILE", "--dataset", "tyo"], 1, "no cache of 'tyo'"),
        (
            ["--checkpoint", "FILE", "--dataset", "cub", "--cache", "CACHE"],
            1,
            "features of 'toy', not of 'cub'",
        ),
        (
            ["--checkpoint", "FILE", "--dataset", "toy", "--alpha", "1", "-1"],
            2,
            "--alpha is -1.0, expected 0",
        ),
        (["--checkpoint", "FILE", "--dataset", "toy", "--alpha", "nan", "1"], 2, "expected a finite number"),
        (["--alpha", "1", "0"], 2, "--alpha goes with --checkpoint"),
        (["--checkpoint", "nowhere.pth", "--dataset", "toy"], 1, "nowhere.pth"),
        (["--checkpoint", "CACHE", "--dataset", "toy"], 1, "not a readable file of weights"),
        (["--checkpoint", "HOME", "--dataset", "toy"], 1, "home"),
    ],
)
def test_bad_input_gets_one_sentence(
    cache: FeatureCache, checkpoint: Path, arguments: list[str], code: int, message: str
) -> None:
    places = {"FILE": checkpoint, "CACHE": cache.path, "HOME": cache.path.parents[1]}
    result = msdn(cache, *(places.get(word, word) for word in arguments))
    assert result.exit_code == code, result.output
    assert message in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
