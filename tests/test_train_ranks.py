"""One training in several processes: the steps, the records and the choice of one process alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from toy_dataset import toy_environment
from toy_runs import read_records

from msdn.cache.home import Home
from msdn.train.errors import TrainError
from msdn.train.loop.ranks import ALONE, Ranks, started_by_torchrun
from msdn.train.runs.run import Run, find_runs

COMMON = ("--dataset", "toy", "--device", "cpu", "--precision", "float32", "--home", "home")


def start(processes: int, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`msdn` in so many processes, or in one without torchrun."""
    run = ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone", "-m", "msdn"]
    return subprocess.run(
        [sys.executable, "-m", *(run if processes > 1 else ["msdn"]), *words],
        cwd=folder,
        env=toy_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_two_processes_take_the_steps_of_one(
    make_cache: Callable[..., Path], tmp_path: Path, home: Home
) -> None:
    make_cache()
    words = (
        "train",
        *COMMON,
        "--batch-size",
        "9",
        "--epochs",
        "50",
        "--lr",
        "0.001",
        "--watch-test",
        "--json",
    )
    alone, shared = (start(count, tmp_path, *words) for count in (1, 2))
    assert alone.returncode == 0, alone.stderr
    assert shared.returncode == 0, shared.stderr
    of_alone, of_shared = (json.loads(one.stdout) for one in (alone, shared))
    first, second = (read_records(Run(tmp_path / one["run"])) for one in (of_alone, of_shared))
    assert len(first) == len(second) == 50
    for one, other in zip(first, second, strict=True):
        for name in set(one) - {"seconds"}:
            assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), (one["epoch"], name)
    assert abs(first[-1]["loss"] - first[0]["loss"]) > 0.1, "it learned"
    of_runs = sorted(run.manifest["processes"] for run in find_runs(home.runs))
    assert of_runs == [1, 2], "only the first process writes"
    assert shared.stderr.count("run: ") == 1, "only the first process speaks"


@pytest.mark.slow
def test_a_model_that_draws_numbers_is_not_shared(make_cache: Callable[..., Path], tmp_path: Path) -> None:
    make_cache()
    words = ("train", *COMMON, "--epochs", "1", "--model", "msdn++", "--counterfactual", "random")
    drawn = start(2, tmp_path, *words)
    assert drawn.returncode != 0 and "train it in one process" in drawn.stderr


def test_seeds_are_for_one_process(
    make_cache: Callable[..., Path], run_msdn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cache()
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"}.items():
        monkeypatch.setitem(os.environ, name, value)
    seeds = run_msdn("train", "--dataset", "toy", "--seeds", "0-1")
    assert seeds.exit_code == 2 and "--seeds does not go with torchrun" in seeds.stderr
    swept = run_msdn("sweep", "--dataset", "toy", "--over", "lambda_cal", "--values", "0,1", "--seeds", "0")
    assert swept.exit_code == 2 and "several need no torchrun" in swept.stderr


def test_shares_of_a_batch_are_the_batch() -> None:
    rows = np.arange(11)
    assert np.concatenate([Ranks(n, 3).share(rows) for n in range(3)]).tolist() == rows.tolist()
    assert ALONE.share(rows) is not None and ALONE.gather(rows, 11) is rows
    with pytest.raises(TrainError, match="start fewer"):
        Ranks(0, 3).share(rows[:2])


def test_one_process_of_torchrun_is_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "x"}.items():
        monkeypatch.setitem(os.environ, name, value)
    assert not started_by_torchrun()
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    assert started_by_torchrun()
