"""Many trainings and extractions in one process: memory, open files and threads stay flat.

    python tests/trust/soak.py --trainings 300 --extractions 200

The first tenth is for warming up: pools and caches fill. After it, none of the figures may grow.
"""

import argparse
import gc
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).parents[1])]

import numpy as np  # noqa: E402
from own_data import image_splits, write_folder  # noqa: E402
from toy_cache import make_annotations, write_cache  # noqa: E402

import msdn  # noqa: E402

BACKBONE = """\
from torch import nn
from msdn.extract.backbones import Backbone, Preparation

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))

BACKBONE = Backbone(build=build, layer="2", preparation=Preparation(32))
"""
MEGABYTES = 24.0  # that memory may grow by after warming up, however many times
MOST_LOST = 0.1  # megabytes for each training or extraction, beyond that


class Figures:
    """Resident memory in megabytes, open files and threads, as they are now."""

    def __init__(self) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        self.files = len(list(Path("/proc/self/fd").iterdir()))
        self.threads = len(list(Path("/proc/self/task").iterdir()))

    def __str__(self) -> str:
        """The three in one line."""
        of_python = threading.active_count()
        return f"{self.memory:.1f} MB, {self.files} files, {self.threads} threads ({of_python} of Python)"


def soak(name: str, times: int, once: Callable[[int], None]) -> list[str]:
    """Do something many times; return what grew."""
    began = time.time()
    warm, start = max(2, times // 10), None
    for number in range(times):
        once(number)
        if number + 1 == warm:
            start = Figures()
            print(f"{name}: after {warm}: {start}", flush=True)
    end = Figures()
    print(f"{name}: after {times}: {end}, {time.time() - began:.0f} s", flush=True)
    assert start is not None
    allowed = MEGABYTES if times < 100 else min(MEGABYTES, MOST_LOST * times)
    grew = []
    if end.memory - start.memory > allowed:
        grew.append(f"{name}: memory grew by {end.memory - start.memory:.1f} MB")
    if end.files > start.files:
        grew.append(f"{name}: {end.files - start.files} files stay open")
    if end.threads > start.threads:
        grew.append(f"{name}: {end.threads - start.threads} threads stay")
    return grew


def run(trainings: int, extractions: int, root: Path) -> list[str]:
    """Train and extract so many times in a folder of their own; return what grew."""
    features = np.random.RandomState(0).uniform(0, 2, (30, 2, 2, 16)).astype(np.float16)
    cache = write_cache(root / "home/features/toy-224-random.h5", make_annotations(), features)
    birds = write_folder(root / "birds")
    (birds / "splits.csv").write_text(image_splits())
    (root / "own.py").write_text(BACKBONE)

    def train(number: int) -> None:
        model = ("msdn", "dedn", "baseline")[number % 3]
        how = {"device": "cpu", "home": root / "home"}
        made = msdn.train(cache, model=model, epochs=1, batch_size=8, seed=number, **how)
        figures = msdn.evaluate(made, device="cpu", home=root / "home")
        assert figures["acc"] is not None
        shutil.rmtree(made.path)

    def extract(number: int) -> None:
        own, how = str(root / "own.py"), {"device": "cpu", "home": root / "home"}
        done = msdn.extract(birds, backbone=own, weights=f"random:{number}", **how)
        with msdn.open_cache(done.path) as opened:
            assert len(opened.read_rows(np.arange(3))) == 3
        done.path.unlink()

    return [*soak("trainings", trainings, train), *soak("extractions", extractions, extract)]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainings", type=int, default=300)
    parser.add_argument("--extractions", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        grew = run(given.trainings, given.extractions, Path(root))
    print("\n".join(grew) or f"{given.trainings} trainings, {given.extractions} extractions: flat")
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
