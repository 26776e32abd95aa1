"""The whole way on the drawn dataset: pictures, features, two trained models, their test figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache, Home
from msdn.extract.datasets.registry import find_spec
from msdn.extract.pipeline.extraction import Watcher, extract
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.models.presets import preset_settings

DATASET = "plumage"
WEIGHTS = "random"  # the only ones that need neither network nor trust
MODELS = ("baseline", "msdn")


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: figures by model, and where everything lies."""

    figures: dict[str, dict[str, Any]]
    images: Path
    cache: Path
    runs: dict[str, Path]
    masked_images: int


def run_demo(
    home: Home,
    watcher: Watcher,
    on_training: Callable[[str], None],
    on_epoch: Callable[[dict[str, Any]], None],
) -> DemoResult:
    """Draw, extract, train and evaluate; whatever an interrupted demo left of the first two is used."""
    extraction = extract(ExtractSettings(DATASET, weights=WEIGHTS), home, watcher)
    figures, runs = {}, {}
    with FeatureCache(extraction.path) as cache:
        for model in MODELS:
            settings = preset_settings(model, DATASET)
            on_training(model)
            run = train_model(cache, settings, home.runs, preset="released/gzsl", on_epoch=on_epoch)
            figures[model] = evaluate_run(run, cache)
            runs[model] = run.path
    return DemoResult(
        figures, home.data / find_spec(DATASET).images, extraction.path, runs, len(extraction.masked)
    )
