"""Every test image's answer, as `msdn evaluate --predictions` writes it, and how far confidences can be trusted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from scipy.special import softmax
from toy_report import NAMES, make_report_home, train

from msdn.cache import FeatureCache, Home
from msdn.terminal import escape
from msdn.train.measure.predictions import coverage_curve, reliability

pytestmark = pytest.mark.usefixtures("one_thread")
Made = tuple[Home, FeatureCache]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    home, cache = make_report_home(tmp_path_factory.mktemp("made"), images=False)
    train(home, cache)
    train(home, cache, "baseline", select="last")
    return home, cache


@pytest.fixture
def msdn(made: Made, run_msdn: Callable[..., Result]) -> Callable[..., Result]:
    return lambda *words: run_msdn("evaluate", "--dataset", "toy", *words, other=made[0].root)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mean_of_classes(lines: list[dict[str, str]], answer: str) -> float:
    """Percent: one class at a time."""
    classes = {line["class"] for line in lines}
    shares = []
    for name in classes:
        own = [line[answer] == name for line in lines if line["class"] == name]
        shares.append(sum(own) / len(own))
    return 100 * sum(shares) / len(shares)


@pytest.mark.parametrize("model", ["msdn", "baseline"])
@pytest.mark.parametrize("margin", [None, "0.3"])
def test_the_answers_make_the_figures(
    made: Made, msdn: Callable[..., Result], tmp_path: Path, model: str, margin: str | None
) -> None:
    path = tmp_path / "p.csv"
    words = ["--margin", margin] if margin else []
    done = msdn("--model", model, "--json", "--predictions", path, *words)
    assert done.exit_code == 0, done.output
    figures, lines = json.loads(done.stdout), read(path)
    unseen = [line for line in lines if line["kind"] == "unseen"]
    seen = [line for line in lines if line["kind"] == "seen"]
    assert figures["U"] == pytest.approx(mean_of_classes(unseen, "predicted"))
    assert figures["S"] == pytest.approx(mean_of_classes(seen, "predicted"))
    assert figures["acc"] == pytest.approx(mean_of_classes(unseen, "predicted_among_unseen"))
    annotations = made[1].annotations
    rows = np.sort(np.concatenate([made[1].rows("test_seen"), made[1].rows("test_unseen")]))
    assert [line["image"] for line in lines] == [annotations.image_paths[row] for row in rows]
    names = [escape(name) for name in annotations.class_names]
    assert [line["class"] for line in lines] == [names[annotations.labels[row]] for row in rows]
    unseen_names = {names[c] for c in annotations.unseen_classes}
    assert all((line["predicted"] in unseen_names) == (line["predicted_kind"] == "unseen") for line in lines)
    assert all(line["predicted_among_unseen"] == "" for line in seen)
    assert {NAMES[8], NAMES[9]} <= {line["class"] for line in unseen}
    confident = [line["confidence"] for line in lines]
    assert all(0 < float(one) <= 1 for one in confident) if model == "msdn" else set(confident) == {""}


def test_confidence_and_score_are_those_of_predict(
    made: Made, msdn: Callable[..., Result], run_msdn: Callable[..., Result], tmp_path: Path
) -> None:
    assert msdn("--model", "msdn", "--predictions", tmp_path / "p.csv").exit_code == 0
    words = ["--model", "msdn", "--cache", made[1].path, "--rows", "test_unseen", "--top", "100", "--json"]
    told = run_msdn("predict", *words, other=made[0].root)
    by_image = {one["image"]: one for one in json.loads(told.stdout)}
    lines = [line for line in read(tmp_path / "p.csv") if line["kind"] == "unseen"]
    assert len(lines) == len(by_image)
    manifest = next(one for one in made[0].runs.glob("*/manifest.json") if "-msdn-" in str(one))
    temperature = json.loads(manifest.read_text())["chosen"]["val_temperature"]
    for line in lines:
        scores = np.array([answer["score"] for answer in by_image[line["image"]]["classes"]])
        assert float(line["score"]) == pytest.approx(scores[0], abs=1e-4)
        assert float(line["confidence"]) == pytest.approx(softmax(scores / temperature)[0], abs=1e-4)


@pytest.mark.parametrize("option", ["--predictions", "--out"])
def test_nothing_is_overwritten(msdn: Callable[..., Result], tmp_path: Path, option: str) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    done = msdn(option, tmp_path / "mine.csv")
    assert done.exit_code == 1
    assert "mine.csv: exists already" in done.stderr and f"another {option}" in done.stderr
    assert (tmp_path / "mine.csv").read_text() == "mine"


@pytest.mark.parametrize("option", ["--predictions", "--out"])
def test_a_missing_folder_is_named_before_anything_is_measured(
    msdn: Callable[..., Result], tmp_path: Path, option: str
) -> None:
    done = msdn(option, tmp_path / "none" / "mine.csv")
    assert done.exit_code == 1
    assert f"there is no folder {tmp_path / 'none'}" in done.stderr and f"another {option}" in done.stderr


def test_reliability_follows_a_loop() -> None:
    rng = np.random.RandomState(0)
    confidence = np.append(rng.uniform(0, 1, 400), [0.0, 0.1, 1.0])
    right = rng.uniform(0, 1, 403) < confidence**2
    found, error = reliability(confidence, right), 0.0
    for part in found.bins:
        low, high, last = part["from"], part["to"], part["to"] == 1
        chosen = [
            (c, r) for c, r in zip(confidence, right, strict=True) if low <= c < high or (last and c == 1)
        ]
        assert part["images"] == len(chosen)
        assert part["confidence"] == pytest.approx(sum(c for c, _ in chosen) / len(chosen))
        assert part["right"] == pytest.approx(sum(r for _, r in chosen) / len(chosen))
        error += len(chosen) / 403 * abs(part["confidence"] - part["right"])
    assert sum(part["images"] for part in found.bins) == 403
    assert found.error == pytest.approx(error)


def test_coverage_follows_a_loop_and_keeps_equals_together() -> None:
    rng = np.random.RandomState(1)
    confidence = np.round(rng.uniform(0, 1, 60), 1)
    right = rng.uniform(0, 1, 60) < 0.6
    coverage, share = coverage_curve(confidence, right)
    levels = sorted(set(confidence), reverse=True)
    for level, covered, accuracy in zip(levels, coverage, share, strict=True):
        answered = confidence >= level
        assert covered == pytest.approx(answered.mean())
        assert accuracy == pytest.approx(right[answered].mean())
    shuffled = rng.permutation(60)
    again = coverage_curve(confidence[shuffled], right[shuffled])
    assert np.array_equal(again[0], coverage) and np.allclose(again[1], share)
