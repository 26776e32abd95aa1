"""`msdn train --seeds` and `--groups`: several trainings with mean and deviation, each trained once only."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from toy_runs import assert_same_run, write_split_cache

from msdn.cache.home import Home
from msdn.train.errors import TrainError
from msdn.train.loop import training
from msdn.train.loop.trainer import Trainer
from msdn.train.runs.run import Run, find_runs

Msdn = Callable[..., Result]
SHORT = ("--dataset", "toy", "--model", "baseline", "--epochs", "3", "--batch-size", "8", "--lr", "0.003")
SHORT += ("--select", "last")
SHOWN = ("acc", "U", "S", "H", "H_no_margin", "AUSUC")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def toy(home: Home) -> Path:
    """A small cache of the dataset 'toy' in the home."""
    return write_split_cache(home.features / "toy-224-random.h5")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one number with each epoch that is trained in this process."""
    numbers: list[int] = []
    train_epoch = Trainer.train_epoch

    def count(self: Trainer, epoch: int) -> dict[str, float]:
        numbers.append(len(numbers) + 1)
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", count)
    return numbers


def results_of(home: Home) -> dict[int, dict[str, Any]]:
    """What the folder of each seed's run holds."""
    return {run.settings.seed: json.loads(run.results.read_text()) for run in find_runs(home.runs)}


def naive_spread(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def table_cells(shown: str, first: str) -> list[str]:
    """The cells of the table's row that begins so."""
    (row,) = (line for line in shown.splitlines() if line.strip(" │|").startswith(first))
    return re.findall(r"–|\d+\.\d(?: ± \d+\.\d)?", row.split(first, 1)[1])


def figures_of(shown: Result) -> list[str]:
    """What is printed, without the last line, which names the folders."""
    *lines, last = shown.stdout.splitlines()
    assert last.startswith("see this again with: ")
    return lines


def test_the_table_shows_each_seed_then_mean_and_deviation(run_msdn: Msdn, home: Home) -> None:
    shown = run_msdn("train", *SHORT, "--seeds", "0-2", "--jobs", "1")
    assert shown.exit_code == 0, shown.output
    results = results_of(home)
    assert sorted(results) == [0, 1, 2]
    for seed, result in results.items():
        assert table_cells(shown.stdout, f"{seed} ") == [f"{result[name]:.1f}" for name in SHOWN]
    spreads = [naive_spread([result[name] for result in results.values()]) for name in SHOWN]
    assert any(std > 1 for _, std in spreads)
    assert table_cells(shown.stdout, "mean ± std") == [f"{mean:.1f} ± {std:.1f}" for mean, std in spreads]
    assert "baseline on toy, 3 seeds" in shown.stdout
    assert "selection: last (a fixed number of epochs, nothing chosen on test images)\n" in shown.stdout
    assert "backbone: random weights" in shown.stdout
    assert "H no margin" in shown.stdout and "H_no_margin" not in shown.stdout
    assert table_cells(shown.stdout, "chance") == [
        f"{results[0]['chance'][name]:.1f}" for name in ("acc", "U", "S", "H")
    ]
    (again,) = (line for line in shown.stdout.splitlines() if line.startswith("see this again with: msdn "))
    compared = run_msdn(*shlex.split(again.split(": msdn ")[1]))
    assert compared.exit_code == 0 and "3: 0-2" in compared.stdout
    assert shown.stderr.count("epoch 3/3") == 3 and "done 3 of 3: seed 2  acc " in shown.stderr


def test_each_seed_is_the_run_that_it_is_alone(run_msdn: Msdn, home: Home, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    write_split_cache(alone / "features" / "toy-224-random.h5")
    run_msdn("train", *SHORT, "--seeds", "0,4", "--jobs", "1")
    for seed in ("0", "4"):
        assert run_msdn("train", *SHORT, "--seed", seed, other=alone).exit_code == 0
    for ours, theirs in zip(find_runs(home.runs), find_runs(alone / "runs"), strict=True):
        assert ours.settings == theirs.settings
        assert_same_run(ours, theirs)


def test_a_choice_says_which_seed_it_was_made_for(run_msdn: Msdn, home: Home) -> None:
    shown = run_msdn("train", *SHORT, "--seeds", "0-3", "--jobs", "1", "--select", "val").stdout
    seeds: dict[str, list[str]] = {}
    for seed, result in sorted(results_of(home).items()):
        seeds.setdefault(result["selection"], []).append(str(seed))
    assert len(seeds) > 1
    for selection, of in seeds.items():
        assert f"selection of seed {', '.join(of)}: {selection}\n" in shown


def test_seeds_that_learn_nothing_say_so(run_msdn: Msdn) -> None:
    steps = ("--epochs", "1", "--lr", "1e-9", "--margin", "0", "--seeds", "0-1", "--jobs", "1")
    shown = run_msdn("train", *SHORT, *steps).stdout
    assert "seed 0: hardly better than chance" in shown and "(likewise seed 1)" in shown


def test_processes_say_which_runs_they_begin(run_msdn: Msdn, home: Home) -> None:
    done = run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "2", "--device", "cpu")
    assert done.exit_code == 0, done.output
    for run in find_runs(home.runs):
        assert f"seed {run.settings.seed}: run: {run.path}\n" in done.stderr


@pytest.mark.parametrize("select", ["last", "val", "test"])
def test_json_holds_means_and_seeds(run_msdn: Msdn, home: Home, select: str) -> None:
    shown = run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "1", "--select", select, "--json")
    content, results = json.loads(shown.stdout), results_of(home)
    assert (content["dataset"], content["model"], content["select"]) == ("toy", "baseline", select)
    for name in SHOWN:
        mean, std = naive_spread([result[name] for result in results.values()])
        assert content["summary"][name] == {
            "mean": pytest.approx(mean), "std": pytest.approx(std, abs=1e-9), "seeds": 2,
        }  # fmt: skip
        assert [one[name] for one in content["seeds"]] == [results[seed][name] for seed in (0, 1)]
    assert [one["seed"] for one in content["seeds"]] == [0, 1]
    assert [one["selection"] for one in content["seeds"]] == [results[seed]["selection"] for seed in (0, 1)]
    assert [Run(Path(one["run"])).settings.seed for one in content["seeds"]] == [0, 1]


def test_repeated_it_trains_nothing_again(run_msdn: Msdn, home: Home, trained: list[int]) -> None:
    first = run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "1")
    assert len(trained) == 6
    second = run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "1")
    assert len(trained) == 6 and second.stdout == first.stdout
    assert len(find_runs(home.runs)) == 2
    more = run_msdn("train", *SHORT, "--seeds", "1-2", "--jobs", "1")
    assert len(trained) == 9 and "2 seeds" in more.stdout
    run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "1", "--epochs", "2")
    assert len(trained) == 13


def test_settings_that_only_predict_make_runs_of_their_own(run_msdn: Msdn, home: Home) -> None:
    """What the table shows can be seen again by `evaluate` and `compare`."""
    options = ("train", *SHORT, "--model", "msdn", "--seeds", "0")
    for alpha in (("1", "0"), ("0", "1"), ("1", "0")):
        assert run_msdn(*options, "--alpha", *alpha).exit_code == 0
    assert [run.settings.alpha for run in find_runs(home.runs)] == [(1.0, 0.0), (0.0, 1.0)]


def test_runs_trained_alone_count(run_msdn: Msdn, home: Home, trained: list[int]) -> None:
    run_msdn("train", *SHORT, "--seed", "1")
    assert run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "1").exit_code == 0
    assert len(trained) == 6 and len(find_runs(home.runs)) == 2


@pytest.mark.parametrize("stop_at", [4, 5, 6, 9])
def test_interrupted_and_repeated_it_trains_the_missing_epochs(
    run_msdn: Msdn,
    home: Home,
    tmp_path: Path,
    trained: list[int],
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    monkeypatch.setattr(training._SavingTimes, "due", lambda self: True)
    whole_home = tmp_path / "whole"
    write_split_cache(whole_home / "features" / "toy-224-random.h5")
    command = ("train", *SHORT, "--seeds", "0-2", "--jobs", "1")
    whole = run_msdn(*command, other=whole_home)
    trained.clear()
    with pytest.MonkeyPatch.context() as patch:
        counted = Trainer.train_epoch

        def stop(self: Trainer, epoch: int) -> dict[str, float]:
            if len(trained) + 1 == stop_at:
                raise KeyboardInterrupt
            return counted(self, epoch)

        patch.setattr(Trainer, "train_epoch", stop)
        stopped = run_msdn(*command)
    assert stopped.exit_code != 0 and stopped.stdout == ""
    assert "interrupted; repeat the same command" in stopped.stderr
    repeated = run_msdn(*command)
    assert len(trained) == 9 and figures_of(repeated) == figures_of(whole)
    for ours, theirs in zip(find_runs(home.runs), find_runs(whole_home / "runs"), strict=True):
        assert_same_run(ours, theirs)


def test_jobs_at_once_give_the_same_figures(run_msdn: Msdn, home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_split_cache(other / "features" / "toy-224-random.h5")
    one, two = (
        run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", jobs, "--select", "val", other=where)
        for jobs, where in (("1", home.root), ("2", other))
    )
    assert two.exit_code == 0, two.output
    assert figures_of(one) == figures_of(two)
    assert "done 2 of 2" in two.stderr
    ours, theirs = (
        sorted(find_runs(where / "runs"), key=lambda run: run.settings.seed) for where in (home.root, other)
    )
    for first, second in zip(ours, theirs, strict=True):
        assert_same_run(first, second)


@pytest.mark.slow
def test_an_interrupt_stops_all_trainings_and_begins_no_other(home: Home) -> None:
    command = [sys.executable, "-m", "msdn", "train", "--dataset", "toy", "--seeds", "0-3", "--jobs", "2"]
    with subprocess.Popen(
        [*command, "--epochs", "3000", "--home", str(home.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(home.root.glob("runs/*/checkpoint.pt"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        shown = process.communicate(timeout=60)
    assert (process.returncode, shown[0]) == (130, "")
    assert "interrupted; repeat the same command" in shown[1]
    assert [run.manifest["status"] for run in find_runs(home.runs)] == ["interrupted"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "0-1", "--seed", "3"), "--seed does not go with --seeds"),
        (("--seeds", "0-1", "--resume"), "--seeds does not go with --resume"),
        (("--seeds", "0-1", "--watch-test"), "--watch-test does not go with --seeds"),
        (("--seeds", "0-1", "--features", "map"), "--features does not go with --seeds"),
        (("--select", "val", "--watch-test"), "--watch-test does not go with --select val"),
        (("--jobs", "2"), "--jobs goes with --seeds"),
        (("--seeds", "0-1", "--jobs", "0"), "0 is not in the range x>=1"),
        (("--seeds", "4-0"), "'4-0' is not a range of 1 to 1000 seeds in ascending order"),
        (("--seeds", "0-1000"), "'0-1000' is not a range of 1 to 1000 seeds"),
        (("--seeds", "0,1,0"), "'0,1,0' names a seed twice"),
        (("--seeds", "0-3,2"), "'0-3,2' names a seed twice"),
        (("--seeds", "-1"), "'-1' is neither a seed nor a range such as 0-4"),
        (("--seeds", "one"), "'one' is neither a seed nor a range"),
        (("--seeds", "0,"), "'' is neither a seed nor a range"),
        (("--seeds", "1.5"), "'1.5' is neither a seed nor a range"),
        (("--seeds", "99999999999999999999"), "expected a finite number below"),
    ],
)
def test_wrong_usage_is_said_in_a_sentence(
    run_msdn: Msdn, home: Home, options: tuple[str, ...], message: str
) -> None:
    result = run_msdn("train", *SHORT, *options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert not home.runs.exists()


def test_seeds_need_a_dataset(run_msdn: Msdn) -> None:
    result = run_msdn("train", "--seeds", "0-1")
    assert result.exit_code == 2 and "Missing option '--dataset'" in result.stderr


def fail_with_seed_1(patch: pytest.MonkeyPatch) -> None:
    """The training with seed 1 fails in its second epoch."""
    set_generator, train_epoch, epochs_of = torch.manual_seed, Trainer.train_epoch, []

    def seeded(seed: int) -> Any:
        epochs_of[:] = [seed, 0]
        return set_generator(seed)

    def fail(self: Trainer, epoch: int) -> dict[str, float]:
        epochs_of[1] += 1
        if epochs_of == [1, 2]:
            raise TrainError("the loss is no longer finite")
        return train_epoch(self, epoch)

    patch.setattr(torch, "manual_seed", seeded)
    patch.setattr(Trainer, "train_epoch", fail)


def test_a_seed_that_fails_leaves_the_others(
    run_msdn: Msdn, home: Home, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with_seed_1(monkeypatch)
    command = ("train", *SHORT, "--seeds", "0-2", "--jobs", "1")
    shown = run_msdn(*command)
    assert shown.exit_code == 0, shown.output
    assert table_cells(shown.stdout, "1 ") == table_cells(shown.stdout, "mean ± std") == ["–"] * 6
    assert "–" not in table_cells(shown.stdout, "2 ")
    (failed,) = (run for run in find_runs(home.runs) if run.settings.seed == 1)
    reason = "epoch 2: the loss is no longer finite"
    assert f"failed: seed 1: {reason} ({failed.path})\nfailed trainings are not repeated" in shown.stdout
    assert f"done 2 of 3: seed 1  failed: {reason}\n" in shown.stderr
    trained.clear()
    assert run_msdn(*command).stdout == shown.stdout and not trained
    content = json.loads(run_msdn(*command, "--json").stdout)
    assert [one["failed"] for one in content["seeds"]] == [None, reason, None]
    assert [one["H"] is None for one in content["seeds"]] == [False, True, False]
    assert content["summary"]["H"] == {"mean": None, "std": None, "seeds": 3}


def test_a_series_of_failures_alone_fails(
    run_msdn: Msdn, home: Home, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_with_seed_1(patch)
        shown = run_msdn("train", *SHORT, "--seeds", "1", "--jobs", "1")
    (run,) = find_runs(home.runs)
    assert shown.exit_code == 1 and shown.stdout == ""
    expected = "no training succeeded; seed 1: epoch 2: the loss is no longer finite. It is not trained again"
    assert expected in shown.stderr and f"delete {run.path}" in shown.stderr
    trained.clear()
    assert run_msdn("train", *SHORT, "--seeds", "1", "--jobs", "1").exit_code == 1 and not trained
    shutil.rmtree(run.path)
    assert run_msdn("train", *SHORT, "--seeds", "1", "--jobs", "1").exit_code == 0 and len(trained) == 3


def test_a_run_whose_test_figures_were_watched_is_named(run_msdn: Msdn) -> None:
    assert run_msdn("train", *SHORT, "--seed", "1", "--watch-test").exit_code == 0
    shown = run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "1")
    assert "\ntest figures were shown while training (--watch-test): seed 1\n" in shown.stdout
    content = json.loads(run_msdn("train", *SHORT, "--seeds", "0-1", "--jobs", "1", "--json").stdout)
    assert [one["watch_test"] for one in content["seeds"]] == [False, True]


# --- DEDN's groups


DEDN = ("--dataset", "toy", "--model", "dedn", "--epochs", "2", "--batch-size", "8", "--select", "last")


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """A file that puts the toy's seven attributes in two groups."""
    path = tmp_path / "mine.csv"
    path.write_text(
        "attribute,group\n" + "".join(f"{n},{'wing' if n in (1, 2, 6) else 'head'}\n" for n in range(1, 8))
    )
    return path


def test_groups_of_a_file_are_kept_in_the_run(run_msdn: Msdn, home: Home, groups: Path) -> None:
    shown = run_msdn("train", *DEDN, "--groups", str(groups))
    assert "attribute groups: file mine.csv (wing 3, head 4)" in shown.stderr
    (run,) = find_runs(home.runs)
    assert run.manifest["groups"] == {
        "source": "file mine.csv",
        "groups": [{"name": "wing", "attributes": [1, 2, 6]}, {"name": "head", "attributes": [3, 4, 5, 7]}],
    }
    before = run_msdn("evaluate", "--json").stdout
    groups.unlink()
    assert json.loads(run_msdn("evaluate", "--json").stdout) == json.loads(before)


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_a_resumed_run_keeps_its_groups(
    run_msdn: Msdn, home: Home, groups: Path, trained: list[int], change: str
) -> None:
    run_msdn("train", *DEDN, "--groups", str(groups))
    with pytest.MonkeyPatch.context() as patch:
        counted = Trainer.train_epoch

        def stop(self: Trainer, epoch: int) -> dict[str, float]:
            if len(trained) == 3:
                raise KeyboardInterrupt
            return counted(self, epoch)

        patch.setattr(Trainer, "train_epoch", stop)
        assert run_msdn("train", *DEDN, "--groups", str(groups)).exit_code != 0
    if change == "removed":
        groups.unlink()
    else:
        groups.write_text(groups.read_text().replace("1,wing", "1,head"))
    assert run_msdn("train", "--resume").exit_code == 0
    whole, continued = find_runs(home.runs)
    assert whole.manifest["groups"] == continued.manifest["groups"]
    assert_same_run(whole, continued)


def test_a_series_tells_groups_apart(run_msdn: Msdn, home: Home, groups: Path, trained: list[int]) -> None:
    command = ("train", *DEDN, "--seeds", "0", "--groups", str(groups))
    run_msdn(*command)
    groups.rename(groups.with_name("same.csv"))
    run_msdn("train", *DEDN, "--seeds", "0", "--groups", str(groups.with_name("same.csv")))
    assert len(trained) == 2  # the same groups under another name
    assert run_msdn("train", *DEDN, "--seeds", "0").exit_code == 0
    assert len(trained) == 4 and len(find_runs(home.runs)) == 2


def test_groups_go_with_models_that_take_them(run_msdn: Msdn, home: Home, groups: Path) -> None:
    for model in ("msdn", "baseline"):
        result = run_msdn("train", "--dataset", "toy", "--model", model, "--groups", str(groups))
        assert result.exit_code == 2
        assert f"--groups is not a setting of the model '{model}'; leave it out" in result.stderr
    resumed = run_msdn("train", "--resume", "--groups", str(groups))
    assert resumed.exit_code == 2 and "--groups does not go with --resume" in resumed.stderr
    assert not home.runs.exists()
