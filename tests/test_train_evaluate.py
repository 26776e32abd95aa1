"""Test figures of a run against a loop, and the refusals."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_cache import make_annotations

from msdn.cache import FeatureCache, Home
from msdn.train.errors import RunError
from msdn.train.loop.training import train_model
from msdn.train.measure import scoring
from msdn.train.measure.evaluate import evaluate_run, load_model
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run, open_run_cache

SETTINGS = settings_of(epochs=5, batch_size=8, learning_rate=1e-3)


@pytest.fixture
def cache(make_cache: Callable[..., Path]) -> FeatureCache:
    """A small open cache."""
    return FeatureCache(make_cache(n_classes=9, per_class=6))


@pytest.fixture
def run(cache: FeatureCache) -> Run:
    """A finished run on that cache."""
    return train_model(cache, SETTINGS, cache.path.parents[1] / "runs")


def naive_accuracy(run: Run, cache: FeatureCache, split: str, among: np.ndarray, margin: float) -> float:
    """Percent: one image at a time, one class at a time."""
    model, annotations = load_model(run, problem_of(cache)).eval(), cache.annotations
    hits: dict[int, list[bool]] = {}
    for row in cache.rows(split):
        regions = model.prepare(torch.from_numpy(cache.read_rows(np.array([row]))), torch.float32)
        with torch.no_grad():
            scores = model.class_scores(model(regions))[0].tolist()
        shifted = {c: scores[c] + (-margin if c in annotations.seen_classes else margin) for c in among}
        label = int(annotations.labels[row])
        hits.setdefault(label, []).append(max(shifted, key=lambda c: shifted[c]) == label)
    return 100 * sum(sum(h) / len(h) for h in hits.values()) / len(hits)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
def test_figures_follow_a_loop(
    run: Run, cache: FeatureCache, margin: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_BATCH", 5)
    figures = evaluate_run(run, cache, margin=margin)
    used = 1.0 if margin is None else margin
    everything = np.arange(9)
    u, s = (naive_accuracy(run, cache, split, everything, used) for split in ("test_unseen", "test_seen"))
    acc = naive_accuracy(run, cache, "test_unseen", cache.annotations.unseen_classes, used)
    assert (figures["U"], figures["S"], figures["acc"]) == pytest.approx((u, s, acc))
    assert figures["H"] == pytest.approx(2 * u * s / (u + s) if u + s else 0)
    assert figures["margin"] == used


def test_figures_come_with_chance_levels_and_facts(run: Run, cache: FeatureCache) -> None:
    result = evaluate_run(run, cache)
    assert result["chance"] == pytest.approx({"U": 100 / 9, "S": 100 / 9, "H": 100 / 9, "acc": 100 / 3})
    assert (result["dataset"], result["model"], result["weights"]) == ("toy", "msdn", "random")
    assert result["parameters"] == 7 * 8 + 4 * 8 * 16 and result["training_seconds"] >= 0
    assert evaluate_run(run, cache, margin=0.0)["H"] == result["H_no_margin"]
    assert result["H_published"] == result["H"] and result["H_val_margin"] is None


def test_per_class_accuracies_and_confusions_follow_the_figures(run: Run, cache: FeatureCache) -> None:
    result = evaluate_run(run, cache)
    names, annotations = result["class_names"], cache.annotations
    for task, figures in (("gzsl", ("U", "S")), ("czsl", ("acc",))):
        per_class, images = result["per_class"][task], {name: [0, 0] for name in names}
        for true, predicted, count in result["confusion"][task]:
            images[names[true]][0] += count
            images[names[true]][1] += count * (true == predicted)
        shown = {name: 100 * right / seen for name, (seen, right) in images.items() if seen}
        assert per_class == pytest.approx(shown, abs=1e-3)
        for figure, classes in zip(
            figures, (annotations.unseen_classes, annotations.seen_classes), strict=False
        ):
            of_side = [per_class[names[c]] for c in classes if names[c] in per_class]
            assert result[figure] == pytest.approx(sum(of_side) / len(of_side), abs=1e-3)


def test_without_seen_test_images_s_and_h_are_unknown(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    annotations = make_annotations()
    splits = {**annotations.splits, "test_seen": np.array([], np.int64)}
    with FeatureCache(make_cache(annotations=dataclasses.replace(annotations, splits=splits))) as cache:
        figures = evaluate_run(train_model(cache, SETTINGS, tmp_path), cache)
    assert figures["U"] is not None
    assert figures["S"] is None and figures["H"] is None


def test_other_features_are_refused(run: Run, tmp_path: Path, make_cache: Callable[..., Path]) -> None:
    other = FeatureCache(make_cache(tmp_path / "other.h5", n_classes=9, per_class=6, seed=1))
    with other, pytest.raises(RunError, match=r"other\.h5: not the features that .* was trained on"):
        evaluate_run(run, other)


def test_an_unfinished_run_is_refused(run: Run, cache: FeatureCache) -> None:
    run.update(status="interrupted")
    with pytest.raises(RunError, match=r"not finished \(interrupted\); finish it with: msdn train --resume"):
        evaluate_run(run, cache)


def test_a_checkpoint_that_does_not_fit_is_named(run: Run, cache: FeatureCache) -> None:
    run.checkpoint.unlink()
    with pytest.raises(RunError, match="there is no checkpoint"):
        evaluate_run(run, cache)


def test_the_cache_is_found_again_after_it_was_renamed(run: Run, cache: FeatureCache) -> None:
    home = Home(cache.path.parents[1])
    cache.path.rename(cache.path.with_name("toy-448-random.h5"))
    with open_run_cache(home, run) as found:
        assert found.fingerprint == cache.fingerprint
    found.path.unlink()
    with pytest.raises(RunError, match=r"are neither at .* nor in .*features; give their file with --cache"):
        open_run_cache(home, run)
