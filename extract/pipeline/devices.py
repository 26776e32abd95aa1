"""Several devices of one machine: a process for each, which fills its shards of the cache."""

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from msdn.cache.errors import explain_os_error
from msdn.cache.home import Home
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.outcome import Extraction
from msdn.extract.pipeline.progress import Progress, Watcher
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.extract.pipeline.sharded import add_progress
from msdn.extract.pipeline.worker import ALONE, Worker
from msdn.machine import let_waiting_threads_sleep, usable_cores
from msdn.signals import end_workers, interruptible, obey_parent

Extract = Callable[[ExtractSettings, Home, Watcher], Extraction]
POLL_SECONDS = 0.2  # how soon the end of a process is noticed


def run_on_devices(
    extract: Extract, settings: ExtractSettings, home: Home, devices: Sequence[str], watcher: Watcher
) -> Extraction:
    """Call `extract` in a process for each device, and wait for all; what one leaves, a repetition takes up."""
    let_waiting_threads_sleep()  # the processes inherit it, and load torch afterwards
    context = multiprocessing.get_context("spawn")  # a forked child can use neither CUDA nor torch's threads
    said: multiprocessing.Queue[tuple[int, str, Any]] = context.Queue()
    orders = [_order(settings, number, devices) for number in range(len(devices))]
    processes = [
        context.Process(target=_work, args=(extract, order, home, number, said))
        for number, order in enumerate(orders)
    ]
    others = multiprocessing.active_children()
    for process in processes:
        process.start()
    try:
        results = _listen(processes, said, watcher)
    except BaseException:
        end_workers(others)
        raise
    finally:
        for process in processes:
            process.join()
    failed = [
        f"{device}: {result}"
        for device, result in zip(devices, results, strict=True)
        if isinstance(result, str)
    ]
    if failed:
        raise ExtractError("\n".join([*dict.fromkeys(failed), "What the processes finished is kept."]))
    return _join([result for result in results if isinstance(result, Extraction)])


def _order(settings: ExtractSettings, number: int, devices: Sequence[str]) -> ExtractSettings:
    """What one process is to do: among several machines, each has as many workers as devices."""
    of = settings.worker or ALONE
    worker = Worker(of.index * len(devices) + number, of.count * len(devices), f"device {devices[number]}")
    readers = settings.workers or max(1, usable_cores() // len(devices))
    return replace(settings, device=devices[number], devices="", worker=worker, workers=readers)


def _work(
    extract: Extract,
    settings: ExtractSettings,
    home: Home,
    number: int,
    said: "multiprocessing.Queue[tuple[int, str, Any]]",
) -> None:
    """Extract in this process, and tell the one that started it."""
    obey_parent()
    watcher = Watcher(
        on_stage=lambda text: said.put((number, "stage", text)),
        on_progress=lambda progress: said.put((number, "progress", progress)),
    )
    try:
        with interruptible():
            said.put((number, "end", extract(settings, home, watcher)))
    except OSError as error:
        said.put((number, "end", explain_os_error(error)))
    except (ValueError, RuntimeError, MemoryError) as error:
        said.put((number, "end", str(error) or type(error).__name__))


def _listen(
    processes: Sequence[Any], said: "multiprocessing.Queue[tuple[int, str, Any]]", watcher: Watcher
) -> list[Extraction | str]:
    """Pass on what the processes say until the last has ended; one that was killed says nothing more."""
    results: dict[int, Extraction | str] = {}
    progress: dict[int, Progress] = {}
    told: set[str] = set()
    while len(results) < len(processes):
        are_running = [process.is_alive() for process in processes]
        try:
            number, kind, value = said.get(timeout=POLL_SECONDS)
        except queue.Empty:
            for number, process in enumerate(processes):
                if not are_running[number]:
                    results.setdefault(
                        number, f"its process ended with code {process.exitcode} (out of memory?)"
                    )
            continue
        if kind == "end":
            results[number] = value
        elif kind == "progress":
            progress[number] = value
            watcher.on_progress(_join_progress([*progress.values()]))
        elif value not in told:
            told.add(value)
            watcher.on_stage(value)
    return [results[number] for number in range(len(processes))]


def _join_progress(all_of: Sequence[Progress]) -> Progress:
    """The work of processes side by side: their seconds are shared, all else adds up."""
    total = Progress(0, 0)
    for one in all_of:
        total = add_progress(total, one)
    n = len(all_of)
    seconds = {name: getattr(total, name) / n for name in ("reading", "computing", "writing")}
    return replace(total, elapsed=max(one.elapsed for one in all_of), **seconds)


def _join(done: Sequence[Extraction]) -> Extraction:
    """What all did; the shards are as the last to end found them."""
    shards = [one.shards for one in done if one.shards is not None]
    if not shards:
        return done[0]
    missing = set(shards[0].missing).intersection(*(one.missing for one in shards))
    joined = replace(
        shards[0],
        mine=tuple(path for one in shards for path in one.mine),
        missing=tuple(sorted(missing)),
        busy={number: why for one in shards for number, why in one.busy.items()},
    )
    return replace(
        done[0],
        progress=_join_progress([one.progress for one in done]),
        masked={path: why for one in done for path, why in one.masked.items()},
        was_complete=all(one.was_complete for one in done),
        shards=joined,
    )
