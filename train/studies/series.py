"""Several trainings that belong together: found where they are done, continued where they stopped, shown as one.

They run one after another, or several at once in processes of their own.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache
from msdn.cache.errors import WrongUsageError
from msdn.cache.home import command_line
from msdn.machine import (
    DeviceError,
    choose_devices,
    keep_threads,
    let_waiting_threads_sleep,
    usable_cores,
)
from msdn.signals import end_workers, interruptible, obey_parent
from msdn.terminal import say
from msdn.train.errors import RunError, TrainError
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.ranks import started_by_torchrun
from msdn.train.loop.settings import RunSettings, fields_of
from msdn.train.loop.training import Record, continue_run, groups_of, train_model
from msdn.train.measure.evaluate import evaluate_run, keep_results
from msdn.train.measure.reporting import (
    provenance_notes,
    reconstruction_notes,
    seeds_learning_notes,
    training_notes,
)
from msdn.train.measure.show import Cell, Result, Table, percent
from msdn.train.measure.summary import summarize
from msdn.train.measure.watching import EpochView, SeriesView
from msdn.train.models.registry import load_model_file, own_files
from msdn.train.runs.results import COMPARED, kept_result
from msdn.train.runs.run import VALIDATED, Run, find_runs

SHOWN = ("acc", "U", "S", "H", "H_no_margin", "AUSUC")  # of a series that differs in the seed alone
_MOST_WORKERS = 8  # on a CPU, unless --jobs says otherwise
_OF_ALL = ("dataset", "model", "weights", "fingerprint", "select", "settings", "reconstruction", "chance")
_TOLD = ("groups", "preset", "overrides", "rule", "precision")  # of a job, to a training that begins
_NEWS_EVERY = 0.5  # seconds, from a process that trains
_to_parent: "list[SimpleQueue[tuple[int, str | Record]]]" = []  # in such a process
Numbered = tuple[int, "Job"]  # a job and its position
Done = tuple[int, dict[str, Any]]  # a job's position, and its result


@dataclass(frozen=True)
class Job:
    """One training of a series, with what `train_model` is told of it.

    Attributes:
        validate_only: with `select="val"`, only choose; test images are not looked at.
        precision: as in `train_model`; "auto" takes a run of any that was made before.
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
    rule: dict[str, str] | None = None
    precision: str = "auto"

    @property
    def name(self) -> str:
        """The label and the seed."""
        return ", ".join(filter(None, (self.label, f"seed {self.settings.seed}")))


def find_run(runs: Sequence[Run], job: Job, cache: FeatureCache) -> Run | None:
    """The run among `runs` that did this job, else one that began it, else one that cannot do it."""
    groups = groups_of(cache, job.settings, job.groups)
    wanted = groups and groups.as_json()["groups"]
    alike = [
        run
        for run in runs
        if run.is_of(cache)
        and job.precision in ("auto", run.precision)
        and (
            run.settings == job.settings
            or (not job.as_typed and what_trains(run.settings) == what_trains(job.settings))
        )
        and _groups_only(run.manifest.get("groups")) == wanted
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
    """Do a job as `do_job` does, and measure it; where its training fails, the result holds the reason, no figures."""
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
    """Train, continue, or find the run of a job; one whose training failed in a series before is left as it is.

    A run below `runs` that did the job is used, and one that began it is continued. `on_start` is called where there is
    something to train; the rest is as in `train_model`.
    """
    run = find_run(find_runs(runs, dataset=cache.annotations.dataset), job, cache)
    if run and (_is_done(run, job) or _gave_up(run, job)):
        return run
    how: dict[str, Any] = {"device": device, "features": features, "validate_only": job.validate_only}
    how |= {"on_start": on_start, "on_epoch": on_epoch}
    if run:
        return continue_run(run, cache, **how)
    given: dict[str, Any] = {name: getattr(job, name) for name in _TOLD}
    return train_model(cache, job.settings, runs, **given, **how)


def job_result(cache: FeatureCache, job: Job, run: Run, device: str = "auto") -> dict[str, Any]:
    """What a job's run shows: figures on the validation classes if it was only to choose, else on the test classes."""
    if job.validate_only:
        chosen = {name.removeprefix("val_"): value for name, value in (run.chosen or {}).items()}
        return chosen | {
            "run": str(run.path),
            "seed": run.settings.seed,
            "watch_test": run.manifest.get("watch_test"),
        }
    if job.settings.select != "last" or run.settings == job.settings:
        result = kept_result(run)
        if result is None:
            result = evaluate_run(run, cache, device=device)
            keep_results(run, result)
        return result
    silent = {name: getattr(job.settings, name) for name in _predicting(job.settings)}
    return evaluate_run(run, cache, device=device, predict_with=silent)


def _failure(job: Job, run: Run) -> dict[str, Any]:
    """The result of a job whose training failed."""
    return {"run": str(run.path), "seed": job.settings.seed, "failed": str(run.manifest["reason"])}


def _is_done(run: Run, job: Job) -> bool:
    return run.finished or (job.validate_only and run.manifest["status"] == VALIDATED)


def _gave_up(run: Run, job: Job) -> bool:
    """Whether the training itself failed, which it would do again; a full disk or a lack of memory can be fixed."""
    if job.validate_only and run.chosen:  # all that is asked for was reached
        return False
    reason = run.manifest.get("reason")
    return run.manifest["status"] == "failed" and bool(reason) and run.manifest.get("diverged") == reason


def _groups_only(stored: Any) -> Any:
    return stored["groups"] if isinstance(stored, dict) and "groups" in stored else None


def run_jobs(
    cache: FeatureCache,
    jobs: Sequence[Job],
    runs: Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Do all jobs, say on stderr how far they are, and return their results in the order of the jobs.

    On a CPU every training takes `threads`, however many there are at once, so that a seed's weights are the same.
    Raises a `TrainError` where no training succeeds.

    Args:
        cache: the features.
        jobs: what to train.
        runs: the folder of runs; those that fit are used, whichever series they were made for.
        workers: trainings at once; None means as many as there are GPUs, or else cores. Each has one device until it
            is done, and several share one where there are more of them than devices.
        device: "auto", "cpu", "cuda", …; one name for all, or several with commas.
        threads: of each training on a CPU; their number decides the last digits of sums.
    """
    if started_by_torchrun():
        raise WrongUsageError(
            "torchrun shares one training; several need no torchrun: leave it out, they use all devices by themselves"
        )
    devices = choose_devices(device)
    count = workers or choose_workers(devices)
    places = [devices[number % len(devices)] for number in range(count)]  # one for each training at once
    results: list[dict[str, Any]] = [{} for _ in jobs]
    try:
        for wave in split_waves(jobs):
            todo = [(position, jobs[position]) for position in wave]
            do = _one_by_one if min(count, len(todo)) == 1 else _at_once
            for position, result in do(cache, todo, runs, places[: len(todo)], threads):
                results[position] = result
                number = sum(map(bool, results))
                say(f"done {number} of {len(jobs)}: {jobs[position].name}  {_outcome(result)}")
    except KeyboardInterrupt:
        say("interrupted; repeat the same command to continue where it stopped")
        raise
    _refuse_all_failed(jobs, results)
    return results


def split_waves(jobs: Sequence[Job]) -> list[list[int]]:
    """Positions of the first job of each training, then of those that only predict differently with its weights.

    Jobs of one wave share no training, so that several workers never train the same thing twice.
    """
    trained: dict[RunSettings, int] = {}
    for position, job in enumerate(jobs):
        trained.setdefault(what_trains(job.settings), position)
    firsts = sorted(trained.values())
    rest = sorted(set(range(len(jobs))) - set(firsts))
    return [wave for wave in (firsts, rest) if wave]


def _outcome(result: Mapping[str, Any]) -> str:
    """What a job gave, in a few words."""
    if result.get("failed"):
        return f"failed: {result['failed']}"
    return "  ".join(f"{name} {percent(result.get(name))}" for name in COMPARED)


def _refuse_all_failed(jobs: Sequence[Job], results: Sequence[Mapping[str, Any]]) -> None:
    if all(result.get("failed") for result in results):
        raise TrainError(
            f"no training succeeded; {jobs[0].name}: {results[0]['failed']}. It is not trained again; to try it once "
            f"more, delete it: {command_line('runs', 'delete', Path(results[0]['run']))}"
        )


def choose_workers(devices: Sequence[str]) -> int:
    """As many trainings at once as there are GPUs, or else cores, at most eight."""
    return min(usable_cores(), _MOST_WORKERS) if devices == ["cpu"] else len(devices)


def _one_by_one(
    cache: FeatureCache, todo: Sequence[Numbered], runs: Path, devices: Sequence[str], threads: int
) -> Iterator[Done]:
    """The jobs in this process; each run that begins, and its epochs, are said on stderr."""
    for position, job in todo:
        view = EpochView()

        def begin(run: Run, view: EpochView = view) -> None:
            say(f"run: {run.path}")
            view.expect(run.settings)

        with _threads_on_a_cpu(devices[0], threads), view:
            result = measure_job(cache, job, runs, device=devices[0], on_start=begin, on_epoch=view)
        yield position, result


def _at_once(
    cache: FeatureCache, todo: Sequence[Numbered], runs: Path, devices: Sequence[str], threads: int
) -> Iterator[Done]:
    """The jobs in a process for each of `devices`; they share the features through the file's map."""
    let_waiting_threads_sleep()  # the processes inherit it, and load torch afterwards
    context = multiprocessing.get_context("spawn")  # a forked child can use neither CUDA nor torch's threads
    others = multiprocessing.active_children()
    free, news = list(devices), context.SimpleQueue()
    names = {position: job.name for position, job in todo}
    prepared = ProcessPoolExecutor(len(free), context, _prepare, (own_files(), news))
    with prepared as pool, SeriesView(len(todo)) as view:
        waiting, running = list(todo)[::-1], dict[Future[dict[str, Any]], tuple[int, str]]()
        try:
            while waiting or running:
                # No more than can begin at once: what waits in the pool would still be trained after a Ctrl-C.
                while waiting and free:
                    (position, job), device = waiting.pop(), free.pop(0)
                    what = position, job, runs, device, threads
                    running[pool.submit(_work, cache.path, cache.map.name, *what)] = position, device
                ended = wait(running, timeout=_NEWS_EVERY, return_when=FIRST_COMPLETED).done
                while not news.empty():
                    about, told = news.get()
                    view(names[about], told)
                for future in ended:
                    position, device = running.pop(future)
                    free.append(device)
                    view.end(names[position])
                    yield position, future.result()
        except BrokenProcessPool as error:
            raise TrainError(
                "a training process ended at once (out of memory?); repeat the command with a smaller --jobs: what is "
                "finished is kept"
            ) from error
        except BaseException:
            end_workers(others)  # else the pool waits for the end of what is being trained
            raise


def _prepare(model_files: Sequence[Path], news: "SimpleQueue[tuple[int, str | Record]]") -> None:
    """Make a process ready: jobs of a user's own models can be read only where these are known."""
    obey_parent()
    for file in model_files:
        load_model_file(file)
    _to_parent.append(news)


def _work(
    path: Path, map: str, position: int, job: Job, runs: Path, device: str, threads: int
) -> dict[str, Any]:
    """Do a job, and tell the parent which run begins, and now and then how far it is."""
    how: dict[str, Any] = {"device": device, "features": "auto" if device.startswith("cuda") else "map"}
    told = -float("inf")

    def tell(record: Record) -> None:
        nonlocal told
        if time.monotonic() - told >= _NEWS_EVERY:  # a queue that fills up would hold up the training
            _to_parent[0].put((position, record))
            told = time.monotonic()

    how |= {"on_start": lambda run: _to_parent[0].put((position, str(run.path))), "on_epoch": tell}
    with FeatureCache(path, map) as cache, _threads_on_a_cpu(device, threads), interruptible():
        return measure_job(cache, job, runs, **how)


def _threads_on_a_cpu(device: str, threads: int) -> AbstractContextManager[None]:
    """Sums over several threads are rounded differently: with one, weights do not depend on the number of cores."""
    return keep_threads(None if device.startswith(("cuda", "mps")) else threads)


def series_result(jobs: Sequence[Job], results: Sequence[Mapping[str, Any]]) -> Result:
    """The jobs, which differ in the seed alone: a line for each seed, then mean and deviation."""
    good = [result for result in results if not result.get("failed")]
    first = good[0]
    spreads = summarize(results, SHOWN)
    of_seed = ("seed", "run", "selection", "watch_test", *SHOWN, "failed")
    facts = {
        **{name: first[name] for name in _OF_ALL},
        "summary": {name: one.as_json() for name, one in spreads.items()},
        "seeds": [{name: result.get(name) for name in of_seed} for result in results],
    }
    rows: list[list[Cell]] = [["chance", *(first["chance"].get(name, "") for name in SHOWN)]]
    rows += [[str(result["seed"]), *(result.get(name) for name in SHOWN)] for result in results]
    rows.append(["mean ± std", *spreads.values()])
    columns = ("seed", *(name.replace("_", " ") for name in SHOWN))
    notes = [
        *_selection_lines(good),
        *training_notes([(job.name, result) for job, result in zip(jobs, results, strict=True)]),
        *seeds_learning_notes(good),
        *reconstruction_notes([first["model"]]),
        *provenance_notes(first["weights"], first["masked_images"]),
        f"see this again with: {command_line('compare', *(Path(result['run']) for result in good))}",
    ]
    title = f"{first['model']} on {first['dataset']}, {len(results)} seeds"
    return Result(facts, [Table(columns, rows, title, words=("seed",))], notes)


def _selection_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """How the weights were chosen, once where it came out the same for all seeds."""
    seeds: dict[str, list[str]] = {}
    for result in results:
        seeds.setdefault(result["selection"], []).append(str(result["seed"]))
    if len(seeds) == 1:
        return [f"selection: {selection}" for selection in seeds]
    return [f"selection of seed {', '.join(of)}: {selection}" for selection, of in seeds.items()]
