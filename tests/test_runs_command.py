"""`msdn runs`: listed, shown, named and deleted; and a run is known by its name everywhere."""

import errno
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_runs import write_split_cache
from toy_studies import SHORT

from msdn.cache import Home
from msdn.cache.records import write_sealed
from msdn.cli import main
from msdn.train.measure import evaluate
from msdn.train.runs.run import Run, find_runs

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN = ("train", "--dataset", "toy", *SHORT[:4], "--device", "cpu", "-q")


@pytest.fixture
def runs(home: Home, run_msdn: Callable[..., Result]) -> list[Run]:
    """Two runs, the first of them named and measured."""
    write_split_cache(home.features / "toy-224-random.h5")
    assert run_msdn(*TRAIN, "--name", "first-try").exit_code == 0
    assert run_msdn(*TRAIN, "--model", "baseline").exit_code == 0
    assert run_msdn("evaluate", "--run", "first-try").exit_code == 0
    return find_runs(home.runs)


def test_a_list_of_runs(runs: list[Run], home: Home, run_msdn: Callable[..., Result]) -> None:
    told = json.loads(run_msdn("runs", "--json").stdout)
    assert told["home"] == str(home.root) and [one["run"] for one in told["runs"]] == [
        run.path.name for run in runs
    ]
    first, second = told["runs"]
    assert (first["name"], first["model"], first["status"]) == ("first-try", "msdn", "finished")
    kept = [json.loads(run.results.read_text())["H"] for run in runs]
    assert [first["H"], second["H"]] == kept and second["name"] is None
    shown = run_msdn("runs").stdout
    assert "first-try" in shown and runs[1].path.name in shown and str(home.root) in shown
    assert runs[1].path.name not in run_msdn("runs", "list", "--model", "msdn").stdout
    empty = run_msdn("runs", other=home.root / "empty")
    assert empty.exit_code == 0 and str(home.root / "empty" / "runs") in empty.stdout


def test_one_run_in_detail(runs: list[Run], run_msdn: Callable[..., Result]) -> None:
    told = json.loads(run_msdn("runs", "show", "first-try", "--json").stdout)
    assert told["settings"]["epochs"] == 2 and told["figures"]["H"] == told["H"]
    assert told["cache"]["fingerprint"] == runs[0].manifest["cache"]["fingerprint"]
    shown = run_msdn("runs", "show", runs[0].path.name).stdout
    assert "first-try" in shown and "epochs" in shown and "test AUSUC" in shown
    started = datetime.fromisoformat(runs[0].manifest["started"])
    assert f"{started:%Y-%m-%d %H:%M}\n" in shown and runs[0].manifest["started"] not in shown
    aside = run_msdn("runs", "show", "first-try", other=runs[0].path / ".." / "..").stdout
    assert f" {runs[0].path.resolve()}\n" in aside and ".." not in aside
    assert repr(runs[0]) == f"<Run {runs[0].path}: msdn on toy, finished>"


def test_a_run_gets_a_name(runs: list[Run], run_msdn: Callable[..., Result]) -> None:
    second = runs[1].path.name
    assert run_msdn("runs", "name", second, "base line").exit_code == 0
    assert f"run: {runs[1].path}" in run_msdn("evaluate", "--run", "base line").stdout
    assert "baseline" in run_msdn("compare", "base line", "first-try").stdout
    for taken, said in (
        ("first-try", "named 'first-try' already"),
        (runs[0].path.name, "a run's folder already"),
    ):
        refused = run_msdn("runs", "name", second, taken)
        assert refused.exit_code == 1 and said in refused.stderr
    for wrong in ("a/b", ".hidden", " ", ""):
        assert run_msdn("runs", "name", second, wrong).exit_code == 2
    assert run_msdn(*TRAIN, "--name", "base line").exit_code == 1
    assert run_msdn(*TRAIN, "--name", "x", "--seeds", "0-1").exit_code == 2
    near = run_msdn("evaluate", "--run", "first-tri")
    assert near.exit_code == 1 and "Did you mean 'first-try'?" in near.stderr and "msdn runs" in near.stderr


def test_a_name_outlives_what_training_writes(runs: list[Run], run_msdn: Callable[..., Result]) -> None:
    assert runs[0].manifest["name"] == "first-try" and runs[0].finished
    with runs[0].lock():
        refused = run_msdn("runs", "name", "first-try", "other")
    assert refused.exit_code == 1 and "training this run" in refused.stderr
    assert Run(runs[0].path).name == "first-try"


def test_runs_are_deleted_when_the_user_says_so(
    runs: list[Run], home: Home, run_msdn: Callable[..., Result], tmp_path: Path
) -> None:
    paths = [run.path for run in runs]
    words = ["runs", "delete", "first-try", "--home", str(home.root)]
    no = CliRunner().invoke(main, words, input="n\n")
    assert no.exit_code == 130 and paths[0].exists() and str(paths[0]) in no.stderr
    nobody = CliRunner().invoke(main, words, input="")
    assert nobody.exit_code == 1 and "--yes" in nobody.stderr and paths[0].exists()
    with runs[0].lock():
        held = run_msdn("runs", "delete", "first-try", "--yes")
    assert held.exit_code == 1 and "training this run" in held.stderr and paths[0].exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    (tmp_path / "link").symlink_to(paths[0])
    for wrong in (tmp_path / "mine", tmp_path / "link", home.root, home.runs, "nowhere"):
        refused = run_msdn("runs", "delete", "first-try", wrong, "--yes")
        assert refused.exit_code == 1 and paths[0].exists() and (tmp_path / "mine").exists(), wrong
    write_sealed(paths[1] / "manifest.json", {**runs[1].manifest, "dataset": 3})  # damaged
    yes = CliRunner().invoke(main, [*words, str(paths[1])], input="y\n")
    assert yes.exit_code == 0 and list(home.runs.iterdir()) == []


def test_a_training_that_was_killed_is_not_running(runs: list[Run], run_msdn: Callable[..., Result]) -> None:
    runs[1].update(status="running")
    assert json.loads(run_msdn("runs", "--json").stdout)["runs"][1]["status"] == "interrupted"
    with runs[1].lock():
        assert json.loads(run_msdn("runs", "--json").stdout)["runs"][1]["status"] == "running"


def test_what_a_killed_deletion_left_is_no_run_and_goes_with_the_next(
    runs: list[Run], home: Home, run_msdn: Callable[..., Result]
) -> None:
    left = home.runs / f".{runs[0].path.name}.msdn-deleted"
    runs[0].path.rename(left)
    listed = json.loads(run_msdn("runs", "--json").stdout)["runs"]
    assert [run["run"] for run in listed] == [runs[1].path.name]
    again = run_msdn("runs", "delete", "first-try", "--yes")
    assert again.exit_code == 1 and "no such run" in again.stderr and not left.exists()
    assert runs[1].path.exists()


@pytest.mark.parametrize(
    "number, code", [(errno.EROFS, 0), (errno.EACCES, 0), (errno.EIO, 1), (errno.ENOSPC, 1)]
)
def test_figures_that_cannot_be_kept_are_shown(
    runs: list[Run],
    run_msdn: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    def fail(file: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(file))

    monkeypatch.setattr(evaluate, "write_sealed", fail)
    done = run_msdn("evaluate", "--run", "first-try", "--json", "--out", tmp_path / "all.json")
    assert done.exit_code == code and str(runs[0].results) in done.stderr
    assert "acc" in json.loads(done.stdout) and (tmp_path / "all.json").exists() == (code == 0)
