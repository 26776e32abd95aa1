"""Training: continued exactly wherever it stopped, reproducible, and clear about what stops it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_cache import make_annotations
from toy_runs import assert_same_run, changed, final_state, read_records, write_split_cache

from msdn.cache import FeatureCache
from msdn.cache.files import LockError
from msdn.train.errors import RunError, TrainError
from msdn.train.loop import training
from msdn.train.loop.checkpoints import load_checkpoint
from msdn.train.loop.settings import RunSettings
from msdn.train.loop.training import continue_run, train_model
from msdn.train.measure import evaluate
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.models.registry import settings_of
from msdn.train.runs import run as run_module
from msdn.train.runs.run import Run

SETTINGS = settings_of(epochs=6, batch_size=4, learning_rate=1e-3)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def cache(make_cache: Callable[..., Path]) -> FeatureCache:
    """A small open cache."""
    return FeatureCache(make_cache())


def stop_after(epoch: int) -> Callable[[dict[str, Any]], None]:
    def on_epoch(record: dict[str, Any]) -> None:
        if record["epoch"] == epoch:
            raise KeyboardInterrupt

    return on_epoch


def interrupted_run(cache: FeatureCache, runs: Path, settings: RunSettings, epoch: int) -> Run:
    started: list[Run] = []
    with pytest.raises(KeyboardInterrupt):
        train_model(cache, settings, runs, on_start=started.append, on_epoch=stop_after(epoch))
    return Run(started[0].path)


@pytest.mark.parametrize("model", ["msdn", "baseline"])
def test_loss_falls(cache: FeatureCache, tmp_path: Path, model: str) -> None:
    settings = changed(SETTINGS, model=model, epochs=30, learning_rate=3e-3, lambda_cal=0.0)
    losses = [record["loss"] for record in read_records(train_model(cache, settings, tmp_path))]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("form", ["va_form", "cross_entropy", "calibration", "distillation"])
def test_each_of_the_papers_forms_changes_training(cache: FeatureCache, tmp_path: Path, form: str) -> None:
    short = dataclasses.replace(SETTINGS, epochs=2)
    released = train_model(cache, short, tmp_path)
    paper = train_model(cache, dataclasses.replace(short, **{form: "paper"}), tmp_path)
    assert read_records(released)[-1]["loss"] != read_records(paper)[-1]["loss"]


def test_a_seed_gives_the_same_weights_and_leaves_the_callers_generator_alone(
    cache: FeatureCache, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    first = train_model(cache, SETTINGS, tmp_path, features="memory")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    second = train_model(cache, SETTINGS, tmp_path, features="map")
    assert_same_run(first, second)
    other = train_model(cache, dataclasses.replace(SETTINGS, seed=1), tmp_path)
    assert not torch.equal(final_state(first)["av_score"], final_state(other)["av_score"])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sampler": "balanced"},
        {"model": "baseline", "momentum": 0.0},
        {"va_form": "paper", "normalize_vectors": True},
        {"vectors": "learned"},
    ],
)
@pytest.mark.parametrize("epoch", [1, 4])
def test_an_interrupted_run_continues_exactly(
    cache: FeatureCache, tmp_path: Path, change: dict[str, Any], epoch: int
) -> None:
    settings = changed(SETTINGS, **change)
    whole = train_model(cache, settings, tmp_path)
    broken = interrupted_run(cache, tmp_path, settings, epoch)
    assert broken.manifest["status"] == "interrupted"
    continued = continue_run(broken, cache)
    assert continued.manifest["status"] == "finished"
    assert_same_run(whole, continued)


@pytest.mark.parametrize("epochs_saved", [(), (2,)])
def test_epochs_after_the_checkpoint_are_trained_again(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_saved: tuple[int, ...]
) -> None:
    whole = train_model(cache, SETTINGS, tmp_path)
    numbers = iter(range(1, 20))
    monkeypatch.setattr(training._SavingTimes, "due", lambda self: next(numbers) in epochs_saved)
    broken = interrupted_run(cache, tmp_path, SETTINGS, 4)
    assert len(read_records(broken)) == 4
    assert broken.checkpoint.exists() == bool(epochs_saved)
    assert_same_run(whole, continue_run(broken, cache))


def test_a_killed_run_continues_exactly(cache: FeatureCache, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=150, batch_size=16)
    home = cache.path.parents[1]
    command = [sys.executable, "-m", "msdn", "train", "--dataset", "toy", "--home", str(home)]
    command += ["--epochs", "150", "--batch-size", "16", "--lr", "1e-3", "--select", "last", "--margin", "1"]
    command += ["--precision", "float32"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while _lines_written(home) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    (killed,) = (Run(path) for path in (home / "runs").iterdir())
    assert killed.manifest["status"] == "running"
    assert 3 <= len(read_records(killed)) < 150
    assert_same_run(train_model(cache, settings, tmp_path / "whole"), continue_run(killed, cache))


def _lines_written(home: Path) -> int:
    return sum(path.read_text().count("\n") for path in (home / "runs").glob("*/metrics.jsonl"))


def test_a_finished_run_is_not_trained_again(cache: FeatureCache, tmp_path: Path) -> None:
    run = train_model(cache, SETTINGS, tmp_path)
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(RunError, match="finished already; see it with: msdn evaluate"):
        continue_run(run, cache)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def test_another_environment_is_mentioned(
    cache: FeatureCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = interrupted_run(cache, tmp_path, SETTINGS, 1)
    broken.update(environment={**broken.manifest["environment"], "torch": "1.0"})
    continue_run(broken, cache)
    assert f"torch was 1.0, is {torch.__version__}: the weights may differ slightly" in caplog.text
    assert len(caplog.records) == 1


def test_only_one_process_continues_a_run(cache: FeatureCache, tmp_path: Path) -> None:
    broken = interrupted_run(cache, tmp_path, SETTINGS, 1)
    with broken.lock(), pytest.raises(LockError, match="is training this run already"):
        continue_run(broken, cache)


def test_changed_features_are_refused(
    cache: FeatureCache, tmp_path: Path, make_cache: Callable[..., Path]
) -> None:
    broken = interrupted_run(cache, tmp_path, SETTINGS, 1)
    other = FeatureCache(make_cache(tmp_path / "other.h5", seed=5))
    with other, pytest.raises(RunError, match=r"other\.h5: not the features that .* was trained on"):
        continue_run(broken, other)


def test_the_manifest_tells_everything(cache: FeatureCache, tmp_path: Path) -> None:
    run = train_model(
        cache, SETTINGS, tmp_path, preset="released/gzsl", overrides={"epochs": 6}, watch_test=True
    )
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["settings"] == SETTINGS.as_json()
    assert manifest["cache"] == {
        "path": str(cache.path.resolve()),
        "fingerprint": cache.fingerprint,
        "map": "regions",
    }
    assert manifest["features_in"] == {"final": {"training": "RAM", "measuring": "RAM"}}
    assert (manifest["preset"], manifest["overrides"]) == ("released/gzsl", {"epochs": 6})
    assert (manifest["status"], manifest["weights"]) == ("finished", "random")
    assert manifest["watch_test"] is True
    assert manifest["settings"]["select"] == "last" and manifest["chosen"] is None
    assert {"torch", "numpy", "msdn", "threads"} <= set(manifest["environment"])


def test_test_figures_are_only_recorded_when_watched(cache: FeatureCache, tmp_path: Path) -> None:
    plain, watched = (train_model(cache, SETTINGS, tmp_path, watch_test=watch) for watch in (False, True))
    assert not {"U", "S", "H", "acc"} & set(read_records(plain)[-1])
    figures = evaluate_run(watched, cache)
    assert {name: read_records(watched)[-1][name] for name in ("U", "S", "H", "acc")} == {
        name: figures[name] for name in ("U", "S", "H", "acc")
    }
    assert torch.equal(final_state(plain)["av_score"], final_state(watched)["av_score"])


def test_a_checkpoint_carries_settings_metrics_and_fingerprint(cache: FeatureCache, tmp_path: Path) -> None:
    run = train_model(cache, SETTINGS, tmp_path)
    content = load_checkpoint(run.checkpoint)
    assert content["settings"] == SETTINGS.as_json()
    assert content["fingerprint"] == cache.fingerprint
    assert [record["epoch"] for record in content["metrics"]] == list(range(1, 7))


@pytest.mark.parametrize("damage", ["cut", "text", "code", "other", "weights"])
def test_a_damaged_checkpoint_is_named(cache: FeatureCache, tmp_path: Path, damage: str) -> None:
    broken = interrupted_run(cache, tmp_path, SETTINGS, 2)
    content = load_checkpoint(broken.checkpoint)
    if damage == "cut":
        broken.checkpoint.write_bytes(broken.checkpoint.read_bytes()[:-2000])
    elif damage == "text":
        broken.checkpoint.write_text("no weights")
    elif damage == "code":
        torch.save({"version": 1, "run": print}, broken.checkpoint)
    elif damage == "other":
        torch.save({"version": 1}, broken.checkpoint)
    else:
        content["trainer"]["model"] = {"weight": torch.zeros(3)}
        torch.save(content, broken.checkpoint)
    with pytest.raises(RunError, match=r"train (it|the model) again"):
        continue_run(broken, cache)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    with FeatureCache(make_cache()) as cache:
        wild = dataclasses.replace(SETTINGS, learning_rate=1e30)
        started: list[Run] = []
        with pytest.raises(TrainError, match="epoch 1: the loss is no longer finite"):
            train_model(cache, wild, tmp_path, on_start=started.append)
        last_step = dataclasses.replace(
            wild, epochs=1, batch_size=999
        )  # its loss is finite, its weights are not
        with pytest.raises(TrainError, match="epoch 1: the weights are no longer finite"):
            train_model(cache, dataclasses.replace(last_step, learning_rate=3e38), tmp_path)
    manifest = Run(started[0].path).manifest
    assert manifest["status"] == "failed" and "no longer finite" in manifest["reason"]


def test_msdn_needs_word_vectors_and_the_baseline_does_not(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    annotations = dataclasses.replace(make_annotations(), attribute_vectors=None)
    with FeatureCache(make_cache(annotations=annotations)) as cache:
        commands = r"\n  msdn data vectors toy\n  msdn cache annotate .*\.h5 --vectors FILE$"
        advice = rf"--vectors learned, or --model(?s:.*){commands}"
        with pytest.raises(TrainError, match=rf"holds no attribute vectors, .*'msdn' needs one.*{advice}"):
            train_model(cache, SETTINGS, tmp_path / "runs")
        assert not (tmp_path / "runs").exists()
        for change in ({"model": "baseline"}, {"vectors": "learned"}):
            run = train_model(cache, changed(SETTINGS, **change), tmp_path / "runs")
            assert evaluate_run(run, cache)["acc"] is not None


def test_learned_vectors_are_trained_and_do_not_depend_on_the_given_ones(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    learned, annotations = dataclasses.replace(SETTINGS, vectors="learned"), make_annotations()
    states = []
    for number, vectors in enumerate((annotations.attribute_vectors, None)):
        other = dataclasses.replace(annotations, attribute_vectors=vectors)
        with FeatureCache(make_cache(tmp_path / f"{number}.h5", annotations=other)) as cache:
            run = train_model(cache, learned, tmp_path / "runs")
            states.append(final_state(run)["word_vectors"])
    assert torch.equal(*states)
    assert not torch.allclose(states[0].norm(dim=1), torch.ones(7), atol=1e-5)


def test_masked_images_are_never_drawn(make_cache: Callable[..., Path], tmp_path: Path) -> None:
    annotations = make_annotations()
    masked = {int(row): "truncated" for row in annotations.splits["trainval"][:3]}
    with FeatureCache(make_cache(masked=masked)) as cache:
        run = train_model(cache, SETTINGS, tmp_path)
        assert run.manifest["masked_images"] == 3
        assert evaluate_run(run, cache)["masked_images"] == 3
        assert not np.isin(cache.rows("trainval"), list(masked)).any()
    everything = {int(row): "truncated" for row in annotations.splits["trainval"]}
    empty = FeatureCache(make_cache(tmp_path / "none.h5", masked=everything))
    with empty, pytest.raises(TrainError, match="all training images are masked"):
        train_model(empty, SETTINGS, tmp_path)


def count_calls(patch: pytest.MonkeyPatch, owner: Any, name: str, counts: dict[str, int]) -> None:
    original = getattr(owner, name)

    def counted(*given: Any, **more: Any) -> Any:
        counts[name] = counts.get(name, 0) + 1
        return original(*given, **more)

    patch.setattr(owner, name, counted)


def test_nothing_is_read_or_built_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}
    for owner, name in (
        *((training, name) for name in ("test_division", "validation_division", "load_checkpoint")),
        (run_module, "read_sealed"),
        (evaluate, "load_checkpoint"),
        (evaluate, "test_division"),
    ):
        count_calls(monkeypatch, owner, name, counts)
    with FeatureCache(write_split_cache(tmp_path / "toy.h5")) as cache:
        for select, style in (("val", False), ("test", True)):
            counts.clear()
            settings = dataclasses.replace(SETTINGS, epochs=1, select=select, paper_style=style)
            run = train_model(cache, settings, tmp_path / "runs")
            assert counts == {"test_division": 1} | ({"validation_division": 1} if select == "val" else {})
            counts.clear()
            evaluate_run(run, cache)
            assert counts == {"load_checkpoint": 1, "test_division": 1}


def test_where_features_are_is_told_and_kept(tmp_path: Path) -> None:
    with FeatureCache(write_split_cache(tmp_path / "toy.h5")) as cache:
        settings = dataclasses.replace(SETTINGS, epochs=1, select="val")
        notes: list[str] = []
        run = train_model(cache, settings, tmp_path / "runs", features="map", on_note=notes.append)
    assert notes == [  # once, not in each phase
        "features: read from the file for training, read from the file for measuring; products in float32",
    ]
    assert Run(run.path).manifest["features_in"] == {
        "validation": {"training": "read from the file", "measuring": "read from the file"},
        "final": {"training": "read from the file"},
    }
