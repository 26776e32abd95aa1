"""Reads the order of all writing calls of every command: data before mark, mark before name, name before folder.

A power cut keeps what was flushed and may lose anything else, in any order. So a file is flushed before it gets its
name, its folder after that, and a row's data before the mark that says it is done.

python tests/trust/order.py [--command export]
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from campaign import Campaign, main, parser
from cases import Case
from runner import DRY, Place, Snapshot
from shim import Call, Kind

EXCEPT = (".lock",)  # a lock's file has no content that counts, and is gone with its holder
MANIFEST = "manifest.json"
Range = tuple[int, int]


class Disk:
    """What a power cut could lose, call by call."""

    def __init__(self, folder: Path, marks: Mapping[str, Range]) -> None:
        """Begin with nothing unflushed below a folder; `marks` are the bytes that say which rows are done, by file."""
        self.folder, self._marks = folder, marks
        self.data: dict[str, Call] = {}  # a file's last write that is not flushed
        self.before_mark: dict[str, Call] = {}  # the same, of bytes that are not marks
        self.names: dict[str, dict[str, Call]] = defaultdict(dict)  # by folder: new names in it
        self.early: dict[str, list[str]] = {}  # files that were not flushed at the last renewal of a manifest
        self.wrong: list[str] = []

    def see(self, call: Call) -> None:
        """Take in one call."""
        if call.result < 0 or call.path.endswith(EXCEPT):
            return
        if call.mark in ("stdio", "shared"):
            self._blame(call, "is written in a way that the shim does not see")
        if call.mark in ("new", "emptied"):
            self._name(call.path, call)
        if call.mark == "emptied" or call.kind in (Kind.WRITE, Kind.SIZE, Kind.COPY):
            self._write(call)
        elif call.name in ("sync", "syncfs"):
            self.data, self.before_mark, self.names = {}, {}, defaultdict(dict)
        elif call.kind == Kind.FLUSH:
            for unflushed in (self.data, self.before_mark, self.names):
                unflushed.pop(call.path, None)
        elif call.kind == Kind.FOLDER:
            self._name(call.path, call)
        elif call.kind == Kind.REMOVE:
            self._forget(call.path)
        elif call.kind == Kind.NAME:
            self._rename(call)

    def end(self) -> list[str]:
        """What is left unflushed when the command has ended, and all that was wrong before."""
        for call in self.data.values():
            self._blame(call, "is never flushed")
        for folder, names in self.names.items():
            for call in names.values():
                self._blame(call, f"gets a name, and its folder {self._short(folder)} is never flushed")
        return self.wrong + [one for early in self.early.values() for one in early]

    def _write(self, call: Call) -> None:
        start, stop = self._marks.get(call.path, (0, 0))
        if start <= call.offset < stop:
            if call.path in self.before_mark:
                self._blame(
                    call, f"is marked before its data is flushed ({self.before_mark[call.path].name})"
                )
        else:
            self.before_mark[call.path] = call
        self.data[call.path] = call

    def _name(self, path: str, call: Call) -> None:
        self.names[str(Path(path).parent)][path] = call

    def _forget(self, path: str) -> None:
        self.data.pop(path, None)
        self.before_mark.pop(path, None)
        self.names.pop(path, None)
        self.names[str(Path(path).parent)].pop(path, None)

    def _rename(self, call: Call) -> None:
        old, new = call.path, call.other
        for path in [one for one in self.data if one == old or one.startswith(old + "/")]:
            self._blame(call, f"gets its name before {self._short(path)} is flushed")
            del self.data[path]
        for folder in [one for one in self.names if one == old or one.startswith(old + "/")]:
            if self.names[folder]:
                self._blame(call, f"gets its name before names in {self._short(folder)} are flushed")
            del self.names[folder]
        if Path(new).name == MANIFEST:
            beside = [path for path in self.data if Path(path).parent == Path(new).parent]
            self.early[new] = [
                f"{self._short(new)}: its last renewal comes before {self._short(path)} is flushed"
                for path in beside
            ]
        self._forget(new)
        if call.name != "linkat":
            self._forget(old)
        self._name(new, call)

    def _blame(self, call: Call, what: str) -> None:
        self.wrong.append(f"{call.describe(self.folder)}: {what}")

    def _short(self, path: str) -> str:
        return str(Path(path).relative_to(self.folder))


def find_marks(folder: Path) -> dict[str, Range]:
    """Where the marks of every cache lie, by the names that its file has while it is filled."""
    from msdn.cache.header import read_header
    from msdn.cache.layout import STATES

    marks = {}
    for path in folder.rglob("*.h5"):
        try:
            header = read_header(path)
        except ValueError:  # a published file
            continue
        place = header.places[STATES]
        begin = place.start_of(0)
        marks[f"{path}.partial"] = begin, begin + len(header.states) * place.row_bytes
    return marks


def check_order(calls: Sequence[Call], folder: Path, marks: Mapping[str, Range]) -> list[str]:
    """All that a power cut could have found in the wrong order."""
    disk = Disk(folder, marks)
    for call in calls:
        disk.see(call)
    return disk.end()


def judge(place: Place, case: Case, trial: str, end: Snapshot) -> list[str]:
    """Run the command undisturbed, and read its log."""
    place.run(case.arguments, DRY)
    return check_order(place.log(), place.folder, find_marks(place.folder))


ORDERS = Campaign[str]("order", lambda _calls: ["the log"], judge, lambda _trial: "")

if __name__ == "__main__":
    main(ORDERS, parser(__doc__ or "").parse_args(), lambda _trial: True)
