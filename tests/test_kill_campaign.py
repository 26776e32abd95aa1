"""Long campaigns: SIGKILL spread over the whole of a real extraction and of a real training."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from msdn.cache.home import Home
from msdn.extract.plumage.write import write_plumage

KILLS = 10
CACHE = "features/plumage-224-random.h5"
EXTRACT = ["extract", "--dataset", "plumage", "--weights", "random", "--device", "cpu"]
TRAIN = ["train", "--dataset", "plumage", "--device", "cpu"]

pytestmark = pytest.mark.slow


def start(arguments: list[str], home: Home) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "msdn", *arguments, "--home", str(home.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def run_to_the_end(arguments: list[str], home: Home) -> float:
    began = time.monotonic()
    assert start(arguments, home).wait() == 0
    return time.monotonic() - began


def kill_after(seconds: float, arguments: list[str], home: Home) -> bool:
    """SIGKILL the command after so many seconds; False if it had ended by itself."""
    process = start(arguments, home)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0
    return False


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Home, float]:
    """Two homes with the same images; in the first, features extracted in one go, and the seconds it took."""
    whole, pieces = (Home(tmp_path_factory.mktemp(name)) for name in ("whole", "pieces"))
    for home in (whole, pieces):
        write_plumage(home.data / "plumage")
    return whole, pieces, run_to_the_end(EXTRACT, whole)


def test_an_extraction_killed_at_ten_moments_gives_the_same_bytes(homes: tuple[Home, Home, float]) -> None:
    whole, pieces, seconds = homes
    start_up = min(12.0, seconds / 3)  # imports, weights, calibration, creation: several kills fall in there
    moments = [start_up * share for share in (0.4, 0.6, 0.75, 0.9, 1.0)]
    moments += [start_up + (seconds - start_up) * share for share in (0.05, 0.1, 0.15, 0.2, 0.25)]
    assert len(moments) == KILLS
    killed = [kill_after(moment, EXTRACT, pieces) for moment in moments]
    print(f"uninterrupted {seconds:.0f} s; killed after {[round(m, 1) for m in moments]} s: {killed}")
    assert sum(killed) >= KILLS - 1
    run_to_the_end(EXTRACT, pieces)
    assert (pieces.root / CACHE).read_bytes() == (whole.root / CACHE).read_bytes()
    assert os.listdir(pieces.features) == [Path(CACHE).name]  # noqa: PTH208


def test_a_training_killed_and_resumed_gives_the_same_weights(homes: tuple[Home, Home, float]) -> None:
    home = homes[0]
    run_to_the_end(TRAIN, home)
    time.sleep(1.1)  # runs are told apart by the second they began
    run_again = start(TRAIN, home)
    while len(list(home.runs.glob("*/metrics.jsonl"))) < 2:
        time.sleep(0.01)
    run_again.send_signal(signal.SIGKILL)
    assert run_again.wait() == -signal.SIGKILL
    for epochs in (7, 19):
        kill_when_epochs_are_done(epochs, ["train", "--resume"], home)
    run_to_the_end(["train", "--resume"], home)
    first, second = (read_weights(path) for path in sorted(home.runs.glob("*/checkpoint.pt")))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def kill_when_epochs_are_done(count: int, arguments: list[str], home: Home) -> None:
    """SIGKILL a training when its newest run has so many epochs."""
    process = start(arguments, home)
    while process.poll() is None and count_epochs(home) < count:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def count_epochs(home: Home) -> int:
    """Lines of metrics in the newest run."""
    newest = max(home.runs.glob("*/metrics.jsonl"), key=lambda path: path.parent.name)
    return len(newest.read_text().splitlines())


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["trainer"]["model"]
    return weights
