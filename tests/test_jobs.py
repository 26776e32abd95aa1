"""Jobs one after another and in processes: the same results, in the order of the jobs."""

import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from toy_runs import assert_same_bits, changed, final_state, write_split_cache

from msdn.cache import FeatureCache
from msdn.cache.errors import WrongUsageError
from msdn.train.errors import TrainError
from msdn.train.models import registry
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run, find_runs
from msdn.train.studies import series
from msdn.train.studies.series import Job, choose_devices, choose_workers, run_jobs

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = settings_of(epochs=2, batch_size=8, learning_rate=3e-3)
JOBS = [
    Job(SETTINGS, precision="float32"),
    Job(changed(SETTINGS, model="baseline")),
    Job(dataclasses.replace(SETTINGS, select="val", seed=1), validate_only=True, precision="float32"),
]
FIGURES = ("acc", "U", "S", "H", "AUSUC", "seed")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    """A small open cache."""
    with FeatureCache(write_split_cache(tmp_path / "toy.h5")) as opened:
        yield opened


def test_results_come_in_the_order_of_the_jobs(
    cache: FeatureCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run_jobs(cache, JOBS, tmp_path / "runs", workers=1, device="cpu")
    assert [result["seed"] for result in results] == [0, 0, 1]
    assert [result.get("model") for result in results] == ["msdn", "baseline", None]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("done ")]
    for number, (line, job, result) in enumerate(zip(said, JOBS, results, strict=True), 1):
        assert line.startswith(f"done {number} of 3: {job.name}  acc {result['acc']:.1f}  U ")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As many threads as a machine with two cores has."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_a_seed_has_the_same_weights_however_many_run_at_once(
    cache: FeatureCache, tmp_path: Path, two_threads: None, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [*JOBS, Job(dataclasses.replace(SETTINGS, learning_rate=1e30, seed=7), label="too fast")]
    single = run_jobs(cache, jobs[:1], tmp_path / "single", workers=2, device="cpu")
    alone = run_jobs(cache, jobs, tmp_path / "alone", workers=1, device="cpu")
    assert torch.get_num_threads() == 2
    capsys.readouterr()
    both = run_jobs(cache, jobs, tmp_path / "both", workers=2, device="cpu")
    said = capsys.readouterr().err
    assert all(f"of 4: {job.name}  " in said for job in jobs) and "done 4 of 4: " in said
    for ours, theirs in [*zip(both[:3], alone[:3], strict=True), (single[0], alone[0])]:
        assert {name: ours[name] for name in FIGURES} == {name: theirs[name] for name in FIGURES}
        runs = [Run(Path(result["run"])) for result in (ours, theirs)]
        assert_same_bits(*(final_state(run) for run in runs))
        assert [run.manifest["environment"]["threads"] for run in runs] == [1, 1]
    assert "no longer finite" in both[3]["failed"] and both[3]["failed"] == alone[3]["failed"]
    assert both[3]["seed"] == 7 and len(find_runs(tmp_path / "both")) == 4


def test_a_process_that_ends_at_once_is_told(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "_prepare", os._exit)
    with pytest.raises(
        TrainError, match=r"a training process ended at once .* smaller --jobs: what is finished"
    ):
        run_jobs(cache, JOBS, tmp_path / "runs", workers=2, device="cpu")


def test_devices_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_devices("cuda:0, cuda:2") == ["cuda:0", "cuda:2"]
    for empty in ("", "cuda:0,,cuda:1", "cuda:0, "):
        with pytest.raises(WrongUsageError, match="a name is empty"):
            choose_devices(empty)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_devices("auto") == ["cpu"]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert choose_workers(["cpu"]) == 8
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert choose_devices("auto") == ["cuda:0", "cuda:1", "cuda:2"]
    assert choose_workers(choose_devices("auto")) == 3


def dealt(
    cache: FeatureCache,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    jobs: int,
    workers: int,
    waits: Sequence[int] = (),
) -> dict[int, str]:
    """Which device each job gets; those in `waits` last until all others are done."""
    others_done, left, taken = threading.Event(), set(range(jobs)) - set(waits), {}

    def work(
        _path: Path, _map: str, _position: int, job: Job, _runs: Path, device: str, _threads: int
    ) -> dict[str, int]:
        seed = job.settings.seed
        taken[seed] = device
        if seed in waits:
            assert others_done.wait(30)
        left.discard(seed)
        if not left:
            others_done.set()
        return {"seed": seed}

    monkeypatch.setattr(series, "ProcessPoolExecutor", lambda workers, *_: ThreadPoolExecutor(workers))
    monkeypatch.setattr(series, "_work", work)
    many = [Job(dataclasses.replace(SETTINGS, seed=seed)) for seed in range(jobs)]
    results = run_jobs(cache, many, Path("nowhere"), workers=workers, device=device)
    assert [result["seed"] for result in results] == list(range(jobs))
    return taken


def test_a_job_goes_to_the_device_that_is_free(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = dealt(cache, monkeypatch, "cuda:0,cuda:1", jobs=5, workers=2, waits=[0])
    assert taken == {0: "cuda:0", **dict.fromkeys(range(1, 5), "cuda:1")}


def test_workers_share_devices_where_there_are_more_of_them(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = dealt(cache, monkeypatch, "cuda:0,cuda:1", jobs=4, workers=4, waits=[0, 1, 2])
    assert sorted(taken.values()) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]


OWN_MODEL = '''"""A model of one's own."""

from dataclasses import dataclass

from msdn.train.models.model import Model
from msdn.train.models.parts.settings import LossSettings


@dataclass(frozen=True)
class MySettings(LossSettings):
    """Nothing besides."""


MODEL = Model("mine", "mine", MySettings, "msdn.train.models.baseline.network:build_baseline")
'''


def test_processes_know_the_models_of_ones_own(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_own", {})
    (tmp_path / "mine.py").write_text(OWN_MODEL)
    model = registry.load_model_file(tmp_path / "mine.py")
    jobs = [Job(model.default(epochs=1, batch_size=8, seed=seed)) for seed in range(2)]
    results = run_jobs(cache, jobs, tmp_path / "runs", workers=2, device="cpu")
    assert [(result["model"], result["seed"]) for result in results] == [("mine", 0), ("mine", 1)]
