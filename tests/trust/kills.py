"""SIGKILL at the writing calls of every command: the same command goes on, to the same bytes.

python tests/trust/kills.py [--all] [--command export --call 17 --when inside]
python tests/trust/kills.py --command extract-rows --at .h5.partial --all
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from campaign import Campaign, main, parser
from cases import Case
from runner import Place, Snapshot
from shim import WHENS, Action, Call, Kind, Order


@dataclass(frozen=True)
class Kill:
    """A kill of the whole process group before, inside or after one call."""

    call: int
    when: str
    text: str = ""
    path: str = ""


def list_kills(calls: Sequence[Call], with_after: bool = False) -> list[Kill]:
    """A kill before every call, in the middle of every write, and after the last call.

    What lies on the disk after one call is what lies there before the next; `--when after` tries it all the same.
    """
    return [
        Kill(call.number, when, call.name, call.path)
        for call in calls
        for when in WHENS
        if when != "inside" or (call.kind in (Kind.WRITE, Kind.COPY) and call.bytes > 1)
        if when != "after" or call is calls[-1] or with_after
        if call.name != "sync"  # the shim only notes it
    ]


def judge(place: Place, case: Case, kill: Kill, end: Snapshot) -> list[str]:
    """Kill the command there, look at other people's files, go on, and compare the end."""
    ended = place.run(case.arguments, Order(Action.KILL, kill.call, when=kill.when))
    killed = ended.status == -signal.SIGKILL and not ended.hung
    wrong = [] if killed else [f"not killed: exit {ended.status}, {ended.calls} calls: {ended.words}"]
    wrong += [f"touched {name}" for name in place.touched_decoys()]
    return wrong + place.go_on(case, end)


def repeat(kill: Kill) -> str:
    """The options of one kill."""
    return f"--call {kill.call} --when {kill.when}  # {kill.text}"


KILLS = Campaign("kills", list_kills, judge, repeat)
KILLS_AFTER = Campaign("kills", lambda calls: list_kills(calls, with_after=True), judge, repeat)

if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--when", choices=WHENS, help="only before, inside or after the calls")
    options.add_argument("--at", default="", metavar="END", help="only at files whose names end so")
    given = options.parse_args()
    main(
        KILLS_AFTER if given.when == "after" else KILLS,
        given,
        lambda kill: (
            given.call in (None, kill.call)
            and given.when in (None, kill.when)
            and kill.path.endswith(given.at)
        ),
    )
