"""The campaigns of tests/trust, each in a process of its own: a small part here, the whole with the slow tests."""

import subprocess
import sys
from pathlib import Path

import pytest
from toy_dataset import toy_environment

TRUST = Path(__file__).parent / "trust"


def run(script: str, *arguments: str, timeout: int = 110) -> str:
    """What a campaign prints; it must not find anything."""
    done = subprocess.run(
        [sys.executable, TRUST / script, *arguments],
        env=toy_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_few_damaged_files_of_every_format() -> None:
    assert "168 files tried, 0 failed" in run("fuzz.py", "--count", "12", "--seed", "5", "--workers", "1")


def test_a_few_trainings_and_extractions_leave_nothing_behind() -> None:
    assert "flat" in run("soak.py", "--trainings", "3", "--extractions", "3")


@pytest.mark.slow
def test_a_hundred_thousand_damaged_files() -> None:
    assert " 0 failed" in run("fuzz.py", timeout=4 * 3600).splitlines()[-1]


@pytest.mark.slow
def test_many_trainings_and_extractions_leave_nothing_behind() -> None:
    assert "300 trainings, 200 extractions: flat" in run("soak.py", timeout=2 * 3600)


def test_the_fuzz_finds_what_reads_damaged_bytes(tmp_path: Path) -> None:
    """Its own proof: a reader that trusts everything, one that crashes, one that hangs and one that runs code."""
    (tmp_path / "broken.py").write_text(BROKEN)
    done = subprocess.run(
        [sys.executable, tmp_path / "broken.py", TRUST.parent],
        env=toy_environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    told = done.stdout + done.stderr
    for what in (
        "a changed value",
        "by signal 9",
        "more than 1 seconds",
        "code ran",
        "[] ['ran os.system']",
        "MemoryError",
        "KeyError",
    ):
        assert what in told, told


BROKEN = """
import os, pickle, signal, sys, tempfile, time
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from trust import fuzz
from trust.forked import Forked
from trust.mutations import damage_bytes
from trust.subjects import Format, Sample

GOOD = bytes(range(200))

def trusts(data): return data
def crashes(data): os.kill(os.getpid(), signal.SIGKILL)
def hangs(data): time.sleep(30)
def runs(data): os.system("true")
def grows(data): return len(bytearray(2**31))
def stumbles(data): return {}[data]

def forks(data):
    with Forked(Path("true"), "os:system") as process:
        return data if data == GOOD else process.ask("")

def make(read, folder):
    (folder / "file").write_bytes(GOOD)
    def careful(folder):
        data = (folder / "file").read_bytes()
        if read is forks:
            return forks(data)
        return data if data == GOOD else read(data)
    return [Sample("file", careful, exact=(damage_bytes,))]

fuzz.SECONDS = 1
for read in (trusts, crashes, hangs, runs, grows, stumbles, forks):
    with tempfile.TemporaryDirectory() as root:
        one = Format(read.__name__, lambda folder, read=read: make(read, folder))
        fuzz.report(one.name, fuzz.fuzz(one, 2, 0, 2, Path(root)), 0, 1.0)
"""
