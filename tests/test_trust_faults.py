"""The campaigns of tests/trust: the tools themselves, a small part of each, and (slow) all commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "trust"))

from campaign import Campaign, run_campaign
from cases import CASES, HOME, READERS
from faults import FAULTY
from kills import KILLS
from order import ORDERS, check_order
from runner import DRY, workshop
from shim import CONTROL, Action, Call, Control, Kind, Order, compile_shim, read_log, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

LIGHT = [CASES["vectors"]]  # needs no torch, so a run takes a moment
PROGRAM = """
import os, sys
os.setsid()
with open("new.txt", "wb", buffering=0) as file:
    print(file.write(b"0123456789"))
    os.fsync(file.fileno())
os.rename("new.txt", "named.txt")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("build"))


class Watched:
    """A program of a few calls, under the shim."""

    def __init__(self, root: Path, library: Path) -> None:
        self.folder, self._root, self._library = root / "folder", root, library
        self.folder.mkdir()

    def run(self, order: Order) -> tuple[subprocess.CompletedProcess[str], list[Call]]:
        control = Control(self._root / "control")
        control.arm(self.folder, self._root / "log", order)
        environment = os.environ | {"LD_PRELOAD": str(self._library), CONTROL: str(self._root / "control")}
        done = subprocess.run(
            [sys.executable, "-S", "-c", PROGRAM],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done, read_log(self._root / "log")


@pytest.fixture
def watched(tmp_path: Path, library: Path) -> Watched:
    return Watched(tmp_path, library)


def test_the_shim_numbers_every_call_that_changes_a_file(watched: Watched) -> None:
    done, calls = watched.run(DRY)
    assert done.returncode == 0, done.stderr
    assert [call.name.removesuffix("64") for call in calls] == ["open", "write", "fsync", "close", "rename"]
    assert [call.number for call in calls] == [1, 2, 3, 4, 5]
    assert calls[0].mark == "new" and calls[1].bytes == 10
    assert calls[4].other == str(watched.folder / "named.txt")


@pytest.mark.parametrize("when, content", [("before", b""), ("inside", b"01234"), ("after", b"0123456789")])
def test_a_kill_at_a_write_leaves_nothing_half_or_all_of_it(
    watched: Watched, when: str, content: bytes
) -> None:
    done, _ = watched.run(Order(Action.KILL, 2, when=when))
    assert done.returncode == -9
    assert (watched.folder / "new.txt").read_bytes() == content


@pytest.mark.parametrize("call, named", [(1, False), (2, False), (5, False), (9, True)])
def test_a_fault_comes_at_its_call_and_at_no_other(watched: Watched, call: int, named: bool) -> None:
    done, calls = watched.run(Order(Action.FAIL, call, error=28))
    assert (watched.folder / "named.txt").exists() == named
    assert ("No space left" in done.stderr) != named
    assert [one.number for one in calls if one.mark == "failed"] == ([] if named else [call])


def test_a_short_write_says_how_much_it_wrote(watched: Watched) -> None:
    done, _ = watched.run(Order(Action.SHORT, 1, on=True, kinds=Kind.WRITE))
    assert done.stdout == "5\n"
    assert (watched.folder / "named.txt").read_bytes() == b"01234"


def line(number: int, name: str, path: str, other: str = "", offset: int = 0, mark: str = "") -> Call:
    return Call(number, 1, name, f"/w/{path}", other and f"/w/{other}", 8, offset, 0, mark)


NEW, FILLED = line(1, "open64", "a.partial", mark="new"), line(2, "write", "a.partial")
FLUSHED, NAMED = line(3, "fsync", "a.partial"), line(4, "rename", "a.partial", "a")
FOLDER = line(5, "fsync", "")
MARKED = line(3, "pwrite64", "a.partial", offset=100)


@pytest.mark.parametrize(
    "calls, wrong",
    [
        ([NEW, FILLED, FLUSHED, NAMED, FOLDER], []),
        ([NEW, FILLED, NAMED, FOLDER], ["before a.partial is flushed"]),
        ([NEW, FILLED, FLUSHED, NAMED], ["never flushed"]),
        ([NEW, FILLED, FLUSHED, FOLDER, NAMED], ["never flushed"]),
        ([FILLED], ["never flushed"]),
        ([FILLED, MARKED, FLUSHED], ["marked before its data"]),
        ([FILLED, FLUSHED, MARKED, FLUSHED], []),
        ([line(1, "mkdir", "runs")], ["never flushed"]),
        ([line(1, "fopen", "a", mark="stdio")], ["does not see"]),
    ],
)
def test_a_wrong_order_is_named(calls: list[Call], wrong: list[str]) -> None:
    calls = [call if call.path != "/w/" else line(call.number, "fsync", ".") for call in calls]
    calls = [
        Call(*(c.number, c.process, c.name, c.path.removesuffix("/."), *list(vars(c).values())[4:]))
        for c in calls
    ]
    found = check_order(calls, Path("/w"), {"/w/a.partial": (100, 200)})
    assert len(found) == len(wrong) and all(part in one for part, one in zip(wrong, found, strict=True)), (
        found
    )


@pytest.mark.parametrize("campaign", [ORDERS, KILLS, FAULTY], ids=["order", "kills", "faults"])
def test_a_few_trials_of_a_command_that_needs_no_torch(campaign: Campaign) -> None:
    (tally,) = run_campaign(campaign, LIGHT, 6, light=True)
    assert tally.calls and tally.tried
    assert tally.failed == []


@pytest.mark.slow
@pytest.mark.parametrize("campaign", [ORDERS, KILLS, FAULTY], ids=["order", "kills", "faults"])
def test_every_command(campaign: Campaign) -> None:
    tallies = run_campaign(campaign, [*CASES.values()], 40, jobs=os.cpu_count() or 1)
    assert all(tally.calls and tally.tried for tally in tallies)
    assert [failed for tally in tallies for failed in tally.failed] == []


@pytest.mark.slow
def test_commands_that_only_look_write_nothing() -> None:
    with workshop() as (place,):
        place.prepare(CASES["report"])
        before = place.snapshot()
        place.run(("doctor", *HOME))  # tries whether it may write, with a file that has no name
        assert place.snapshot() == before
        for arguments in READERS:
            ended = place.run(arguments, DRY)
            assert ended.status in (0, 1), (arguments, ended.words)
            assert [call.describe(place.folder) for call in place.log()] == [], arguments
