"""One damaged or foreign run in a home: every command says which, and goes on with the others."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from toy_results import FIGURES, make_run

from msdn.cache import FeatureCache, Home
from msdn.cache.records import write_sealed
from msdn.train.loop.checkpoints import load_checkpoint, save_checkpoint
from msdn.train.loop.training import train_model
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
Msdn = Callable[..., Result]
SETTINGS = settings_of("baseline", epochs=1, batch_size=8)


@pytest.fixture
def run(make_cache: Callable[..., Path]) -> Run:
    """A finished run in a home with its features."""
    with FeatureCache(make_cache()) as cache:
        return train_model(cache, SETTINGS, cache.path.parents[1] / "runs", device="cpu")


def damage(run: Run, **changes: Any) -> None:
    write_sealed(run.path / "manifest.json", run.manifest | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chosen": "abc"}, "'chosen' is 'abc'"),
        ({"chosen": 5}, "'chosen' is 5"),
        ({"chosen": {"epochs": 1, "margin": "x"}}, "'chosen' is {"),
        ({"environment": []}, "'environment' is []"),
        ({"weights": {"kind": 3}}, "'weights' is {"),
        ({"masked_images": "many"}, "'masked_images' is 'many'"),
        ({"settings": {"model": "msdm"}}, "unknown model 'msdm'. Did you mean 'msdn'?"),
        ({"settings": {"speed": 3}}, "unknown setting 'speed'"),
    ],
)
def test_one_damaged_run_does_not_stop_compare(
    run_msdn: Msdn, home: Home, changes: dict[str, Any], reason: str
) -> None:
    good, bad = make_run(home, FIGURES, model="msdn++"), make_run(home, FIGURES, select="val")
    damage(bad, **changes)
    compared = run_msdn("compare")
    assert compared.exit_code == 0 and "msdn++" in compared.stdout
    named = run_msdn("compare", str(bad.path), str(good.path))
    assert f"left out: {bad.path}: {bad.path / 'manifest.json'}: " in named.stdout
    assert reason in re.sub(r"\s+", " ", named.stdout)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"H": 1' + "0" * 400 + "}"])
def test_crafted_results_are_measured_again(run_msdn: Msdn, run: Run, content: str) -> None:
    run.results.write_text(content)
    compared = run_msdn("compare", "--device", "cpu")
    assert compared.exit_code == 0 and "baseline" in compared.stdout
    assert json.loads(run.results.read_text())["seed"] == 0


@pytest.mark.parametrize("settings", [{"model": "msdm"}, {"speed": 3}])
def test_a_foreign_run_does_not_stop_a_bare_evaluate(
    run_msdn: Msdn, run: Run, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    home = run.path.parents[1]
    foreign = make_run(Home(home))
    damage(foreign, settings=settings)
    done = run_msdn("evaluate", "--device", "cpu", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["run"] == str(run.path)
    assert f"left out: {foreign.path / 'manifest.json'}: unknown" in caplog.text
    named = run_msdn("evaluate", "--run", str(foreign.path))
    assert named.exit_code == 1 and "train the model again" in named.stderr


@pytest.mark.parametrize("environment", [[], None, "linux"])
def test_resuming_a_run_without_environment_is_one_sentence(
    run_msdn: Msdn, run: Run, environment: Any
) -> None:
    damage(run, status="interrupted", environment=environment)
    result = run_msdn("train", "--resume", str(run.path), "--device", "cpu")
    assert result.exit_code == 1
    assert f"damaged, 'environment' is {environment!r}; train the model again" in result.stderr


@pytest.mark.parametrize("record", [5, {"epoch": 1}])
def test_a_checkpoint_with_other_records_is_one_sentence(run_msdn: Msdn, run: Run, record: Any) -> None:
    content = load_checkpoint(run.checkpoint)
    save_checkpoint(run.checkpoint, content | {"metrics": [record]})
    for command in (["evaluate", "--run"], ["train", "--resume"]):
        damage(run, status="finished" if "evaluate" in command else "interrupted")
        result = run_msdn(*command, str(run.path), "--device", "cpu")
        assert result.exit_code == 1 and "damaged, its 'metrics' cannot be read" in result.stderr
