"""The commands that write, each on a tiny dataset: what lies there before, how it is called, how it goes on.

A case runs in a folder of its own, with the home `home` in it and its own dataset `birds`: 12 images of 4 classes.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))  # for the toys of the other tests

SERVER = "MSDN_TRUST_SERVER"  # the address of the server that archives come from
HOME = ("--home", "home")
TINY = ("--backbone", "tiny.py", "--weights", "random", "--device", "cpu", "--precision", "float32")
EXTRACT = (
    "extract",
    "--dataset",
    "birds",
    *TINY,
    "--batch-size",
    "4",
    "--workers",
    "1",
    "--threads",
    "1",
    *HOME,
)
CACHE, SHARDED, RUN = "home/features/birds.h5", "home/features/shared.h5", "first"
MAKE = (*EXTRACT, "--out", CACHE)
HOW = ("--cache", CACHE, "--device", "cpu", "--threads", "1", *HOME)
SHORT = ("--epochs", "2", "--batch-size", "4", "--precision", "float32")
TRAIN = ("train", *HOW, *SHORT)
MANY = (*HOW, *SHORT, "--epochs", "1", "--jobs", "1", "--seeds")
LOOK = ("--run", RUN, "--device", "cpu", "--threads", "1", *HOME)
SEE = ("birds/images/crane", *LOOK, "--backbone", "tiny.py", "--workers", "1")
BACKBONE = """
from torch import nn
from msdn.extract.backbones import Backbone, Preparation

def build():
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8), nn.ReLU()))

BACKBONE = Backbone(build=build, layer="0", preparation=Preparation(size=16))
"""
DECOYS = {  # files of other people, which no command may touch
    "home/features/other-224-random.h5.partial": b"somebody's unfinished extraction",
    "home/features/mine.h5.creating": b"not ours either",
    "home/runs/.keep": b"",
    "home/runs/notes/thoughts.txt": b"seed 3 looked odd",
    "home/studies/mine.csv": b"a,b\n1,2\n",
    "home/data/photos.zip": b"PK",
    "out/OUT.h5.partial": b"an unfinished extraction with an unlucky name",
    "out/table.csv.bak": b"an old table",
    "birds/notes.md": b"from the garden",
}
LEFT = r".*\.lock"  # may stay after a kill: the next command that works on that file takes it over, and removes it
Msdn = Callable[..., object]
Commands = list[tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """One command that writes.

    Attributes:
        name: as `--command` takes it.
        arguments: the command line.
        prepare: what makes the folder that it runs in, after `base`; it is given the folder and a way to run commands.
        again: which commands go on after it was stopped; None means the same one.
        refuses: what it answers where everything is done already, as its help says.
        adds: a pattern of files that repeating the command adds, as its help says: it replaces none.
        most: how many of its calls a sampled campaign tries, where it is slow; None means as many as of all.
    """

    name: str
    arguments: tuple[str, ...]
    prepare: tuple[Callable[[Path, Msdn], None], ...] = ()
    again: Callable[[Path], Commands] | None = None
    refuses: str = ""
    adds: str = "nothing"
    most: int | None = None

    def next_commands(self, folder: Path) -> Commands:
        """What a user types after an interruption."""
        return self.again(folder) if self.again else [self.arguments]


def register() -> None:
    """Make the archives of the local server known, and Plumage small; called in the process that runs commands."""
    from PIL import Image

    from msdn.extract.downloads.sources import PLANS, SOURCES, Source
    from msdn.extract.plumage import write

    address = os.environ.get(SERVER, "http://127.0.0.1:9")
    rules = ((r"toy/(?:images/.+|names\.txt)", r"\g<0>"),)
    proof = ("toy/images", "toy/names.txt")
    SOURCES["toy"] = Source(
        file="toy.zip", mirrors=(f"{address}/toy.zip",), proof=proof, rules=rules, room=300_000
    )
    SOURCES["plain"] = Source(
        file="plain.pth", mirrors=(f"{address}/plain.pth",), proof=("weights/plain.pth",), room=9
    )
    PLANS.update({"toy": ("toy",), "plain": ("plain",)})
    write.IMAGES_PER_CLASS = write.TEST_SEEN_EVERY = 2
    write.draw_bird = lambda *_: (Image.new("RGB", (8, 8)), {})  # drawing takes its time, and writes nothing


def base(folder: Path) -> None:
    """The dataset, the backbone, and other people's files."""
    from own_data import write_folder

    write_folder(folder / "birds")
    for number, path in enumerate(sorted((folder / "birds/images").rglob("*.png"))):
        paint(path, number)
    (folder / "tiny.py").write_text(BACKBONE)
    for name in ("home/data", "home/features", "home/runs", "out"):
        (folder / name).mkdir(parents=True)
    for name, content in DECOYS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    words = {"wing", "colour", "red", "blue", "size", "small", "beak", "long"}
    lines = [f"{word} {number}.5 1 {number % 3}\n" for number, word in enumerate(sorted(words))]
    (folder / "words.txt").write_text("".join(lines))


def paint(path: Path, seed: int) -> None:
    """A picture of noise."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 255, (24, 24, 3)).astype(np.uint8)).save(path)


def with_cache(folder: Path, msdn: Msdn) -> None:
    msdn(*MAKE)


def with_half_a_cache(folder: Path, msdn: Msdn) -> None:
    msdn(*MAKE, share=0.7)
    assert (folder / f"{CACHE}.partial").exists()


def with_new_images(folder: Path, msdn: Msdn) -> None:
    for name in ("crane/0.png", "auk/1.png", "auk/2.png"):
        paint(folder / "birds/images" / name, 77)
    with (folder / "birds/attributes.csv").open("a") as file:
        file.write("auk,0.2,1,1,0\n")


def with_many_images(folder: Path, msdn: Msdn) -> None:
    for number in range(40):
        paint(folder / f"birds/images/crane/more-{number}.png", 100 + number)


def with_masked_row(folder: Path, msdn: Msdn) -> None:
    good = (folder / "birds/images/wren/2.png").read_bytes()
    (folder / "birds/images/wren/2.png").write_bytes(b"not a picture")
    msdn(*MAKE, "--bad-images", "mask")
    (folder / "birds/images/wren/2.png").write_bytes(good)


def with_shards(folder: Path, msdn: Msdn) -> None:
    msdn(*EXTRACT, "--out", SHARDED, "--shard", "0/1")


def with_vectors(folder: Path, msdn: Msdn) -> None:
    msdn(*VECTORS)


def with_export(folder: Path, msdn: Msdn) -> None:
    msdn("cache", "export", CACHE, "out/published.h5")


def with_run(folder: Path, msdn: Msdn) -> None:
    msdn(*TRAIN, "--name", RUN)


def with_results(folder: Path, msdn: Msdn) -> None:
    msdn("evaluate", *LOOK)


def train_again(folder: Path) -> Commands:
    """What a user does about a stopped training: resume it; begin where there is nothing to resume."""
    status = [json.loads(path.read_text())["status"] for path in folder.glob("home/runs/[!.]*/manifest.json")]
    if not status:
        return [TRAIN]
    if status[-1] != "finished":
        return [("train", "--resume", "--device", "cpu", *HOME)]
    return [] if list(folder.glob("home/runs/*/results.json")) else [("evaluate", "--device", "cpu", *HOME)]


def choose_again(folder: Path) -> Commands:
    return [CHOOSE if command == TRAIN else command for command in train_again(folder)]


VECTORS = ("data", "vectors", "birds", "--from", "words.txt", *HOME)
CHOOSE = (*TRAIN, "--select", "val")
CACHED, TRAINED = (with_cache,), (with_cache, with_run)
CASES = {
    case.name: case
    for case in (
        Case("extract", MAKE),
        Case("extract-rows", (*MAKE, "--batch-size", "1"), (with_many_images,)),
        Case("extract-resume", MAKE, (with_half_a_cache,)),
        Case("extract-grow", MAKE, (with_cache, with_new_images)),
        Case("extract-restart", (*MAKE, "--restart"), CACHED),
        Case("extract-retry", (*MAKE, "--retry-bad"), (with_masked_row,)),
        Case("extract-shard", (*EXTRACT, "--out", SHARDED, "--shard", "0/1")),
        Case("extract-finish", (*EXTRACT, "--out", SHARDED), (with_shards,)),
        Case("merge", ("cache", "merge", SHARDED), (with_shards,), refuses="exists already"),
        Case(
            "merge-remove",
            ("cache", "merge", SHARDED, "--remove-parts"),
            (with_shards,),
            refuses="exists already",
        ),
        Case(
            "annotate",
            ("cache", "annotate", CACHE, "--vectors", "birds/vectors.npz", *HOME),
            (with_cache, with_vectors),
        ),
        Case("export", ("cache", "export", CACHE, "out/OUT.h5"), CACHED, refuses="exists"),
        Case(
            "export-compress",
            ("cache", "export", CACHE, "out/OUT.h5", "--compress"),
            CACHED,
            refuses="exists",
        ),
        Case("export-force", ("cache", "export", CACHE, "out/OUT.h5", "--force"), CACHED),
        Case(
            "import",
            (
                "cache",
                "import",
                "out/published.h5",
                "--dataset",
                "birds",
                "--out",
                "home/features/new.h5",
                *HOME,
            ),
            (with_cache, with_export),
            refuses="already exists",
        ),
        Case("train", TRAIN, CACHED, train_again),
        Case("train-val", CHOOSE, CACHED, choose_again),
        Case("train-seeds", ("train", *MANY, "0-1"), CACHED, most=12),
        Case(
            "train-jobs",
            ("train", *HOW, *SHORT, "--epochs", "1", "--jobs", "2", "--seeds", "0-1"),
            CACHED,
            most=4,
        ),
        Case(
            "sweep",
            ("sweep", *MANY, "0-1", "--over", "lambda_cal", "--values", "0.1,0.5", "--name", "s"),
            CACHED,
            most=12,
        ),
        Case("ablate", ("ablate", *MANY, "0", "--name", "a"), CACHED, most=8),
        Case("evaluate", ("evaluate", *LOOK), TRAINED),
        Case("evaluate-out", ("evaluate", *LOOK, "--out", "out/all.json"), TRAINED, refuses="exists already"),
        Case(
            "evaluate-csv",
            ("evaluate", *LOOK, "--predictions", "out/p.csv"),
            TRAINED,
            refuses="exists already",
        ),
        Case("compare", ("compare", "--csv", "out/table.csv", "--device", "cpu", *HOME), TRAINED),
        Case("report", ("report", RUN, "--device", "cpu", *HOME), (*TRAINED, with_results)),
        Case(
            "report-png",
            ("report", RUN, "--png", "out/charts", "--out", "out/r.html", *HOME),
            TRAINED,
            most=8,
        ),
        Case("predict", ("predict", *SEE, "--csv", "out/answers.csv"), TRAINED, refuses="exists already"),
        Case(
            "explain", ("explain", *SEE, "--out", "out/looks"), TRAINED, most=12, adds=r"out/looks/\d-2\.png"
        ),
        Case("name", ("runs", "name", RUN, "second", *HOME), TRAINED, refuses="already"),
        Case("delete", ("runs", "delete", RUN, "--yes", *HOME), TRAINED, refuses="no such run"),
        Case("vectors", VECTORS),
        Case(
            "groups",
            ("data", "groups", "birds", "--cache", CACHE, "--csv", "out/groups.csv", *HOME),
            CACHED,
            refuses="exists already",
        ),
        Case("splits", ("data", "check", "birds", "--write-splits", *HOME), refuses="already exists"),
        Case(
            "presets",
            ("presets", "--model", "msdn", "--dataset", "cub", "--write", "out/p.toml", *HOME),
            refuses="exists already",
        ),
        Case("draw", ("data", "check", "plumage", *HOME), most=12),
        Case("download", ("data", "download", "toy", *HOME)),
        Case("download-plain", ("data", "download", "plain", *HOME)),
    )
}
READERS = (  # commands that only look, and what lies there
    ("data", "status", *HOME),
    ("runs", "list", *HOME),
    ("runs", "show", RUN, *HOME),
    ("cache", "info", CACHE),
    ("cache", "verify", CACHE),
    ("predict", *SEE, "--json"),
    ("compare", *HOME),
    ("presets", *HOME),
    ("backbones",),
)
