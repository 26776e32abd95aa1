"""Extractions of the toy dataset: their settings, interrupts, and what they left."""

import functools
from pathlib import Path

import pytest
from toy_dataset import TOY, write_toy_dataset

from msdn.cache import layout
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.extract.backbones.weights import Weights, load_weights
from msdn.extract.datasets import registry
from msdn.extract.pipeline import extraction
from msdn.extract.pipeline.extraction import Extraction, Watcher, extract
from msdn.extract.pipeline.settings import ExtractSettings

SETTINGS = ExtractSettings(dataset="toy", weights="random", batch_size=4, workers=2, device="cpu")
CACHE = "toy-224-random.h5"


@functools.cache
def draw_once(choice: str) -> Weights:
    return load_weights(choice, Home(Path("unused")))


def make_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with the toy dataset; random weights are drawn once for all tests."""
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setattr(extraction, "load_weights", lambda choice, _home: draw_once(choice))
    write_toy_dataset(tmp_path / "home/data")
    return Home(tmp_path / "home")


class StoppedError(Exception):
    """Stands for whatever ends a run early."""


def interrupt_after(blocks: int) -> Watcher:
    """Raise `StoppedError` when so many blocks are done."""
    seen = []

    def on_progress(_progress: object) -> None:
        seen.append(1)
        if len(seen) == blocks:
            raise StoppedError

    return Watcher(on_progress=on_progress)


def notes_of(settings: ExtractSettings, home: Home) -> tuple[Extraction, str]:
    """Extract, and return what was said beside."""
    notes: list[str] = []
    return extract(settings, home, Watcher(on_stage=notes.append)), "\n".join(notes)


def count_done(path: Path) -> int:
    """Count the finished rows of a cache that may not be there yet."""
    try:
        return int((read_header(path).states == layout.DONE).sum())
    except ValueError:
        return 0
