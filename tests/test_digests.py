"""What is read again as figures or weights proves itself: one flipped weight, digit or setting is named."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from msdn.app.report.subjects import Subject
from msdn.app.report.sweeps import read_sweep
from msdn.cache import FeatureCache
from msdn.cache.records import read_sealed, write_sealed
from msdn.train.errors import RunError
from msdn.train.loop import training
from msdn.train.loop.batches import test_division as divide
from msdn.train.loop.checkpoints import load_checkpoint
from msdn.train.loop.training import continue_run, train_model
from msdn.train.measure.evaluate import evaluate_run, keep_results, load_model, load_run_checkpoint
from msdn.train.models.registry import settings_of
from msdn.train.runs.results import kept_figures
from msdn.train.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
Msdn = Callable[..., Result]
SETTINGS = settings_of("msdn", epochs=2, batch_size=8)


class Crashed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


@pytest.fixture
def run(make_cache: Callable[..., Path]) -> Run:
    """A finished run in a home with its features, measured."""
    with FeatureCache(make_cache()) as cache:
        found = train_model(cache, SETTINGS, cache.path.parents[1] / "runs", device="cpu")
        keep_results(found, evaluate_run(found, cache))
    return found


def flip_weight(run: Run) -> None:
    """Change one byte in the middle of the first weight, as it lies in the file."""
    weight = next(iter(load_checkpoint(run.checkpoint)["trainer"]["model"].values()))
    content = bytearray(run.checkpoint.read_bytes())
    place = content.index(weight.numpy().tobytes())
    content[place + 2] ^= 1
    run.checkpoint.write_bytes(content)
    stored = torch.load(run.checkpoint, weights_only=True)["trainer"]["model"]
    assert not torch.equal(next(iter(stored.values())), weight), "torch itself does not notice"


def flip_digit(file: Path, name: str) -> None:
    """Change the last digit of a number in a file of JSON."""
    text = file.read_text()
    found = re.search(rf'"{name}": [0-9.]*(?P<digit>[0-9])', text)
    assert found
    place, digit = found.start("digit"), int(found["digit"])
    file.write_text(f"{text[:place]}{(digit + 1) % 10}{text[place + 1 :]}")


def test_one_flipped_weight_is_named(run_msdn: Msdn, run: Run) -> None:
    flip_weight(run)
    before = run.results.read_bytes()
    result = run_msdn("evaluate", "--run", str(run.path), "--device", "cpu")
    told = re.sub(r"\s+", " ", result.stderr)
    assert result.exit_code == 1 and f"{run.checkpoint}: damaged, it does not fit its own digest" in told
    assert run.results.read_bytes() == before
    assert run_msdn("report", str(run.path), "--device", "cpu").exit_code == 0
    page = (run.path / "report.html").read_text()  # with the figures of the undamaged weights
    assert "does not fit its own digest" in page
    with (  # what explains and predicts
        FeatureCache(run.manifest["cache"]["path"]) as cache,
        pytest.raises(RunError, match="does not fit its own digest"),
    ):
        load_model(run, divide(cache).problem)


def test_one_flipped_weight_stops_a_resumed_training(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureCache(make_cache()) as cache:
        run = crashed(cache, monkeypatch, "append_metrics", calls=2)
        flip_weight(run)
        with pytest.raises(RunError, match=r"checkpoint\.pt: damaged, it does not fit its own digest"):
            continue_run(run, cache)


def test_another_interrupted_runs_checkpoint_is_named(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureCache(make_cache()) as cache:
        run = crashed(cache, monkeypatch, "append_metrics", calls=2)
        other = crashed(cache, monkeypatch, "append_metrics", calls=2, seed=1)
        run.checkpoint.write_bytes(other.checkpoint.read_bytes())
        with pytest.raises(RunError, match="belongs to another run"):
            continue_run(run, cache)


def test_another_runs_checkpoint_is_named(run: Run, make_cache: Callable[..., Path]) -> None:
    with FeatureCache(run.manifest["cache"]["path"]) as cache:
        other = train_model(cache, settings_of("msdn", epochs=2, batch_size=8, seed=1), run.path.parent)
    run.checkpoint.write_bytes(other.checkpoint.read_bytes())
    with pytest.raises(RunError, match="not the checkpoint that this run ended with"):
        load_run_checkpoint(run)


@pytest.mark.parametrize("command", [["compare"], ["evaluate", "--run"], ["runs", "list"]])
@pytest.mark.parametrize("name", ["H", "AUSUC", "checkpoint_digest"])
def test_one_flipped_result_is_named_and_measured_again(
    run_msdn: Msdn, run: Run, command: list[str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    measured = read_sealed(run.results)
    if name == "checkpoint_digest":
        write_sealed(run.results, measured | {name: "0" * 64}, indent=None)
    else:
        flip_digit(run.results, name)
    place = [str(run.path)] if "--run" in command else []
    device = ["--device", "cpu"] if command != ["runs", "list"] else []
    result = run_msdn(*command, *place, *device)
    assert result.exit_code == 0 and f"{run.results}: not used" in caplog.text
    if command != ["runs", "list"]:
        assert read_sealed(run.results) == measured


def test_a_flipped_setting_of_a_run_is_named(run_msdn: Msdn, run: Run) -> None:
    flip_digit(run.path / "manifest.json", "learning_rate")
    for words in (["evaluate", "--run"], ["train", "--resume"], ["runs", "show"]):
        result = run_msdn(*words, str(run.path))
        assert result.exit_code == 1 and "does not fit its seal" in result.stderr


def test_flipped_figures_of_an_epoch_are_not_drawn(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    subject = Subject(run, 0, "", None, None, None, "")
    assert len(subject.records) == 2
    flip_digit(run.metrics, "loss")
    assert Subject(run, 0, "", None, None, None, "").records == []
    assert f"{run.metrics}: not used" in caplog.text


def test_a_flipped_figure_of_a_study_is_not_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "study.json"
    write_sealed(file, {"best": None, "mean": 48.5})
    flip_digit(file, "mean")
    assert read_sweep(file) is None and f"{file}: not used" in caplog.text


def crashed(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch, where: str, calls: int, seed: int = 0
) -> Run:
    """A run whose process died before the n-th call of a method of `Run`, or of `save_checkpoint`."""
    owner: Any = training if where == "save_checkpoint" else Run
    plain, made, left = getattr(owner, where), [], [calls]

    def dies(*given: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Crashed
        return plain(*given, **more)

    with monkeypatch.context() as patch, pytest.raises(Crashed):
        patch.setattr(owner, where, dies)
        settings = dataclasses.replace(SETTINGS, seed=seed)
        train_model(cache, settings, cache.path.parents[1] / "runs", device="cpu", on_start=made.append)
    return Run(made[0].path)


@pytest.mark.parametrize(
    ("where", "calls"),
    [
        ("save_checkpoint", 1),  # nothing saved yet
        ("append_metrics", 2),  # a checkpoint, and a manifest that does not know it
        ("save_checkpoint", 2),  # metrics further than the checkpoint
        ("update", 3),  # the last checkpoint is there, the manifest says "running"
    ],
)
def test_a_crash_between_checkpoint_and_manifest_leaves_a_run_to_resume(
    make_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, where: str, calls: int
) -> None:
    with FeatureCache(make_cache()) as cache:
        run = crashed(cache, monkeypatch, where, calls)
        assert not run.finished and run.manifest.get("checkpoint") is None
        finished = continue_run(run, cache)
        whole = train_model(cache, SETTINGS, run.path.parent, device="cpu")
        ours, theirs = load_run_checkpoint(finished), load_run_checkpoint(whole)
        for name, value in theirs["trainer"]["model"].items():
            assert torch.equal(ours["trainer"]["model"][name], value)
    again = Run(run.path)
    assert again.finished and again.manifest["checkpoint"] == ours["digest"]
    assert [one["epoch"] for one in Subject(again, 0, "", None, None, None, "").records] == [1, 2]


def test_a_seal_is_of_the_content_and_not_of_its_spaces(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_sealed(file, {"b": (1, 2.50), "a": "ö", 3: None, "seal": "old"})
    assert read_sealed(file) == {"b": [1, 2.5], "a": "ö", "3": None}
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert read_sealed(file)["a"] == "ö"


def test_results_of_an_unfinished_checkpoint_are_not_used(run: Run) -> None:
    assert kept_figures(run) is not None
    run.update(checkpoint="0" * 64)
    assert kept_figures(run) is None
