"""Runs the jobs of a series one after another, or several at once in processes of their own."""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from msdn.cache import FeatureCache
from msdn.machine import keep_threads, let_waiting_threads_sleep, usable_cores
from msdn.train.errors import TrainError
from msdn.train.runs.run import Run
from msdn.train.studies.series import Job, measure_job

Done = tuple[int, dict[str, Any]]  # a job's position, and its result


def run_jobs(
    cache: FeatureCache,
    jobs: Sequence[Job],
    runs: Path,
    *,
    workers: int = 1,
    device: str = "auto",
    threads: int = 1,
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_result: Callable[[int, dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Do all jobs and return their results in the order of the jobs.

    On a CPU every training takes `threads`, however many there are at once, so that a seed's weights are the same.

    Args:
        cache: the features.
        jobs: what to train; one that was done before is not trained again.
        runs: the folder of their runs.
        workers: trainings at once; GPUs are dealt out among them.
        device: "auto", "cpu", "cuda", …; one name for all, or several with commas, taken in turn.
        threads: of each training on a CPU.
        on_start: called with each run that begins here; not with several workers.
        on_epoch: called with each epoch's record; not with several workers.
        on_result: called with the position and result of each job as it is done.
    """
    devices = choose_devices(device)
    results: list[dict[str, Any]] = [{} for _ in jobs]
    if workers == 1 or len(jobs) == 1:
        done: Iterator[Done] = _one_by_one(cache, jobs, runs, devices[0], threads, on_start, on_epoch)
    else:
        done = _at_once(cache, jobs, runs, devices, threads, min(workers, len(jobs)))
    for position, result in done:
        results[position] = result
        if on_result:
            on_result(position, result)
    return results


def choose_devices(device: str) -> list[str]:
    """The devices to take in turn: those named, or every GPU, or the CPU."""
    if device != "auto":
        return device.split(",")
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def choose_workers(device: str) -> int:
    """As many trainings at once as there are GPUs, or else cores, at most eight."""
    devices = choose_devices(device)
    if devices == ["cpu"]:
        return min(usable_cores(), 8)
    return len(devices)


def _one_by_one(
    cache: FeatureCache,
    jobs: Sequence[Job],
    runs: Path,
    device: str,
    threads: int,
    on_start: Callable[[Run], None] | None,
    on_epoch: Callable[[dict[str, Any]], None] | None,
) -> Iterator[Done]:
    for position, job in enumerate(jobs):
        with _threads_on_a_cpu(device, threads):
            result = measure_job(cache, job, runs, device=device, on_start=on_start, on_epoch=on_epoch)
        yield position, result


def _at_once(
    cache: FeatureCache, jobs: Sequence[Job], runs: Path, devices: Sequence[str], threads: int, workers: int
) -> Iterator[Done]:
    """The jobs in processes; features are read through the file's map, which the processes share."""
    let_waiting_threads_sleep()  # the processes inherit it, and load torch afterwards
    context = multiprocessing.get_context("spawn")  # a forked child can use neither CUDA nor torch's threads
    with ProcessPoolExecutor(
        workers, context, _prepare, (max(1, torch.get_num_threads() // workers),)
    ) as pool:
        todo, running = list(enumerate(jobs))[::-1], dict[Future[dict[str, Any]], int]()
        try:
            while todo or running:
                # No more than can begin at once: what waits in the pool would still be trained after a Ctrl-C.
                while todo and len(running) < workers:
                    position, job = todo.pop()
                    future = pool.submit(
                        _work,
                        cache.path,
                        cache.map.name,
                        job,
                        runs,
                        devices[position % len(devices)],
                        threads,
                    )
                    running[future] = position
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise TrainError(
                "a training process ended at once (out of memory?); repeat the command with a smaller --jobs: what is "
                "finished is kept"
            ) from error


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stop when the command is killed, which leaves no time to tell; a stopped training can be continued."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _work(path: Path, map: str, job: Job, runs: Path, device: str, threads: int) -> dict[str, Any]:
    features = "auto" if device.startswith("cuda") else "map"
    with FeatureCache(path, map) as cache, _threads_on_a_cpu(device, threads):
        return measure_job(cache, job, runs, device=device, features=features)


@contextmanager
def _threads_on_a_cpu(device: str, threads: int) -> Iterator[None]:
    """Sums over several threads are rounded otherwise: with one, weights do not depend on the number of cores."""
    with keep_threads(None if device.startswith(("cuda", "mps")) else threads):
        yield
