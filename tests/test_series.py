"""Jobs of a series: found where they were done, continued where they stopped, told apart where they differ."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_runs import write_split_cache
from toy_studies import Epochs

from msdn.cache import FeatureCache
from msdn.train.evaluate import evaluate_run
from msdn.train.groups.groups import AttributeGroups
from msdn.train.problem import AttributeGroup
from msdn.train.runner import train_model
from msdn.train.runs import VALIDATED, find_runs
from msdn.train.series import Job, do_job, find_run, job_result, what_trains
from msdn.train.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

LAST = TrainSettings(epochs=2, batch_size=8, learning_rate=3e-3)
VAL = dataclasses.replace(LAST, select="val")
FIGURES = ("acc", "U", "S", "H", "AUSUC")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    """A small open cache."""
    with FeatureCache(write_split_cache(tmp_path / "toy.h5")) as opened:
        yield opened


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> Epochs:
    """Counts what is trained."""
    return Epochs(monkeypatch)


def test_a_job_done_before_is_not_trained_again(cache: FeatureCache, tmp_path: Path, epochs: Epochs) -> None:
    first = do_job(cache, Job(LAST), tmp_path)
    assert epochs.count == 2
    assert do_job(cache, Job(LAST), tmp_path).path == first.path
    assert epochs.count == 2


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"epochs": 1}, {"model": "baseline"}, {"select": "test"}, {"branches": "av"}]
)
def test_other_settings_are_another_training(
    cache: FeatureCache, tmp_path: Path, change: dict[str, Any]
) -> None:
    run = train_model(cache, LAST, tmp_path)
    assert find_run([run], Job(LAST), cache) is run
    assert find_run([run], Job(dataclasses.replace(LAST, **change)), cache) is None


def test_other_features_are_another_training(cache: FeatureCache, tmp_path: Path) -> None:
    run = train_model(cache, LAST, tmp_path)
    with FeatureCache(write_split_cache(tmp_path / "other.h5", test_features=1.0)) as other:
        assert find_run([run], Job(LAST), other) is None


def test_other_groups_are_another_training(cache: FeatureCache, tmp_path: Path) -> None:
    settings = dataclasses.replace(LAST, model="dedn", epochs=1)
    count = cache.annotations.attributes.shape[1]
    halves = (np.arange(2), np.arange(2, count))
    ours = AttributeGroups("a test", tuple(AttributeGroup(f"{len(half)}", half) for half in halves))
    run = do_job(cache, Job(settings, groups=ours), tmp_path)
    assert find_run([run], Job(settings, groups=ours), cache) is run
    assert find_run([run], Job(settings), cache) is None


def test_what_only_predicts_shares_a_training(cache: FeatureCache, tmp_path: Path, epochs: Epochs) -> None:
    other = dataclasses.replace(LAST, alpha=(0.0, 1.0))
    assert what_trains(other) == what_trains(LAST)
    run = do_job(cache, Job(LAST), tmp_path)
    assert do_job(cache, Job(other), tmp_path).path == run.path and epochs.count == 2
    results = [job_result(cache, Job(settings), run) for settings in (LAST, other)]
    apart = evaluate_run(train_model(cache, other, tmp_path / "apart"), cache)
    assert {name: results[1][name] for name in FIGURES} == {name: apart[name] for name in FIGURES}
    assert results[0]["settings"]["alpha"] == [0.9, 0.1] and results[1]["settings"]["alpha"] == [0.0, 1.0]


@pytest.mark.parametrize("select", ["val", "test"])
def test_a_choice_by_figures_shares_nothing(select: str) -> None:
    settings = dataclasses.replace(LAST, select=select)
    assert what_trains(settings) != what_trains(dataclasses.replace(settings, alpha=(0.0, 1.0)))


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_job_is_continued(
    cache: FeatureCache, tmp_path: Path, epochs: Epochs, stop: int
) -> None:
    epochs.stop_before = stop
    with pytest.raises(KeyboardInterrupt):
        do_job(cache, Job(LAST), tmp_path)
    epochs.stop_before = None
    run = do_job(cache, Job(LAST), tmp_path)
    assert run.finished and epochs.count == 2
    assert [one.path for one in find_runs(tmp_path)] == [run.path]


def test_validate_only_stops_at_the_choice(cache: FeatureCache, tmp_path: Path, epochs: Epochs) -> None:
    job = Job(VAL, validate_only=True)
    run = do_job(cache, job, tmp_path)
    assert run.manifest["status"] == VALIDATED and epochs.count == 2
    result = job_result(cache, job, run)
    assert result["H"] == run.chosen["val_H"] and result["epochs"] == run.chosen["epochs"]
    assert do_job(cache, job, tmp_path).path == run.path and epochs.count == 2


def test_a_validated_job_can_be_finished_later(cache: FeatureCache, tmp_path: Path, epochs: Epochs) -> None:
    validated = do_job(cache, Job(VAL, validate_only=True), tmp_path)
    run = do_job(cache, Job(VAL), tmp_path)
    assert run.path == validated.path and run.finished
    assert epochs.count == 2 + run.chosen["epochs"]


def test_the_result_stays_with_the_run(cache: FeatureCache, tmp_path: Path) -> None:
    run = do_job(cache, Job(LAST), tmp_path)
    job_result(cache, Job(LAST), run)
    kept = run.results.read_text()
    job_result(cache, Job(dataclasses.replace(LAST, alpha=(0.0, 1.0))), run)
    assert run.results.read_text() == kept
    assert f'"run": "{run.path}"' in kept
