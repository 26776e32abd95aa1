"""Jobs of a series: found where they were done, continued where they stopped, told apart where they differ."""

import dataclasses
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_runs import changed, write_split_cache
from toy_studies import Epochs

from msdn.cache import FeatureCache
from msdn.cache.records import read_sealed, write_sealed
from msdn.machine import DeviceError
from msdn.train.errors import RunError, TrainError
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.settings import RunSettings
from msdn.train.loop.trainer import Trainer
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.models.parts.problem import AttributeGroup
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import VALIDATED, find_runs
from msdn.train.studies import series as series_file
from msdn.train.studies.series import Job, do_job, find_run, job_result, measure_job, what_trains

pytestmark = pytest.mark.usefixtures("one_thread")

LAST = settings_of(epochs=2, batch_size=8, learning_rate=3e-3)
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
    settings = changed(LAST, model="dedn", epochs=1)
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


# --- Trainings that fail

TOO_FAST = dataclasses.replace(LAST, learning_rate=1e30)


@pytest.mark.parametrize("validate_only", [False, True])
def test_a_training_that_fails_is_a_result(
    cache: FeatureCache, tmp_path: Path, epochs: Epochs, validate_only: bool
) -> None:
    settings = dataclasses.replace(TOO_FAST, select="val") if validate_only else TOO_FAST
    job, begun = Job(settings, validate_only=validate_only), []
    results = [measure_job(cache, job, tmp_path, on_start=begun.append) for _ in range(2)]
    (run,) = find_runs(tmp_path)
    assert results[0]["failed"].startswith("epoch 1: the ") and "no longer finite" in results[0]["failed"]
    assert results[0] == results[1] == {"run": str(run.path), "seed": 0, "failed": run.manifest["reason"]}
    assert epochs.count == len(begun) == 1 and run.manifest["status"] == "failed"


def test_what_was_trained_besides_a_failure_counts(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", lambda *_: fail(TrainError("too bad")))
        assert measure_job(cache, Job(LAST), tmp_path)["failed"] == "epoch 1: too bad"
    other = train_model(cache, LAST, tmp_path)
    assert measure_job(cache, Job(LAST), tmp_path)["run"] == str(other.path)


@pytest.mark.parametrize("error", [OSError("disk full"), RunError("damaged"), TrainError("too fast")])
def test_a_failure_outside_of_a_series_is_tried_again(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", lambda *_: fail(error))
        with pytest.raises(type(error)):
            train_model(cache, LAST, tmp_path)
    result = measure_job(cache, Job(LAST), tmp_path)
    (run,) = find_runs(tmp_path)
    assert result["run"] == str(run.path) and run.finished and "failed" not in result


def test_a_full_disk_stops_a_series_and_is_tried_again(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", lambda *_: fail(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            measure_job(cache, Job(LAST), tmp_path)
    assert "failed" not in measure_job(cache, Job(LAST), tmp_path)


def test_what_never_begins_is_an_error_with_its_name(cache: FeatureCache, tmp_path: Path) -> None:
    job = Job(dataclasses.replace(LAST, seed=3), label="lambda_cal 0.1")
    with pytest.raises(DeviceError, match=r"^lambda_cal 0\.1, seed 3: .*cuda:77") as caught:
        measure_job(cache, job, tmp_path, device="cuda:77")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # as it comes from a process


def test_a_choice_that_was_made_outlives_a_failure(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(VAL, validate_only=True)
    chosen = measure_job(cache, job, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", lambda *_: fail(TrainError("too fast")))
        assert "too fast" in measure_job(cache, Job(VAL), tmp_path)["failed"]
    assert measure_job(cache, job, tmp_path) == chosen


def fail(error: Exception) -> None:
    raise error


def test_another_device_is_announced(
    cache: FeatureCache, tmp_path: Path, epochs: Epochs, caplog: pytest.LogCaptureFixture
) -> None:
    epochs.stop_before = 2
    with pytest.raises(KeyboardInterrupt):
        do_job(cache, Job(LAST), tmp_path, device="cpu")
    epochs.stop_before = None
    (run,) = find_runs(tmp_path)
    run.update(device="cuda:1")
    with caplog.at_level(logging.WARNING):
        do_job(cache, Job(LAST), tmp_path, device="cpu")
    expected = f"{run.path}: trained on cuda:1 so far: on cpu the weights will differ slightly"
    assert expected in caplog.messages


def test_the_same_device_is_not_announced(
    cache: FeatureCache, tmp_path: Path, epochs: Epochs, caplog: pytest.LogCaptureFixture
) -> None:
    epochs.stop_before = 2
    with pytest.raises(KeyboardInterrupt):
        do_job(cache, Job(LAST), tmp_path, device="cpu")
    epochs.stop_before = None
    with caplog.at_level(logging.WARNING):
        assert do_job(cache, Job(LAST), tmp_path, device="cpu").finished
    assert not caplog.messages


# --- Results that are kept


@pytest.mark.parametrize("settings", [LAST, VAL])
def test_a_result_that_is_kept_is_not_measured_again(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: RunSettings
) -> None:
    measured = measure_job(cache, Job(settings), tmp_path)
    monkeypatch.setattr(series_file, "evaluate_run", lambda *_, **__: pytest.fail("measured again"))
    kept = measure_job(cache, Job(settings), tmp_path)
    assert kept == json.loads(json.dumps(measured))  # whatever the order


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "f" * 32},
        {"H": 101},
        {"parameters": -1},
        {"training_seconds": None},
        {"H_no_margin": "x"},
    ],
)
def test_a_result_that_is_not_whole_is_measured_again(
    cache: FeatureCache, tmp_path: Path, change: dict[str, Any]
) -> None:
    measured = measure_job(cache, Job(LAST), tmp_path)
    (run,) = find_runs(tmp_path)
    write_sealed(run.results, {**measured, **change})
    assert measure_job(cache, Job(LAST), tmp_path) == measured
    assert read_sealed(run.results) == json.loads(json.dumps(measured))


def test_facts_are_those_of_the_run_and_not_of_a_file(cache: FeatureCache, tmp_path: Path) -> None:
    measured = measure_job(cache, Job(LAST), tmp_path)
    (run,) = find_runs(tmp_path)
    lies = {"selection": "by dice", "run": "elsewhere", "seed": 9, "watch_test": True, "weights": "imagenet"}
    write_sealed(run.results, {**measured, **lies})
    assert {name: measure_job(cache, Job(LAST), tmp_path)[name] for name in lies} == {
        name: measured[name] for name in lies
    }


def test_a_result_says_that_test_figures_were_watched(cache: FeatureCache, tmp_path: Path) -> None:
    train_model(cache, LAST, tmp_path, watch_test=True)
    assert measure_job(cache, Job(LAST), tmp_path)["watch_test"] is True
