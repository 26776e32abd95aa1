"""SIGTERM and SIGHUP end every command as Ctrl-C does: work kept, one sentence, and no process left."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_data import write_folder
from toy_dataset import PROGRAM, TOY, toy_environment, write_toy_dataset
from toy_extraction import CACHE, count_done
from toy_runs import write_split_cache

from msdn.cache.home import Home
from msdn.cache.partial import partial_path
from msdn.extract.datasets import registry
from msdn.train.runs.run import find_runs

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
EXTRACT = ["extract", "--dataset", "toy", "--weights", "random", "--device", "cpu", "--batch-size", "1"]
TRAIN = ["train", "--dataset", "toy", "--epochs", "30000", "--device", "cpu"]
ENDING = pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)], ids=["TERM", "HUP"]
)


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(autouse=True)
def hears_hang_ups() -> Iterator[None]:
    """These tests may run under nohup themselves, and what they start would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(words: list[str], home: Home, *before: str, **how: object) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-c", PROGRAM, *words, "--home", str(home.root)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if not how else {}
    process = subprocess.Popen(command, env=toy_environment(), text=True, **pipes, **how)  # type: ignore[call-overload]
    STARTED.append(process)
    return process


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100  # of a busy machine
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def end(process: subprocess.Popen[str], number: int) -> str:
    """Send the signal, and give what was said; the exit code must be the signal's."""
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, stdout) == (CODES[signal.Signals(number)], ""), stderr
    assert "Traceback" not in stderr and stderr.count("Stopped.") == 1
    return stderr


def trains(home: Home, count: int = 1) -> Callable[[], bool]:
    return lambda: len(list(home.runs.glob("*/checkpoint.pt"))) >= count


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    return Home(tmp_path / "home")


@ENDING
def test_an_extraction_keeps_what_was_done(home: Home, number: int) -> None:
    write_toy_dataset(home.data)
    partial = partial_path(home.features / CACHE)
    process = start(EXTRACT, home)
    wait_for(process, lambda: count_done(partial) >= 2)
    assert "repeat the same command" in end(process, number)
    assert 2 <= count_done(partial) < 30
    assert [path.name for path in home.features.iterdir()] == [partial.name]


@ENDING
def test_a_training_is_interrupted(home: Home, number: int) -> None:
    write_split_cache(home.features / CACHE)
    process = start(TRAIN, home)
    wait_for(process, trains(home))
    assert "interrupted; continue with: msdn train --resume" in end(process, number)
    (run,) = find_runs(home.runs)
    assert run.manifest["status"] == "interrupted" and not list(run.path.glob("*.lock"))


def test_a_second_signal_changes_nothing(home: Home) -> None:
    write_toy_dataset(home.data)
    partial = partial_path(home.features / CACHE)
    process = start(EXTRACT, home)
    wait_for(process, lambda: count_done(partial) >= 2)
    process.send_signal(signal.SIGTERM)
    end(process, signal.SIGTERM)
    assert count_done(partial) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_trainings_at_once_end_with_the_command(home: Home, number: int) -> None:
    """The signal reaches only the process that started them, as `kill` sends it."""
    write_split_cache(home.features / CACHE)
    process = start([*TRAIN, "--seeds", "0-3", "--jobs", "2"], home)
    wait_for(process, trains(home, 2))
    workers = children(process.pid)
    assert "interrupted; repeat the same command" in end(process, number)
    assert [run.manifest["status"] for run in find_runs(home.runs)] == ["interrupted"] * 2
    assert len(workers) >= 2 and not any(map(is_running, workers))


@pytest.mark.slow
def test_extractions_at_once_end_with_the_command(home: Home, tmp_path: Path) -> None:
    words = ["extract", "--dataset", str(write_folder(tmp_path / "birds", per_class=20))]
    words += ["--weights", "random", "--devices", "cpu,cpu", "--batch-size", "1", "--backbone", "resnet18"]
    process = start(words, home)
    wait_for(process, lambda: bool(list(home.features.glob("*.shard-*"))))
    workers = children(process.pid)
    end(process, signal.SIGTERM)
    assert len(workers) >= 2 and not any(map(is_running, workers))


def test_nohup_stays_in_force(home: Home) -> None:
    write_split_cache(home.features / CACHE)
    process = start(TRAIN, home, "nohup")
    wait_for(process, trains(home))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    end(process, signal.SIGTERM)


def test_a_terminal_that_is_closed_ends_the_training_in_order(home: Home) -> None:
    write_split_cache(home.features / CACHE)
    ours, theirs = pty.openpty()
    process = start(TRAIN, home, "setsid", "--ctty", "--wait", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for(process, trains(home))
    os.close(ours)  # the system tells it by SIGHUP, and nothing can be written any more
    assert process.wait(100) == 129
    (run,) = find_runs(home.runs)
    assert run.manifest["status"] == "interrupted"


def children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in found]


def is_running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
