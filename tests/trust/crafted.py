"""Crafted files: every one is built here, and met by the commands that would open it; none may do harm.

`python tests/trust/crafted.py [PART OF A NAME …]` tries all and prints tried and failed. A command may refuse a file
in a sentence, or take it where only what msdn never reads was changed. It may not crash, compute for over 20 s, grow
by 1 GB, show or copy a file that is none of its own, run code, write through a link, or send control characters to the
terminal.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy_runs import write_split_cache
from trust import crafted_caches, crafted_files
from trust.crafted_files import Place, Words
from trust.fenced import CANARY, MARKER, Ended, import_all, run

MEASURES = ("train", "evaluate", "export", "verify", "predict")
Case = tuple[str, str, object]  # family, name, craft


def all_cases() -> list[Case]:
    """Every crafted file, by its family and name."""
    families = {
        "structure": crafted_caches.HARMLESS,
        "names": crafted_caches.NAMES,
        "cache": crafted_caches.BROKEN,
        "import": crafted_files.IMPORTS,
        "table": crafted_files.TABLES,
        "image": crafted_files.IMAGES,
        "run": crafted_files.RUNS,
    }
    return [(family, name, craft) for family, table in families.items() for name, craft in table.items()]


def prepare(root: Path, is_trained: bool) -> Place:
    """A home with a cache, a run trained on it if it is to be there, and the canary, to be copied for every case."""
    place = _place(root)
    place.folder.mkdir(parents=True)
    place.canary.write_bytes((CANARY + b"\n") * 20)
    write_split_cache(place.cache)
    if not is_trained:
        return place
    words = (
        "train",
        "--cache",
        place.cache,
        "--epochs",
        1,
        "--name",
        "good",
        "--device",
        "cpu",
        "--home",
        place.home,
    )
    done = run(words, place.folder)
    assert done.code == 0, done.output.decode()
    return place


def _place(root: Path) -> Place:
    home = root / "home"
    cache = home / "features" / "toy-224-random.h5"
    runs = sorted(home.glob("runs/*/manifest.json"))
    found = runs[0].parent if runs else home / "runs" / "good"
    return Place(root / "work", home, cache, found, root / "canary")


def try_case(case: Case, good: Path, root: Path) -> tuple[int, list[str]]:
    """Build the file in a copy of the prepared home; return how many commands met it, and what went wrong."""
    family, name, craft = case
    shutil.copytree(good, root, symlinks=True)
    place = _place(root)
    ended, faults = [], []
    for words in _commands(family, craft, place):
        one = run(words, place.folder)
        ended.append(one)
        faults += [f"{fault}, at 'msdn {' '.join(one.words)}'" for fault in _judge(family, one)]
    if place.canary.read_bytes() != (CANARY + b"\n") * 20:
        faults.append("the canary was written to")
    found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    for path in found:
        if path.name == MARKER:
            faults.append("code was run")
        if path != place.canary and path.name != "output" and path.stat().st_size < 2**26:
            faults += [f"the canary was copied to {path}"] if CANARY in path.read_bytes() else []
    shutil.rmtree(root)
    return len(ended), [f"{family}: {name}: {fault}" for fault in faults]


def _commands(family: str, craft: object, place: Place) -> Iterator[Words]:
    if family in ("import", "table", "image", "run"):
        yield from craft(place)
        return
    craft(place.cache, place.canary)
    (place.folder / "evil.py").write_text(f"open({MARKER!r}, 'w')")
    cache, at, cpu = place.cache, ("--home", place.home), ("--device", "cpu")
    yield "cache", "info", cache
    yield "cache", "verify", cache
    yield "data", "status", *at
    yield "doctor", *at
    yield "evaluate", "--cache", cache, *cpu, *at
    yield "train", "--cache", cache, "--epochs", 1, *cpu, *at
    yield "predict", "--cache", cache, "--rows", "0-3", *cpu, *at
    yield "cache", "export", cache, place.folder / "out.hdf5"
    yield "cache", "annotate", cache, "--vectors", cache
    yield "cache", "import", cache, "--dataset", "toy"
    if family == "names":
        yield "explain", "--cache", cache, "--rows", "0", *cpu, *at
        yield "report", "--cache", cache, *cpu, *at
    partial = cache.with_name("imported.h5.partial")
    if cache.is_file():
        cache.rename(partial)
        yield "cache", "info", partial
        yield (
            "cache",
            "import",
            place.folder / "out.hdf5",
            "--dataset",
            "toy",
            "--out",
            cache.with_name("imported.h5"),
        )
        shard = cache.with_name("joined.h5.shard-0000-of-0001")
        if partial.is_file():
            partial.rename(shard)
        yield "cache", "merge", cache.with_name("joined.h5")


def _judge(family: str, one: Ended) -> Iterator[str]:
    yield from one.faults()
    if family == "cache" and one.code == 0 and any(word in MEASURES for word in one.words[:2]):
        yield "took what should have been refused"
    if family == "structure" and one.code and one.words[0] in ("train", "evaluate"):
        yield f"refused what was not read: {one.output.decode()[-200:]}"
    if one.code and b"Error: " not in one.output and one.words[0] != "doctor":
        yield f"ended with {one.code} without a sentence: {one.output.decode(errors='replace')[-200:]}"


def campaign(names: tuple[str, ...] = ()) -> tuple[int, int, list[str]]:
    """Try the cases that have one of the names as a part, or all; return cases, commands and failures."""
    cases = [
        case for case in all_cases() if not names or any(name in f"{case[0]}: {case[1]}" for name in names)
    ]
    commands, failures = 0, []
    with tempfile.TemporaryDirectory() as folder:
        good, is_trained = Path(folder) / "good", any(family != "import" for family, *_ in cases)
        if is_trained:
            import_all()
        prepare(good, is_trained)
        for number, case in enumerate(cases):
            tried, faults = try_case(case, good, Path(folder) / f"case-{number}")
            commands += tried
            failures += faults
            for fault in faults:
                print(fault, flush=True)
    return len(cases), commands, failures


def main() -> None:
    """Print what was tried and what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    cases, commands, failures = campaign(tuple(parser.parse_args().names))
    print(f"crafted files: {cases} files, {commands} commands, {len(failures)} failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
