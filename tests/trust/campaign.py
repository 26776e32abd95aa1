"""What kills.py, faults.py and order.py share: which trials, in how many places at once, and what is printed."""

import argparse
import os
import queue
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cases import CASES, Case
from runner import CampaignError, Place, Snapshot, workshop
from shim import Call, why_not

Trial = TypeVar("Trial")
SEED = 12
MOST_LINES = 8  # of one trial's mistakes


@dataclass
class Tally(Generic[Trial]):
    """One command's part of a campaign.

    Attributes:
        calls: how many writing calls were found.
        tried: how many trials were made.
        failed: a line for each that failed: how to repeat it, and what was wrong.
    """

    command: str
    calls: int = 0
    tried: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0


@dataclass(frozen=True)
class Campaign(Generic[Trial]):
    """A kind of trial.

    Attributes:
        name: of the script.
        list_trials: all trials of a command, by its calls.
        judge: makes one trial, and says what was wrong.
        repeat: the options that make this trial again.
    """

    name: str
    list_trials: Callable[[Sequence[Call]], list[Trial]]
    judge: Callable[[Place, Case, Trial, Snapshot], list[str]]
    repeat: Callable[[Trial], str]


def parser(about: str) -> argparse.ArgumentParser:
    """The options that all of them have."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--command", action="append", choices=CASES, help="only this command; can be repeated"
    )
    parser.add_argument("--call", type=int, help="only this call")
    parser.add_argument("--most", type=int, default=40, help="trials of each command (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="every trial there is")
    parser.add_argument(
        "--seed", type=int, default=SEED, help="of the choice of trials (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="commands at once")
    return parser


def shorten(wrong: Sequence[str]) -> list[str]:
    """What was wrong, without a run's time, and no more lines than one can read."""
    lines = list(dict.fromkeys(re.sub(r"\d{8}-\d{6}", "TIME", line) for line in wrong))
    return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], f"and {len(lines) - MOST_LINES} more"]


def choose(trials: Sequence[Trial], most: int | None, seed: int) -> list[Trial]:
    """So many trials, in their order; the same ones for the same seed."""
    if most is None or len(trials) <= most:
        return list(trials)
    return [trials[n] for n in sorted(random.Random(seed).sample(range(len(trials)), most))]


def run_case(
    campaign: Campaign[Trial],
    place: Place,
    case: Case,
    most: int | None,
    seed: int,
    wanted: Callable[[Trial], bool],
) -> Tally[Trial]:
    """All chosen trials of one command."""
    tally, began = Tally[Trial](case.name), time.monotonic()
    try:
        place.prepare(case)
        calls, end = place.dry_run(case)
        tally.calls = len(calls)
        if place.touched_without_fault:
            touched = f"{case.name}: without any fault: touched {', '.join(place.touched_without_fault)}"
            tally.failed.append(touched)
            print(touched, flush=True)
        limit = min(most, case.most or most) if most is not None else None
        for trial in choose([one for one in campaign.list_trials(calls) if wanted(one)], limit, seed):
            place.restore()
            wrong = campaign.judge(place, case, trial, end)
            tally.tried += 1
            if wrong:
                again = (
                    f"python tests/trust/{campaign.name}.py --command {case.name} {campaign.repeat(trial)}"
                )
                tally.failed.append("\n    ".join([again, *shorten(wrong)]))
                print(tally.failed[-1], flush=True)
    except CampaignError as error:
        tally.failed.append(str(error))
        print(error, flush=True)
    tally.seconds = time.monotonic() - began
    return tally


def run_campaign(
    campaign: Campaign[Trial],
    cases: Sequence[Case],
    most: int | None,
    *,
    seed: int = SEED,
    jobs: int = 1,
    light: bool = False,
    wanted: Callable[[Trial], bool] = lambda _trial: True,
) -> list[Tally[Trial]]:
    """Every command's trials, several commands at once; a line for each on standard output."""
    with workshop(min(jobs, len(cases)), light) as places, ThreadPoolExecutor(len(places)) as pool:
        free: queue.SimpleQueue[Place] = queue.SimpleQueue()
        for place in places:
            free.put(place)

        def work(case: Case) -> Tally[Trial]:
            place = free.get()
            try:
                tally = run_case(campaign, place, case, most, seed, wanted)
            finally:
                free.put(place)
            line = (
                f"{case.name:16} {tally.calls:4} calls  {tally.tried:5} tried  {len(tally.failed):4} failed"
            )
            print(f"{line}  {tally.seconds:6.0f} s", flush=True)
            return tally

        return list(pool.map(work, cases))


def main(campaign: Campaign[Trial], options: argparse.Namespace, wanted: Callable[[Trial], bool]) -> None:
    """Run the campaign of a command line, and end with 1 where anything failed."""
    reason = why_not()
    if reason:
        sys.exit(reason)
    cases = [CASES[name] for name in options.command or CASES]
    most = None if options.all or options.call is not None else options.most
    began = time.monotonic()
    tallies = run_campaign(campaign, cases, most, seed=options.seed, jobs=options.jobs, wanted=wanted)
    calls, tried = sum(one.calls for one in tallies), sum(one.tried for one in tallies)
    failed = sum(len(one.failed) for one in tallies)
    chosen = "all" if most is None else f"at most {most} of each, seed {options.seed}"
    minutes = (time.monotonic() - began) / 60
    found = f"{len(cases)} commands, {calls} writing calls found"
    print(f"{campaign.name}: {found}; {tried} tried ({chosen}), {failed} failed; {minutes:.1f} min")
    sys.exit(bool(failed) or not tried)
