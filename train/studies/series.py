"""Several trainings that belong together: found where they are done, continued where they stopped, shown as one.

They run one after another, or several at once in processes of their own.
"""

import dataclasses
import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from msdn.cache import FeatureCache
from msdn.cache.errors import WrongUsageError
from msdn.machine import DeviceError, choose_device, keep_threads, let_waiting_threads_sleep, usable_cores
from msdn.train.errors import RunError, TrainError
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.settings import RunSettings, fields_of
from msdn.train.loop.training import Record, continue_run, groups_as_json, train_model
from msdn.train.measure.evaluate import evaluate_run, keep_results
from msdn.train.measure.reporting import (
    epoch_line,
    provenance_notes,
    reconstruction_notes,
    say,
    training_notes,
)
from msdn.train.measure.show import Result, Table, percent, show
from msdn.train.measure.summary import summarize
from msdn.train.models.registry import load_model_file, own_files
from msdn.train.runs.results import COMPARED, kept_result
from msdn.train.runs.run import VALIDATED, Run, find_runs

log = logging.getLogger(__name__)
SHOWN = ("acc", "U", "S", "H", "H_no_margin", "AUSUC")  # of a series that differs in the seed alone
_MOST_WORKERS = 8  # on a CPU, unless --jobs says otherwise
_OF_ALL = ("dataset", "model", "weights", "fingerprint", "select", "settings", "reconstruction")
Done = tuple[int, dict[str, Any]]  # a job's position, and its result


@dataclass(frozen=True)
class Job:
    """One training of a series.

    Attributes:
        settings: what to train, and how.
        groups: see `train_model`.
        preset: see `train_model`.
        overrides: see `train_model`.
        validate_only: with `select="val"`, only choose; test images are not looked at.
        as_typed: whether only a run of these very settings will do, even if others would end with the same weights.
        label: what tells it from others, apart from the seed; for messages.
    """

    settings: RunSettings
    groups: AttributeGroups | None = None
    preset: str | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    validate_only: bool = False
    as_typed: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """The label and the seed."""
        return ", ".join(filter(None, (self.label, f"seed {self.settings.seed}")))


def find_run(runs: Sequence[Run], job: Job, cache: FeatureCache) -> Run | None:
    """The run among `runs` that did this job, else one that began it, else one that cannot do it."""
    groups = groups_as_json(cache, job.settings, job.groups)
    alike = [
        run
        for run in runs
        if run.is_of(cache)
        and (
            run.settings == job.settings
            or (not job.as_typed and what_trains(run.settings) == what_trains(job.settings))
        )
        and _groups_only(run.manifest.get("groups")) == _groups_only(groups)
    ]
    done = next((run for run in alike if _is_done(run, job)), None)
    begun = [run for run in alike if not _gave_up(run, job)] or alike
    return done or (begun[-1] if begun else None)


def what_trains(settings: RunSettings) -> RunSettings:
    """The settings without those that no weight depends on."""
    if settings.select != "last":  # the choice of an epoch looks at predictions
        return settings
    silent: dict[str, Any] = {name: one.default for name, one in _predicting(settings).items()}
    return dataclasses.replace(settings, **silent)


def _predicting(settings: RunSettings) -> "dict[str, dataclasses.Field[Any]]":
    """The settings that no weight depends on; with the last epoch kept, the task only picks a preset."""
    own = fields_of(type(settings))
    return {name: one for name, one in own.items() if name == "task" or one.metadata.get("predicts_only")}


def measure_job(
    cache: FeatureCache,
    job: Job,
    runs: Path,
    *,
    device: str = "auto",
    features: str = "auto",
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> dict[str, Any]:
    """Do a job and measure it; where its training fails, the result holds the reason and no figures.

    Args:
        cache: the features.
        job: what to train.
        runs: the folder of runs; one that did the job is used, and one that began it is continued.
        device: see `train_model`.
        features: see `train_model`.
        on_start: called where there is something to train.
        on_epoch: called with each epoch's record.
    """
    begun: list[Run] = []

    def begin(run: Run) -> None:
        begun.append(run)
        if on_start:
            on_start(run)

    try:
        run = do_job(cache, job, runs, device=device, features=features, on_start=begin, on_epoch=on_epoch)
        return _failure(job, run) if _gave_up(run, job) else job_result(cache, job, run, device)
    except (TrainError, RunError, DeviceError) as error:
        failed = Run(begun[0].path) if begun and isinstance(error, TrainError) else None
        if failed is None or failed.manifest["status"] != "failed":  # it never began
            raise type(error)(f"{job.name}: {error}") from error
        failed.update(diverged=failed.manifest["reason"])
        return _failure(job, failed)


def do_job(
    cache: FeatureCache,
    job: Job,
    runs: Path,
    *,
    device: str = "auto",
    features: str = "auto",
    on_start: Callable[[Run], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> Run:
    """Train, continue, or find the run of a job; one whose training failed in a series before is left as it is."""
    run = find_run(find_runs(runs, dataset=cache.annotations.dataset), job, cache)
    if run is None:
        return train_model(
            cache,
            job.settings,
            runs,
            groups=job.groups,
            preset=job.preset,
            overrides=job.overrides,
            device=device,
            features=features,
            validate_only=job.validate_only,
            on_start=on_start,
            on_epoch=on_epoch,
        )
    if _is_done(run, job) or _gave_up(run, job):
        return run
    _warn_of_device(run, device)
    if on_start:
        on_start(run)
    return continue_run(
        run, cache, device=device, features=features, validate_only=job.validate_only, on_epoch=on_epoch
    )


def job_result(cache: FeatureCache, job: Job, run: Run, device: str = "auto") -> dict[str, Any]:
    """What a job's run shows: figures on the validation classes if it was only to choose, else on the test classes."""
    if job.validate_only:
        chosen = run.chosen or {}
        figures = {name.removeprefix("val_"): value for name, value in chosen.items()}
        facts = {
            "run": str(run.path),
            "seed": run.settings.seed,
            "watch_test": run.manifest.get("watch_test"),
        }
        return {**figures, **facts}
    if job.settings.select != "last" or run.settings == job.settings:
        result = kept_result(run)
        if result is None:
            result = evaluate_run(run, cache, device=device)
            keep_results(run, result)
        return result
    silent = {name: getattr(job.settings, name) for name in _predicting(job.settings)}
    return evaluate_run(run, cache, device=device, predict_with=silent)


def refuse_all_failed(jobs: Iterable[Job], results: Sequence[dict[str, Any]]) -> None:
    """Raise a `TrainError` with the reason where no training of a series succeeded."""
    failed = [(job, result) for job, result in zip(jobs, results, strict=True) if result.get("failed")]
    if failed and len(failed) == len(results):
        job, result = failed[0]
        raise TrainError(
            f"no training succeeded; {job.name}: {result['failed']}. It is not trained again; to try it once more, "
            f"delete {result['run']}"
        )


def _failure(job: Job, run: Run) -> dict[str, Any]:
    """The result of a job whose training failed; figures are not in it."""
    return {"run": str(run.path), "seed": job.settings.seed, "failed": str(run.manifest["reason"])}


def _is_done(run: Run, job: Job) -> bool:
    return run.finished or (job.validate_only and run.manifest["status"] == VALIDATED)


def _gave_up(run: Run, job: Job) -> bool:
    """Whether the training itself failed, which it would do again; a full disk or a lack of memory can be mended."""
    if job.validate_only and run.chosen:  # all that is asked for was reached
        return False
    reason = run.manifest.get("reason")
    return run.manifest["status"] == "failed" and bool(reason) and run.manifest.get("diverged") == reason


def _warn_of_device(run: Run, device: str) -> None:
    before, now = str(run.manifest["device"]), str(choose_device(device))
    if before.partition(":")[0] != now.partition(":")[0]:
        log.warning("%s: trained on %s so far: on %s the weights will differ slightly", run.path, before, now)


def _groups_only(stored: Any) -> Any:
    return stored["groups"] if isinstance(stored, dict) and "groups" in stored else None


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
        workers: trainings at once; each has one device until it is done, and several share one where there
            are more of them than devices.
        device: "auto", "cpu", "cuda", …; one name for all, or several with commas.
        threads: of each training on a CPU; their number decides the last digits of sums.
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
    """The devices to train on: those named, or every GPU, or the CPU."""
    if device != "auto":
        names = [name.strip() for name in device.split(",")]
        if not all(names):
            raise WrongUsageError(f"--device '{device}': a name is empty, expected some as in cuda:0,cuda:1")
        return names
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def choose_workers(device: str) -> int:
    """As many trainings at once as there are GPUs, or else cores, at most eight."""
    devices = choose_devices(device)
    if devices != ["cpu"]:
        return len(devices)
    return min(usable_cores(), _MOST_WORKERS)


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
    cache: FeatureCache,
    jobs: Sequence[Job],
    runs: Path,
    devices: Sequence[str],
    threads: int,
    workers: int,
) -> Iterator[Done]:
    """The jobs in processes; features are read through the file's map, which the processes share."""
    let_waiting_threads_sleep()  # the processes inherit it, and load torch afterwards
    context = multiprocessing.get_context("spawn")  # a forked child can use neither CUDA nor torch's threads
    free = [devices[number % len(devices)] for number in range(workers)]
    with ProcessPoolExecutor(workers, context, _prepare, (own_files(),)) as pool:
        todo, running = list(enumerate(jobs))[::-1], dict[Future[dict[str, Any]], tuple[int, str]]()
        try:
            while todo or running:
                # No more than can begin at once: what waits in the pool would still be trained after a Ctrl-C.
                while todo and free:
                    (position, job), device = todo.pop(), free.pop(0)
                    future = pool.submit(_work, cache.path, cache.map.name, job, runs, device, threads)
                    running[future] = position, device
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    position, device = running.pop(future)
                    free.append(device)
                    yield position, future.result()
        except BrokenProcessPool as error:
            raise TrainError(
                "a training process ended at once (out of memory?); repeat the command with a smaller --jobs: what is "
                "finished is kept"
            ) from error


def _prepare(model_files: Sequence[Path]) -> None:
    """Make a process ready: jobs of a user's own models can be read only where these are known."""
    for file in model_files:
        load_model_file(file)
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


class Progress:
    """How far a series is, on stderr: a line for each run that begins, its epochs, and each result."""

    def __init__(self, jobs: int) -> None:
        """Expect so many results."""
        self._jobs, self._done = jobs, 0

    def begin(self, run: Run) -> None:
        """A run begins."""
        say(f"run: {run.path}")

    def show_epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch was trained."""
        say(epoch_line(record))

    def show_result(self, name: str, result: Mapping[str, Any]) -> None:
        """The job of that name was measured, or failed."""
        self._done += 1
        outcome = "  ".join(f"{name} {percent(result.get(name))}" for name in COMPARED)
        if result.get("failed"):
            outcome = f"failed: {result['failed']}"
        say(f"done {self._done} of {self._jobs}: {name}  {outcome}")


@contextmanager
def told_when_interrupted() -> Iterator[None]:
    """Say how a series goes on when it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it stopped")
        raise


def run_and_show(
    cache: FeatureCache,
    jobs: Sequence[Job],
    runs: Path,
    *,
    workers: int | None,
    device: str,
    threads: int,
    as_json: bool,
) -> None:
    """Do the jobs, which differ in the seed alone, and print what they gave."""
    progress = Progress(len(jobs))
    with told_when_interrupted():
        results = run_jobs(
            cache,
            jobs,
            runs,
            workers=workers or choose_workers(device),
            device=device,
            threads=threads,
            on_start=progress.begin,
            on_epoch=progress.show_epoch,
            on_result=lambda position, result: progress.show_result(jobs[position].name, result),
        )
    refuse_all_failed(jobs, results)
    show(_series_result(jobs, results), as_json)


def _series_result(jobs: Sequence[Job], results: Sequence[Mapping[str, Any]]) -> Result:
    """A line for each seed, then mean and deviation."""
    first = next(result for result in results if not result.get("failed"))
    spreads = summarize(results, SHOWN)
    of_seed = ("seed", "run", "selection", "watch_test", *SHOWN, "failed")
    facts = {
        **{name: first[name] for name in _OF_ALL},
        "summary": {name: one.as_json() for name, one in spreads.items()},
        "seeds": [{name: result.get(name) for name in of_seed} for result in results],
    }
    rows = [[str(result["seed"]), *(result.get(name) for name in SHOWN)] for result in results]
    rows.append(["mean ± std", *spreads.values()])
    title = f"{first['model']} on {first['dataset']}, {len(results)} seeds"
    selections = dict.fromkeys(result["selection"] for result in results if "selection" in result)
    notes = [
        *(f"selection: {selection}" for selection in selections),
        *training_notes([(job.name, result) for job, result in zip(jobs, results, strict=True)]),
        *reconstruction_notes([first["model"]]),
        *provenance_notes(first["weights"], first["masked_images"]),
    ]
    return Result(facts, [Table(("seed", *SHOWN), rows, title, words=("seed",))], notes)
