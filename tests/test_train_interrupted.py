"""A training that chooses, interrupted anywhere and continued, ends as if it had never stopped."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_runs import assert_same_bits, assert_same_run, changed, final_state, read_records, write_split_cache

from msdn.cache import FeatureCache
from msdn.train.loop import training
from msdn.train.loop.settings import RunSettings
from msdn.train.loop.trainer import Trainer
from msdn.train.loop.training import continue_run, train_model
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import VALIDATED, Run

pytestmark = pytest.mark.usefixtures("one_thread")

BY_VAL = settings_of(epochs=3, batch_size=16, learning_rate=3e-3, select="val")
BY_TEST = dataclasses.replace(BY_VAL, select="test", paper_style=True)
MODELS: dict[str, dict[str, Any]] = {
    "msdn": {},
    "msdn++ random": {"model": "msdn++", "counterfactual": "random"},
    "msdn++ shuffle": {"model": "msdn++", "counterfactual": "shuffle"},
    "dedn": {"model": "dedn"},
    "dazle": {"model": "dazle"},
    "baseline": {"model": "baseline"},
}
PLACES: dict[str, tuple[Any, str]] = {
    "epoch": (Trainer, "train_epoch"),
    "step": (Trainer, "_step"),
    "record": (Run, "append_metrics"),
    "checkpoint": (training._Training, "_save"),
    "choice": (training, "choose_on_validation"),
}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    """A small open cache."""
    with FeatureCache(write_split_cache(tmp_path / "toy.h5")) as opened:
        yield opened


def interrupt(patch: pytest.MonkeyPatch, place: str, number: int) -> None:
    """Interrupt once, just before a place is passed for the n-th time."""
    owner, name = PLACES[place]
    original, passed = getattr(owner, name), iter(range(1, 1000))

    def stop(*given: Any) -> Any:
        if next(passed) == number:
            raise KeyboardInterrupt
        return original(*given)

    patch.setattr(owner, name, stop)


def interrupted(cache: FeatureCache, runs: Path, settings: RunSettings, place: str, number: int) -> Run:
    started: list[Run] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, place, number)
        train_model(cache, settings, runs, on_start=started.append)
    run = Run(started[0].path)
    assert run.manifest["status"] == "interrupted"
    return run


def figures(run: Run, cache: FeatureCache) -> dict[str, Any]:
    """All that an evaluation gives, but for where the run is and how long it took."""
    result = evaluate_run(run, cache)
    varying = ("run", "training_seconds", "checkpoint_digest")  # a checkpoint holds the seconds of each epoch
    return {name: value for name, value in result.items() if name not in varying}


@pytest.mark.parametrize("settings", [BY_VAL, BY_TEST], ids=["val", "test"])
@pytest.mark.parametrize("model", MODELS)
def test_interrupted_in_every_epoch(
    cache: FeatureCache, tmp_path: Path, model: str, settings: RunSettings
) -> None:
    settings = changed(settings, **MODELS[model])
    whole = train_model(cache, settings, tmp_path)
    run = interrupted(cache, tmp_path, settings, "epoch", 1)
    for done in range(1, len(read_records(whole))):  # one epoch more each time
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt(patch, "epoch", 2)
            continue_run(run, cache)
        assert len(read_records(run)) == done
    continued = continue_run(run, cache)
    assert_same_run(whole, continued)
    assert figures(whole, cache) == figures(continued, cache)


@pytest.mark.parametrize("settings", [BY_VAL, BY_TEST], ids=["val", "test"])
@pytest.mark.parametrize("place", ["epoch", "record", "checkpoint"])
def test_interrupted_once_at_any_place_of_any_epoch(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, settings: RunSettings
) -> None:
    monkeypatch.setattr(training._SavingTimes, "due", lambda self: True)
    settings = changed(settings, epochs=2, **MODELS["msdn++ random"])
    whole = train_model(cache, settings, tmp_path)
    for number in range(1, len(read_records(whole)) + 1):
        broken = interrupted(cache, tmp_path, settings, place, number)
        assert_same_run(whole, continue_run(broken, cache))


def test_interrupted_between_the_stages(cache: FeatureCache, tmp_path: Path) -> None:
    whole = train_model(cache, BY_VAL, tmp_path)
    broken = interrupted(cache, tmp_path, BY_VAL, "choice", 1)
    assert broken.chosen is None and len(read_records(broken)) == BY_VAL.epochs
    assert_same_run(whole, continue_run(broken, cache))


def test_interrupted_in_a_step(cache: FeatureCache, tmp_path: Path) -> None:
    settings = changed(BY_VAL, epochs=2, model="msdn++")
    whole = train_model(cache, settings, tmp_path)
    assert whole.chosen
    steps = 2 * (20 // 16) + whole.chosen["epochs"] * (48 // 16)
    for number in (1, 2, 4, steps):
        broken = interrupted(cache, tmp_path, settings, "step", number)
        assert_same_run(whole, continue_run(broken, cache))


@pytest.mark.parametrize("settings", [BY_VAL, BY_TEST], ids=["val", "test"])
def test_interrupted_where_only_a_stages_end_was_saved(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: RunSettings
) -> None:
    settings = dataclasses.replace(settings, epochs=2)
    whole = train_model(cache, settings, tmp_path)
    monkeypatch.setattr(training._SavingTimes, "due", lambda self: False)
    for number in range(1, len(read_records(whole)) + 1):
        broken = interrupted(cache, tmp_path, settings, "epoch", number)
        assert broken.checkpoint.exists() == (settings.select == "val" and number > settings.epochs)
        assert_same_run(whole, continue_run(broken, cache))


@pytest.mark.parametrize("model", MODELS)
def test_validated_first_and_trained_later(cache: FeatureCache, tmp_path: Path, model: str) -> None:
    settings = changed(BY_VAL, **MODELS[model])
    whole = train_model(cache, settings, tmp_path)
    validated = train_model(cache, settings, tmp_path, validate_only=True)
    assert validated.manifest["status"] == VALIDATED and not validated.finished and not validated.waiting
    assert validated.chosen == whole.chosen
    assert [record.get("phase") for record in read_records(validated)] == ["validation"] * 3
    again = continue_run(validated, cache, validate_only=True)
    assert read_records(again) == read_records(validated)
    finished = continue_run(again, cache)
    assert_same_run(whole, finished)
    assert figures(whole, cache) == figures(finished, cache)


def test_interrupted_while_it_only_validates(cache: FeatureCache, tmp_path: Path) -> None:
    whole = train_model(cache, BY_VAL, tmp_path, validate_only=True)
    for number in (1, 3):
        broken = interrupted(cache, tmp_path, BY_VAL, "epoch", number)
        continued = continue_run(broken, cache, validate_only=True)
        assert_same_bits(final_state(whole), final_state(continued))
        assert (continued.manifest["status"], continued.chosen) == (VALIDATED, whole.chosen)


def test_a_continued_run_keeps_no_trace_of_how_it_stopped(cache: FeatureCache, tmp_path: Path) -> None:
    whole = train_model(cache, BY_VAL, tmp_path)
    started: list[Run] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(training, "save_checkpoint", _disk_full)
        train_model(cache, BY_VAL, tmp_path, on_start=started.append)
    assert Run(started[0].path).manifest["reason"] == "disk full"
    continued = continue_run(started[0], cache)
    assert_same_run(whole, continued)
    assert continued.manifest.keys() == whole.manifest.keys()


def _disk_full(*given: Any) -> None:
    raise OSError("disk full")
