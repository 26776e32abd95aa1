"""What the commands share that look at images with a finished run: their options, and what these mean."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msdn.train.errors import RunError
from msdn.train.loop.options import threads_option

if TYPE_CHECKING:
    import numpy as np

    from msdn.cache import FeatureCache

Command = Callable[..., Any]
FILLS = ("mean",)  # what may stand for an attribute without a column


def _add(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    """Add IMAGES, and which run looks at them."""
    options = (
        click.argument("images", nargs=-1, type=click.Path(path_type=Path)),
        click.option(
            "--run",
            "run_path",
            type=click.Path(path_type=Path),
            help="The run: its folder, or its name.  [the latest one]",
        ),
        click.option("--dataset", metavar="NAME|FOLDER", help="The latest finished run of this dataset."),
        click.option(
            "--model",
            metavar="NAME|FILE",
            help="The latest finished run of this model; give your own model by its file.",
        ),
    )
    return _add(command, options)


def image_options(command: Command) -> Command:
    """Add what is looked at in a cache, and how features of images are made."""
    options = (
        click.option(
            "--rows",
            help="With --cache: a split (trainval, test_seen, test_unseen …), or rows such as 0-9,15.  [all]",
        ),
        click.option(
            "--backbone",
            metavar="FILE.py",
            help="The backbone's file, if the run's features come from your own backbone.",
        ),
        click.option(
            "--weights",
            metavar="FILE",
            help="The backbone's weights, if the features come from a file of weights.",
        ),
        click.option(
            "--workers", type=click.IntRange(1, 256), help="Decoding threads.  [one per core, at most 8]"
        ),
        click.option("--device", default="auto", help="cpu, cuda, cuda:1, …  [a GPU if there is one]"),
        threads_option(),
    )
    return _add(command, options)


def check_images(images: Sequence[Path], cache: Path | None, rows: str | None) -> None:
    """Refuse neither images nor a cache, or both."""
    if bool(images) == (cache is not None):
        raise click.UsageError("Give images or folders of images, or a cache with --cache.")
    if rows is not None and cache is None:
        raise click.UsageError("--rows goes with --cache.")


def find_images(given: Sequence[Path]) -> Iterator[Path]:
    """The files as given, and of a folder every file that is an image by its name, in order."""
    from msdn.extract.own.images import ENDINGS

    for path in given:
        if not path.is_dir():
            yield path
            continue
        found = sorted(
            Path(top) / name
            for top, _, names in os.walk(path)
            for name in names
            if Path(name).suffix.lower().removeprefix(".") in ENDINGS and not name.startswith(".")
        )
        if not found:
            raise RunError(f"{path}: holds no image (a file that ends in {', '.join(ENDINGS)})")
        yield from found


def parse_rows(text: str | None, cache: "FeatureCache") -> "np.ndarray":
    """The rows that `--rows` means."""
    import numpy as np

    count = cache.shape[0]
    if text is None:
        return np.arange(count)
    if text in cache.annotations.splits:
        return cache.annotations.splits[text]
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal()) or int(first) > int(last):
            known = ", ".join(cache.annotations.splits)
            raise click.UsageError(f"--rows {text}: expected a split ({known}) or rows such as 0-9,15.")
        if int(last) >= count:
            raise click.UsageError(f"--rows {text}: the cache has rows 0 to {count - 1}.")
        numbers += range(int(first), int(last) + 1)
    return np.unique(np.array(numbers, np.int64))
