"""Long campaigns: SIGKILL spread over the whole of a real extraction and of a real training."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_extraction import count_done

from msdn.cache import FeatureCache
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.cache.partial import partial_path
from msdn.extract.plumage.write import write_plumage

SHARES = (
    0.0,
    0.01,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.65,
    0.8,
)  # of all rows that are written when a kill comes
CACHE = "features/plumage-224-random.h5"
EXTRACT = ["extract", "--dataset", "plumage", "--weights", "random", "--device", "cpu"]
TWO_MAPS = [*EXTRACT, "--backbone", "resnet18", "--image-size", "64", "--also", "early=layer3,pool=2x2"]
TWO_MAPS += ["--batch-size", "8"]
TRAIN = ["train", "--dataset", "plumage", "--device", "cpu"]

pytestmark = pytest.mark.slow


def start(arguments: list[str], home: Home) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "msdn", *arguments, "--home", str(home.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def run_to_the_end(arguments: list[str], home: Home) -> None:
    assert start(arguments, home).wait() == 0


def kill_when(condition: Callable[[], bool], arguments: list[str], home: Home) -> None:
    """SIGKILL the command as soon as the condition holds, however busy the machine is."""
    process = start(arguments, home)
    while process.poll() is None and not condition():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Home]:
    """Two homes with the same images: one where nothing is interrupted, one where everything is."""
    whole, pieces = (Home(tmp_path_factory.mktemp(name)) for name in ("whole", "pieces"))
    for home in (whole, pieces):
        write_plumage(home.data / "plumage")
    run_to_the_end(EXTRACT, whole)
    return whole, pieces


@pytest.mark.parametrize("arguments", [EXTRACT, TWO_MAPS], ids=["one map", "two maps"])
def test_an_extraction_killed_at_ten_moments_gives_the_same_bytes(
    homes: tuple[Home, Home], arguments: list[str]
) -> None:
    whole, pieces = homes
    run_to_the_end(arguments, whole)
    final = max(whole.features.glob("*.h5"), key=lambda path: path.stat().st_mtime_ns)
    ours = pieces.features / final.name
    partial = partial_path(ours)
    rows = len(read_header(final).states)
    kill_when(
        lambda: ours.with_name(ours.name + ".lock").exists(), arguments, pieces
    )  # before the file is there
    kill_when(lambda: any(partial.parent.glob(partial.name + "*")), arguments, pieces)
    for share in SHARES:
        goal = max(count_done(partial) + 1, round(share * rows))
        kill_when(lambda goal=goal: count_done(partial) >= goal, arguments, pieces)
    run_to_the_end(arguments, pieces)
    assert ours.read_bytes() == final.read_bytes()
    assert not list(pieces.features.glob("*.partial*"))
    with FeatureCache(ours) as cache:
        assert len(cache.maps) == (2 if "--also" in arguments else 1)


def test_a_training_killed_and_resumed_gives_the_same_weights(homes: tuple[Home, Home]) -> None:
    home = homes[0]
    train = [*TRAIN, "--cache", str(home.root / CACHE)]  # the other test leaves a second cache
    run_to_the_end(train, home)
    time.sleep(1.1)  # runs are told apart by the second they began
    run_again = start(train, home)
    while len(list(home.runs.glob("*/metrics.jsonl"))) < 2:
        time.sleep(0.01)
    run_again.send_signal(signal.SIGKILL)
    assert run_again.wait() == -signal.SIGKILL
    for epochs in (7, 19):
        kill_when(lambda epochs=epochs: count_epochs(home) >= epochs, ["train", "--resume"], home)
    run_to_the_end(["train", "--resume"], home)
    first, second = (read_weights(path) for path in sorted(home.runs.glob("*/checkpoint.pt")))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def count_epochs(home: Home) -> int:
    """Lines of metrics in the newest run."""
    newest = max(home.runs.glob("*/metrics.jsonl"), key=lambda path: path.parent.name)
    return len(newest.read_text().splitlines())


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["trainer"]["model"]
    return weights
