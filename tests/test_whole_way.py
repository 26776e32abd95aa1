"""Images to figures: extract, train, evaluate and the demo, as a user runs them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_dataset import TOY, run_msdn, write_toy_dataset

from msdn.cli import main
from msdn.extract.datasets import registry

EXTRACT = ["extract", "--dataset", "toy", "--weights", "random", "--device", "cpu"]
TRAIN = ["train", "--dataset", "toy", "--epochs", "3", "--batch-size", "8", "--device", "cpu"]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, prog_name="msdn", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MSDN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    write_toy_dataset(tmp_path / "home/data")
    return tmp_path / "home"


@pytest.mark.usefixtures("one_thread")
def test_extract_train_evaluate(home: Path) -> None:
    assert run(*EXTRACT).stdout.strip() == str(home / "features/toy-224-random.h5")
    for model in ("msdn", "baseline"):
        trained = run(*TRAIN, "--model", model)
        assert "epoch 3/3" in trained.stderr and "test" not in trained.stderr.split("epoch 1/3")[1]
        figures = json.loads(run("evaluate", "--json").stdout)
        assert figures["model"] == model and figures["weights"] == "random"
        assert all(0 <= figures[name] <= 100 for name in ("U", "S", "H", "acc"))
        u, s = figures["U"], figures["S"]
        assert figures["H"] == pytest.approx(2 * u * s / (u + s) if u + s else 0.0)
    named = json.loads(run("evaluate", "--json", "--run", Path(figures["run"]).name).stdout)
    assert named == figures
    table = run("evaluate", "--gzsl", "--model", "msdn").stdout
    assert "random weights" in table and "acc" not in table and "chance" in table


def test_the_same_way_as_processes_of_their_own(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for arguments in (EXTRACT, [*TRAIN, "--model", "baseline"], ["evaluate", "--czsl", "--json"]):
        done = run_msdn(*arguments, cwd=elsewhere)
        assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {"acc", "dataset", "model", "run", "weights"}
    assert list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("one_thread")
def test_the_demo_ends_with_one_table(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_toy_dataset(home / "data", per_class=25)
    monkeypatch.setitem(registry.DATASETS, "plumage", replace(TOY, name="plumage"))
    shown = run("demo")
    rows = re.findall(r"│ (chance|baseline|msdn) +│((?: +[\d.]+ │){4})", shown.stdout)
    assert [name for name, _ in rows] == ["chance", "baseline", "msdn"]
    assert "random weights" in shown.stdout
    places = dict(re.findall(r"^(images|features|baseline|msdn|report) +(\S+)$", shown.stdout, re.MULTILINE))
    assert len(places) == 5 and all(Path(path).exists() for path in places.values())
    assert "ce_av: cross-entropy of A→V" in shown.stderr and "cal_va: " in shown.stderr
    listed = {one["run"]: one for one in json.loads(run("runs", "--json").stdout)["runs"]}
    for name, figures in rows[1:]:
        assert f"{listed[Path(places[name]).name]['H']:.1f}" == figures.split("│")[3].strip()
    assert shown.stdout.splitlines()[-1].split() == ["report", str(Path(places["msdn"]) / "report.html")]
