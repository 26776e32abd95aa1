"""What is asked of the machine: threads that are given back, and what to do where memory runs out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import torch
from click.testing import Result
from toy_runs import write_split_cache

from msdn import machine
from msdn.cache.home import Home
from msdn.cache.layout import MAIN
from msdn.cli import main
from msdn.train.loop.trainer import Trainer
from msdn.train.runs.run import find_runs

Msdn = Callable[..., Result]
SHORT = ("--dataset", "toy", "--model", "baseline", "--epochs", "2", "--batch-size", "8")
SHORT += ("--select", "last")


@pytest.fixture(autouse=True)
def toy(home: Home) -> Path:
    """A small cache of the dataset 'toy' in the home."""
    return write_split_cache(home.features / "toy-224-random.h5")


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> object:
    """The caller computes with three threads, and is allowed five cores; afterwards it still does."""
    monkeypatch.setattr(machine, "usable_cores", lambda: 5)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 3


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads in each epoch that is trained."""
    numbers: list[int] = []
    train_epoch = Trainer.train_epoch

    def watch(self: Trainer, epoch: int) -> dict[str, float]:
        numbers.append(torch.get_num_threads())
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", watch)
    return numbers


@pytest.mark.parametrize(
    ("options", "cores", "expected"),
    [
        ((), 5, 3),
        ((), 2, 2),
        (("--threads", "4"), 2, 4),
        (("--seeds", "0", "--jobs", "1"), 5, 1),
        (("--seeds", "0", "--jobs", "1", "--threads", "2"), 5, 2),
    ],
)
def test_threads_of_a_training(
    run_msdn: Msdn,
    seen: list[int],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    cores: int,
    expected: int,
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    assert run_msdn("train", *SHORT, "--device", "cpu", *options).exit_code == 0
    assert seen == [expected, expected]


def test_a_resumed_run_has_the_threads_that_it_began_with(
    run_msdn: Msdn, home: Home, seen: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    run_msdn("train", *SHORT, "--threads", "2")
    (run,) = find_runs(home.runs)
    assert run.manifest["environment"]["threads"] == 2
    for options, expected in (((), 2), (("--threads", "1"), 1)):
        run.checkpoint.unlink()
        run.update(status="interrupted")
        seen.clear()
        assert run_msdn("train", "--resume", *options).exit_code == 0
        assert seen == [expected, expected]
    assert "threads was 2, is 1" in caplog.text
    assert run_msdn("evaluate", "--threads", "2").exit_code == 0


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_waiting_threads_are_told_to_sleep_before_torch_loads(name: str, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom msdn.cli import main\n"
        "try:\n    main(['presets', '--model', 'msdn'])\nexcept SystemExit:\n    pass\n"
        f"assert 'torch' not in sys.modules\nprint(os.environ['{name}'], file=sys.stderr)"
    )
    plain = {key: value for key, value in os.environ.items() if key != name}
    for environment, expected in (
        (plain, "0" if name.startswith("KMP") else "5000"),
        (plain | {name: "7"}, "7"),
    ):
        told = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stderr.split() == [expected]


@pytest.mark.parametrize(
    ("words", "advised"),
    [
        (("train", *SHORT), "--batch-size"),
        (("evaluate",), "--device"),
        (("data", "status"), "stop other programs"),
    ],
)
@pytest.mark.parametrize("kind", ["RAM", "GPU"])
def test_what_is_advised_where_memory_runs_out_fits_the_command(
    run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], advised: str, kind: str
) -> None:
    def fail(**_given: object) -> None:
        raise MemoryError if kind == "RAM" else torch.OutOfMemoryError("CUDA out of memory")

    command, ctx = main, click.Context(main)
    for word in words:
        if isinstance(command, click.Group):
            command = command.get_command(ctx, word)
    monkeypatch.setattr(command, "callback", fail)
    result = run_msdn(*words)
    assert result.exit_code == 1
    assert ("GPU is out of memory" if kind == "GPU" else "out of memory") in result.stderr
    assert advised in result.stderr
    assert ("--batch-size" in result.stderr) is (words[0] == "train")


# --- which map of the features


def test_one_of_several_maps_is_trained_on(
    run_msdn: Msdn, home: Home, make_cache: Callable[..., Path], toy: Path
) -> None:
    make_cache(toy, more={"global": (1, 1, 8)}, signed=True)
    train = ("train", *SHORT)
    assert run_msdn(*train).exit_code == 0
    assert run_msdn(*train, "--map", "global").exit_code == 0
    main_run, other = find_runs(home.runs)
    assert (main_run.map, other.map) == (MAIN, "global")
    figures = run_msdn("evaluate", "--run", other.path, "--json")
    assert figures.exit_code == 0 and '"map": "global"' in figures.stdout
    unknown = run_msdn(*train, "--map", "globe")
    assert unknown.exit_code == 2 and "Did you mean 'global'?" in unknown.stderr and MAIN in unknown.stderr
    other.update(status="interrupted")
    refused = run_msdn("train", "--resume", other.path, "--map", MAIN)
    assert refused.exit_code == 1 and "was started with --map global" in refused.stderr
    other.checkpoint.unlink()
    assert run_msdn("train", "--resume", other.path, "--map", "global").exit_code == 0
