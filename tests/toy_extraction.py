"""Extractions of the toy dataset: their settings, interrupts, and what they left."""

import copy
import functools
from pathlib import Path

import pytest
from torch import nn
from toy_dataset import TOY, write_toy_dataset

from msdn.cache import layout
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.extract.backbones.entry import Backbone
from msdn.extract.backbones.registry import find_backbone
from msdn.extract.backbones.weights import Weights, load_network
from msdn.extract.datasets import registry
from msdn.extract.pipeline import extraction
from msdn.extract.pipeline.extraction import Extraction, extract
from msdn.extract.pipeline.progress import Watcher
from msdn.extract.pipeline.settings import ExtractSettings

SETTINGS = ExtractSettings(
    dataset="toy", weights="random", batch_size=4, workers=2, device="cpu", precision="float32"
)
CACHE = "toy-224-random.h5"


@functools.cache
def draw_once(backbone: str, choice: str, image_size: int) -> tuple[nn.Module, Weights]:
    return load_network(find_backbone(backbone), choice, image_size, Home(Path("unused")))


def draw(backbone: Backbone, choice: str, image_size: int, home: Home) -> tuple[nn.Module, Weights]:
    """Random weights of known networks are drawn once for all tests."""
    if not choice.startswith("random") or backbone.library == "file":
        return load_network(backbone, choice, image_size, home)
    network, weights = draw_once(backbone.name, choice, image_size)
    return copy.deepcopy(network), weights


def make_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with the toy dataset."""
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setattr(extraction, "load_network", draw)
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
