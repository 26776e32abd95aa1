"""A model of the user's own, solved in closed form: trained, chosen, resumed, measured and compared from its file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from toy_runs import assert_same_run, read_records, write_split_cache

from msdn.cache.home import Home
from msdn.train.loop.training import _Training
from msdn.train.models import registry
from msdn.train.runs.run import Run, find_runs

Msdn = Callable[..., Result]
RIDGE = '''
"""Ridge regression from mean features to attributes."""

from dataclasses import dataclass

import torch

from msdn.train.loop.settings import RunSettings, setting
from msdn.train.models.model import Model
from msdn.train.models.parts.base import SolvedModel
from msdn.train.models.parts.classes import class_space_of


@dataclass(frozen=True)
class RidgeSettings(RunSettings):
    """Ridge regression's own."""

    ridge: float = setting(1.0, "What is added to the diagonal.", above=0)


class Ridge(SolvedModel):
    """Attributes are linear in the mean over regions."""

    def __init__(self, problem, settings):
        super().__init__()
        self.classes, self.ridge = class_space_of(problem, settings), settings.ridge
        self.weight = torch.nn.Parameter(torch.zeros(problem.channels, problem.attributes.shape[1]))

    def forward(self, regions):
        return self.classes(regions.mean(dim=1) @ self.weight)

    def class_scores(self, scores):
        return scores

    def solve(self, batches):
        f, k = self.weight.shape
        gram, moment = self.ridge * torch.eye(f), torch.zeros(f, k)
        for regions, labels in batches():
            pooled = regions.mean(dim=1)
            gram += pooled.T @ pooled
            moment += pooled.T @ self.classes.attributes[labels]
        self.weight.copy_(torch.linalg.solve(gram, moment))
        errors = [
            (regions.mean(dim=1) @ self.weight - self.classes.attributes[labels]).square().mean()
            for regions, labels in batches()
        ]
        return {"error": torch.stack(errors).mean()}


MODEL = Model("ridge", "Ridge regression to attributes.", RidgeSettings, Ridge)
'''

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins, and ends, as a process that has loaded no model of the user's own."""
    forget(monkeypatch)


def forget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry, "_own", {})
    patch.setattr(registry, "_remembered", {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The user's file."""
    path = tmp_path / "my_ridge.py"
    path.write_text(RIDGE)
    return path


@pytest.fixture(autouse=True)
def toy(home: Home) -> Path:
    """A small cache of the dataset 'toy' in the home."""
    return write_split_cache(home.features / "toy-224-random.h5")


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("select", ["last", "val", "test"])
def test_from_training_to_the_leaderboard(
    run_msdn: Msdn, home: Home, file: Path, monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    shown = done(run_msdn("train", "--dataset", "toy", "--model", file, "--ridge", "0.5", "--select", select))
    assert "epoch 1/1  error" in shown.stderr and "epoch 2" not in shown.stderr
    (run,) = find_runs(home.runs)
    assert (run.settings.model, run.settings.ridge, run.settings.passes) == ("ridge", 0.5, 1)
    assert run.manifest["model_file"] == {"path": str(file), "sha256": registry._hash(file)}
    assert [record.get("phase") for record in read_records(run)] == ["validation"] * (select == "val") + [
        None
    ]
    if select == "val":
        assert run.chosen and run.chosen["epochs"] == 1
    forget(monkeypatch)  # as another process, which finds the file by the home's record
    figures = json.loads(done(run_msdn("evaluate", "--json")).stdout)
    assert figures["model"] == "ridge" and figures["acc"] > figures["chance"]["acc"]
    assert figures["parameters"] == 16 * 7
    assert "ridge" in done(run_msdn("compare", "--model", file)).stdout
    assert "--batch-size" not in done(run_msdn("train", "--model", "ridge", "--help")).output


def test_the_solution_is_that_of_a_loop(run_msdn: Msdn, home: Home, file: Path, toy: Path) -> None:
    from msdn.cache import FeatureCache

    done(run_msdn("train", "--dataset", "toy", "--model", file))
    (run,) = find_runs(home.runs)
    weight = torch.load(run.checkpoint, weights_only=True)["trainer"]["model"]["weight"]
    with FeatureCache(toy) as cache:
        rows = cache.rows("trainval")
        pooled = torch.from_numpy(cache.read_rows(rows)).double().mean(dim=1)
        classes = torch.from_numpy(cache.annotations.attributes).double()
        wanted = torch.nn.functional.normalize(classes, dim=1)[cache.annotations.labels[rows]]
    exact = torch.linalg.solve(pooled.T @ pooled + torch.eye(16).double(), pooled.T @ wanted)
    assert torch.allclose(weight.double(), exact, atol=1e-4)


def test_interrupted_between_its_phases_it_continues(
    run_msdn: Msdn, home: Home, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "--dataset", "toy", "--model", file, "--select", "val")
    done(run_msdn(*command))
    train_phase = _Training._train_phase

    def stop(self: _Training, phase: str, *given: int, **more: bool) -> None:
        if phase == "final":
            raise KeyboardInterrupt
        train_phase(self, phase, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(_Training, "_train_phase", stop)
        assert run_msdn(*command).exit_code == 130
    forget(monkeypatch)
    done(run_msdn("train", "--resume"))
    assert_same_run(*find_runs(home.runs))


def test_a_changed_file_is_refused(
    run_msdn: Msdn, home: Home, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(run_msdn("train", "--dataset", "toy", "--model", file))
    file.write_text(RIDGE + "# changed\n")
    forget(monkeypatch)
    assert "changed since" in run_msdn("train", "--model", "ridge", "--dataset", "toy").stderr
    refused = run_msdn("evaluate", "--model", file)
    assert refused.exit_code == 1 and f"{file}: not the model that toy-ridge-s0" in refused.stderr
    (run,) = find_runs(home.runs)
    run.update(status="interrupted")
    refused = run_msdn("train", "--resume", run.path, "--model", file)
    assert refused.exit_code == 1 and "not the model that" in refused.stderr


def test_a_model_that_is_gone_is_said_once_and_the_others_go_on(
    run_msdn: Msdn, home: Home, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in ("0", "1"):
        done(run_msdn("train", "--dataset", "toy", "--model", file, "--seed", seed))
    (first, _) = find_runs(home.runs)
    done(run_msdn("train", "--dataset", "toy", "--model", "baseline", "--epochs", "1"))
    kept = file.with_suffix(".txt")
    shutil.move(file, kept)
    for lacks in ("file", "memory"):
        if lacks == "memory":
            (home.root / "models.json").unlink()
        forget(monkeypatch)
        caplog.clear()
        assert "baseline" in done(run_msdn("compare")).stdout
        (line,) = [one.getMessage() for one in caplog.records if "ridge" in one.getMessage()]
        assert "2 run(s) of 'ridge'" in line and "--model FILE" in line and str(file) in line
        assert json.loads(done(run_msdn("evaluate", "--json")).stdout)["model"] == "baseline"
        named = run_msdn("evaluate", "--run", first.path)
        assert named.exit_code == 1 and "--model FILE" in named.stderr and str(file) in named.stderr
    moved = shutil.copy(kept, file.with_name("moved.py"))
    assert json.loads(done(run_msdn("evaluate", "--model", moved, "--json")).stdout)["model"] == "ridge"


def test_a_solution_that_is_not_finite_is_a_sentence(run_msdn: Msdn, home: Home, file: Path) -> None:
    file.write_text(RIDGE.replace("torch.linalg.solve(gram, moment)", "moment / 0"))
    result = run_msdn("train", "--dataset", "toy", "--model", file)
    assert result.exit_code == 1 and "no longer finite; extract the features again" in result.stderr
    (path,) = home.runs.iterdir()
    assert Run(path).manifest["status"] == "failed"
