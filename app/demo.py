"""`msdn demo`: the whole way on the drawn dataset: pictures, features, two trained models, their figures, a report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msdn.cache import FeatureCache, Home
from msdn.cache.home import home_option
from msdn.terminal import json_option

if TYPE_CHECKING:
    from msdn.extract.pipeline.extraction import Watcher
    from msdn.train.measure.show import Result

DATASET = "plumage"
WEIGHTS = "random"  # the only ones that need neither network nor trust
PRECISION = "float32"  # so that the figures are the same on every machine
MODELS = ("baseline", "msdn")
REPORTED = "msdn"
FIGURES = ("acc", "U", "S", "H")


@dataclass(frozen=True)
class Demo:
    """What the demo made: figures by model, and where everything lies."""

    figures: dict[str, dict[str, Any]]
    images: Path
    cache: Path
    runs: dict[str, Path]
    masked_images: int


@click.command()
@json_option
@home_option
def demo(home: Home, as_json: bool) -> None:
    """Draw birds, extract features, train two models, and see zero-shot learning work; a report shows all of it.

    It needs no network, no GPU and no downloads. The backbone has random weights, so the figures say nothing
    about published results.
    """
    from time import perf_counter

    from msdn.extract.pipeline.progress import ProgressView
    from msdn.terminal import note_console, say
    from msdn.train.measure.show import show
    from msdn.train.measure.watching import EpochView

    start = perf_counter()
    with ProgressView(note_console()) as view, EpochView(every=10, explains=not as_json) as epochs:
        done = run_demo(home, view.watcher, lambda model: say(f"training {model}"), epochs)
    say("writing the report")
    report = report_line(home, done)
    show(demo_result(done, report, perf_counter() - start), as_json)


def run_demo(
    home: Home,
    watcher: "Watcher",
    on_training: Callable[[str], None],
    on_epoch: Callable[[dict[str, Any]], None],
) -> Demo:
    """Draw, extract, train and evaluate; whatever an interrupted demo left of the first two is used."""
    from msdn.extract.datasets.registry import find_spec
    from msdn.extract.pipeline.extraction import extract
    from msdn.extract.pipeline.settings import ExtractSettings
    from msdn.train.loop.training import train_model
    from msdn.train.measure.evaluate import evaluate_run, keep_results
    from msdn.train.models.presets import preset_settings

    extraction = extract(ExtractSettings(DATASET, weights=WEIGHTS, precision=PRECISION), home, watcher)
    figures, runs = {}, {}
    with FeatureCache(extraction.path) as cache:
        for model in MODELS:
            settings = preset_settings(model, DATASET)
            on_training(model)
            how: dict[str, Any] = {"preset": "released/gzsl", "precision": PRECISION, "on_epoch": on_epoch}
            run = train_model(cache, settings, home.runs, **how)
            figures[model] = evaluate_run(run, cache)
            keep_results(run, figures[model])
            runs[model] = run.path
    images = home.data / find_spec(DATASET).images
    return Demo(figures, images, extraction.path, runs, len(extraction.masked))


def report_line(home: Home, done: Demo) -> str:
    """Write the report, and say where it is; or what it needs."""
    from msdn.app.report.charts import NEEDS, has_matplotlib
    from msdn.app.report.report import write_report

    if not has_matplotlib():
        return f"no report: {NEEDS}"
    return f"report    {write_report(home, [done.runs[REPORTED]]).page}"


def demo_result(done: Demo, report: str, seconds: float) -> "Result":
    """The figures with the chance level, and where everything lies, the report last."""
    from msdn.train.measure.reporting import provenance_notes
    from msdn.train.measure.show import Result, Table

    first = done.figures[MODELS[0]]
    rows = {"chance": first["chance"], **done.figures}
    table = Table(
        ("per-class mean, %", *FIGURES),
        [[name, *(figures[figure] for figure in FIGURES)] for name, figures in rows.items()],
        words=("per-class mean, %",),
        above=["Plumage (drawn birds), backbone of random weights, one seed"],
        below=[
            "acc: images of 12 classes that were never trained on, recognised by their attributes alone.",
            "U, S: images of unseen and seen classes when all 48 compete; H: their harmonic mean.",
        ],
    )
    places = {"images": done.images, "features": done.cache, **done.runs}
    notes = [
        f"selection: {first['selection']}",
        *provenance_notes(WEIGHTS, done.masked_images),
        *(f"{name:<9} {path}" for name, path in places.items()),
        f"took      {seconds:.0f} s",
        report,
    ]
    facts = {
        "figures": done.figures,
        "places": {name: str(path) for name, path in places.items()},
        "masked_images": done.masked_images,
        "report": report,
        "seconds": round(seconds, 1),
    }
    return Result(facts, [table], notes)
