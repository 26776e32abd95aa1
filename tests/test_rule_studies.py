"""Sweeps and ablations of data without a preset: the very training that `msdn train` does, and what is said of it."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from toy_runs import split_annotations, write_split_cache

from msdn.cache import Home
from msdn.train.loop.settings import RunSettings
from msdn.train.measure.reporting import study_learning_notes
from msdn.train.runs.run import Run, find_runs

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
BASELINE = ("--dataset", "toy", "--model", "baseline", "--epochs", 2)
ONE = ("--jobs", 1, "--seeds", "0", "--device", "cpu")


@pytest.fixture(autouse=True)
def features(home: Home) -> Path:
    """A small cache of data that nobody published a preset for."""
    return write_split_cache(home.features / "toy-224-random.h5")


def of_study(home: Home) -> list[Run]:
    return find_runs(home.studies / "runs")


def trained(run_msdn: Msdn, home: Home, *words: object) -> RunSettings:
    """The settings that `msdn train` ends up with."""
    before = {run.path for run in find_runs(home.runs)}
    done = run_msdn("train", *words, "--device", "cpu")
    assert done.exit_code == 0, done.output
    (run,) = (run for run in find_runs(home.runs) if run.path not in before)
    assert run.manifest["preset"] is None and run.manifest["rule"]
    return run.settings


@pytest.mark.parametrize(("over", "values"), [("lr", ("0.001", "0.01")), ("batch-size", ("5", "16"))])
def test_a_sweep_tunes_the_training_that_train_does(
    home: Home, run_msdn: Msdn, over: str, values: tuple[str, str]
) -> None:
    done = run_msdn("sweep", *BASELINE, *ONE, "--over", over, "--values", ",".join(values), "--json")
    assert done.exit_code == 0, done.output
    swept = {run.settings for run in of_study(home)}
    assert swept == {trained(run_msdn, home, *BASELINE, f"--{over}", value) for value in values}
    for run in of_study(home):
        assert run.manifest["preset"] is None and "select" in run.manifest["rule"]
        assert not {"epochs", over.replace("-", "_")} & run.manifest["rule"].keys()  # these were given
    shown = json.loads(done.stdout)
    assert shown["measured_on"] == "validation" and shown["rows"][0]["rule"]["select"]
    assert "--preset" not in shlex.split(shown["best"]["command"])


def test_a_sweep_says_that_the_rule_chose(run_msdn: Msdn) -> None:
    done = run_msdn("sweep", *BASELINE, *ONE, "--over", "lr", "--values", "0.001,0.01")
    assert "preset: none for these data; the rule for their amounts chose: batch_size 16" in done.stdout
    assert "none for these data" in done.stderr and "released" not in done.output


def test_rows_that_learn_nothing_are_named() -> None:
    rows = [("lr 1e-12", "H", 3.0), ("lr 0.03", "H", 30.0), ("lr 1", "H", None)]
    (note,) = study_learning_notes(rows, {"H": 2.0})
    assert "lr 1e-12 (H 3.0 %, guessing gives 2.0 %)" in note and "0.03" not in note and "--epochs" in note
    assert study_learning_notes(rows, {"H": 1.0}) == []


@pytest.mark.parametrize(
    "study", [("sweep", "--over", "lr", "--values", "1e-12,1e-11"), ("ablate", "--lr", "1e-12")]
)
def test_a_study_that_learns_nothing_says_so(
    run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch, study: tuple[str, ...]
) -> None:
    monkeypatch.setattr("msdn.train.measure.reporting.is_hardly_better", lambda figure, chance: figure < 101)
    done = run_msdn(*study, "--dataset", "toy", "--epochs", 1, *ONE)
    (note,) = (line for line in done.stdout.splitlines() if line.startswith("hardly better than chance"))
    assert "guessing gives 12.5 %" in note or "guessing gives 8.3 %" in note


def test_an_ablation_trains_what_train_does_without_vectors_too(home: Home, run_msdn: Msdn) -> None:
    without = dataclasses.replace(split_annotations(), attribute_vectors=None)
    write_split_cache(home.features / "toy-224-random.h5", without)
    done = run_msdn("ablate", "--dataset", "toy", "--epochs", 1, "--lr", 0.001, *ONE)
    assert done.exit_code == 0, done.output
    whole = trained(run_msdn, home, "--dataset", "toy", "--model", "msdn", "--epochs", 1, "--lr", 0.001)
    assert whole in {run.settings for run in of_study(home)}
    assert (whole.select, whole.batch_size, whole.vectors) == ("val", 16, "learned")  # type: ignore[attr-defined]
    assert "vectors learned" in done.stdout and "none for these data" in done.stdout


def test_a_run_tells_that_there_was_no_preset(home: Home, run_msdn: Msdn) -> None:
    trained(run_msdn, home, *BASELINE)
    (run,) = find_runs(home.runs)
    shown = " ".join(run_msdn("runs", "show", run.path.name).stdout.split())
    assert "preset none for these data; the rule for their amounts chose: batch_size 16" in shown
    assert "released/" not in shown
    kept = json.loads(run_msdn("runs", "show", run.path.name, "--json").stdout)
    assert kept["preset"] is None and kept["rule"] == run.manifest["rule"]


def test_the_preset_that_is_none_may_be_named(home: Home, run_msdn: Msdn) -> None:
    assert trained(run_msdn, home, *BASELINE, "--preset", "released") == trained(run_msdn, home, *BASELINE)
    (_, latest) = find_runs(home.runs)
    latest.update(status="interrupted")
    again = run_msdn("train", "--resume", latest.path, "--preset", "released")
    assert again.exit_code == 0, again.output
    latest.update(status="interrupted")
    other = run_msdn("train", "--resume", latest.path, "--preset", "paper")
    assert other.exit_code == 1 and "--preset" in other.stderr
