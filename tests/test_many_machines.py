"""Long tests of shared extractions: the page's recipe on the real Ray, and workers that are killed again and again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks
from own_data import write_folder
from test_shards import BACKBONE

from msdn.cache.header import read_header
from msdn.cache.parts import find_parts

pytestmark = pytest.mark.slow

N = 5  # images of each of four classes: ten shards of two images


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder with a dataset and a backbone."""
    write_folder(tmp_path / "birds", per_class=N)
    (tmp_path / "own.py").write_text(BACKBONE)
    return tmp_path


def start(shared: Path, out: str, *more: str, **variables: str) -> "subprocess.Popen[bytes]":
    words = ["extract", "--dataset", str(shared / "birds"), "--backbone", str(shared / "own.py")]
    words += [
        "--weights",
        "random",
        "--batch-size",
        "2",
        "--out",
        str(shared / out),
        "--home",
        str(shared / "home"),
    ]
    with (shared / "said").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "msdn", *words, *more],
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )


def alone(shared: Path) -> bytes:
    assert start(shared, "alone.h5", "--device", "cpu").wait() == 0
    return (shared / "alone.h5").read_bytes()


def test_the_recipe_runs_on_the_real_ray(shared: Path) -> None:
    code = next(
        one.code for one in blocks(ROOT / "docs/many-machines.md", "python") if "import ray" in one.code
    )
    options = (
        f'backbone="{shared}/own.py", weights="random", batch_size=2, device="cpu", home="{shared}/home"'
    )
    for before, after in (
        ('"/shared/', f'"{shared}/'),
        ("shard=(i, N)", f"shard=(i, N), {options}"),
        ("num_gpus=1", "num_cpus=1"),
        ('h5", 16', 'h5", 3'),
    ):
        assert before in code
        code = code.replace(before, after)
    (shared / "recipe.py").write_text(f"import ray\nray.init(num_cpus=2, include_dashboard=False)\n{code}")
    done = subprocess.run(
        [sys.executable, "recipe.py"], cwd=shared, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{4 * N} images computed" in done.stdout
    assert (shared / "birds.h5").read_bytes() == alone(shared)


def test_workers_under_torchrun_and_slurm_that_are_killed_leave_nothing_undone(shared: Path) -> None:
    out = shared / "f.h5"
    for round_ in range(4):
        workers = [
            start(shared, "f.h5", RANK="0", WORLD_SIZE="2", SLOW="0.2"),
            start(shared, "f.h5", SLURM_PROCID="1", SLURM_NTASKS="2", SLOW="0.2"),
        ]
        goal = 2 * round_ + 1
        while len(find_parts(out).finished) < goal and any(one.poll() is None for one in workers):
            time.sleep(0.01)
        for one in workers:
            one.send_signal(signal.SIGKILL)
            one.wait()
    assert start(shared, "f.h5", "--shard", "0/1").wait() == 0
    assert start(shared, "f.h5").wait() == 0, "one process merges"
    assert out.read_bytes() == alone(shared)
    assert not list(shared.glob("f.h5.*"))


def test_a_device_that_fails_is_named_and_its_work_is_taken_up(shared: Path) -> None:
    wrong = start(shared, "f.h5", "--devices", "cpu,nonsense")
    assert wrong.wait() == 1 and "nonsense: --device nonsense: not available" in (shared / "said").read_text()
    assert len(find_parts(shared / "f.h5").finished) == 5
    killed = start(shared, "f.h5", "--devices", "cpu,cpu", SLOW="0.3")
    while len(find_parts(shared / "f.h5").finished) < 7:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert start(shared, "f.h5", "--devices", "cpu,cpu,cpu").wait() == 0
    assert (shared / "f.h5").read_bytes() == alone(shared)
    assert read_header(shared / "f.h5").provenance["device"]["kind"] == "cpu"
    interrupted = start(shared, "g.h5", "--devices", "cpu,cpu", SLOW="0.5")
    while not find_parts(shared / "g.h5").total:
        time.sleep(0.01)
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(60) == 130 and not (shared / "g.h5").exists()
