"""Errors at the writing calls of every command: a sentence and no traceback, and the same command goes on.

python tests/trust/faults.py [--all] [--command export --call 17 --fault ENOSPC [--on]]
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from campaign import Campaign, main, parser
from cases import Case
from runner import Ended, Place, Snapshot, differences
from shim import FAULTS, Call, Order

HARMLESS = ("EINTR", "short")  # the same result is right, too
LIKE_OTHERS = ("EDQUOT", "EFBIG")  # answered as ENOSPC is: tried only with --fault
ENDLESS = ("EIO", "ENOSPC", "EDQUOT", "EFBIG", "short")  # also from one call on: a full disk stays full


@dataclass(frozen=True)
class Fault:
    """One fault at one call, or from it on."""

    call: int
    fault: str
    on: bool
    text: str = ""


def list_faults(calls: Sequence[Call], names: Sequence[str] = ()) -> list[Fault]:
    """Every fault that each call can have; `names` are the only ones, where there are any."""
    return [
        Fault(call.number, name, on, call.name)
        for call in calls
        for name, (_, _, kinds) in FAULTS.items()
        if (name in names if names else name not in LIKE_OTHERS)
        if call.kind in kinds
        and (name != "short" or call.bytes > 1)
        and call.name not in ("fopen", "mmap", "sync")
        for on in ((False, True) if name in ENDLESS else (False,))
    ]


def judge(place: Place, case: Case, fault: Fault, end: Snapshot) -> list[str]:
    """Run the command with the fault, look at what it says, go on without, and compare the end."""
    action, number, kinds = FAULTS[fault.fault]
    ended = place.run(case.arguments, Order(action, fault.call, fault.on, error=number, kinds=kinds))
    hit = [call for call in place.log() if call.mark in ("failed", "half")]
    wrong = judge_words(ended, fault, hit) if hit else ["the fault never came"]
    if ended.status == 0 and fault.fault in HARMLESS:
        wrong += differences(end, place.snapshot())
    wrong += [f"touched {name}" for name in place.touched_decoys()]
    return wrong + place.go_on(case, end)


def judge_words(ended: Ended, fault: Fault, hit: Sequence[Call]) -> list[str]:
    """What is wrong with the way that a command ended, at which these calls failed."""
    if ended.hung:
        return ["hung"]
    if ended.status < 0:
        return [f"signal {-ended.status}"]
    if "Traceback" in ended.err + ended.out:
        return [f"traceback: {ended.words}"]
    if ended.status == 0:
        unsaid = [call for call in hit if fault.fault not in HARMLESS and not may_fail(call)]
        return [f"exit 0, although {unsaid[0].name} failed"] if unsaid else []
    is_good = ended.status == 1 and "Error: " in ended.err
    return [] if is_good else [f"exit {ended.status} without a sentence: {ended.words}"]


def may_fail(call: Call) -> bool:
    """Calls whose failure changes nothing: a lock's hint for others, a faster way of copying."""
    return call.path.endswith(".lock") or call.name in ("ficlone", "copy_file_range", "sendfile")


def repeat(fault: Fault) -> str:
    """The options of one fault."""
    return f"--call {fault.call} --fault {fault.fault}{' --on' * fault.on}  # {fault.text}"


FAULTY = Campaign("faults", list_faults, judge, repeat)

if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--fault", choices=FAULTS, help="only this one")
    options.add_argument("--on", action="store_true", help="only faults that stay")
    given = options.parse_args()
    only = [given.fault] if given.fault else []
    main(
        dataclasses.replace(FAULTY, list_trials=lambda calls: list_faults(calls, only)),
        given,
        lambda fault: (
            given.call in (None, fault.call)
            and (fault.on if given.on else given.call is None or not fault.on)
        ),
    )
