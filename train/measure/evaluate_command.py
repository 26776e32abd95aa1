"""`msdn evaluate`: test figures of a trained run or of a published checkpoint. Loads torch only when it runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msdn.cache import FeatureCache, Home
from msdn.cache.files import check_new, create_file
from msdn.cache.home import dataset_name, home_option
from msdn.machine import keep_threads
from msdn.terminal import json_option
from msdn.train.loop.options import check_groups, threads_option
from msdn.train.loop.settings import fields_of
from msdn.train.measure.reporting import (
    WATCHED,
    groups_line,
    learning_notes,
    provenance_notes,
    reconstruction_notes,
)
from msdn.train.measure.show import Cell, Line, Result, Table, csv_text, show, show_value
from msdn.train.models import registry
from msdn.train.models.presets import has_preset

if TYPE_CHECKING:
    from msdn.train.measure.evaluate import ScoredTest

_GZSL = ("U", "S", "H", "H_no_margin", "H_published", "H_val_margin", "AUSUC")
_CZSL = ("acc",)
_DETAILS = ("class_names", "per_class", "confusion")
_MEANINGS = {
    "U": "unseen test images, all classes compete",
    "S": "seen test images, all classes compete",
    "H": "harmonic mean of U and S",
    "H_no_margin": "H without any margin",
    "H_published": "H with the published margin of 1",
    "H_val_margin": "H with the margin chosen on validation classes",
    "AUSUC": "area under S over U as the margin changes; needs no margin",
    "acc": "unseen test images, unseen classes compete",
}


@click.command()
@click.option("--gzsl", is_flag=True, help="Show U, S and H: all classes compete.")
@click.option(
    "--czsl", is_flag=True, help="Show acc: only unseen classes compete. Without either flag, both are shown."
)
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path),
    help="The run: its folder, or its name.  [the latest finished one]",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Instead of a run: a file of weights that the authors of MSDN or DEDN published.",
)
@click.option(
    "--dataset",
    metavar="NAME|FOLDER",
    help="The latest finished run of this dataset; with --checkpoint, the dataset whose features to use.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="The latest finished run of this model; give your own model by its file. With --checkpoint, the model of "
    "the weights.  [with --checkpoint: msdn]",
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="The features.  [those that the run was trained on]"
)
@click.option(
    "--alpha",
    type=float,
    nargs=2,
    help="With --checkpoint of MSDN: weights of A→V and V→A in the prediction.  [the dataset's preset]",
)
@click.option(
    "--groups",
    type=click.Path(path_type=Path),
    help="With --checkpoint of DEDN: the CSV of the groups it was trained with.  [the published ones that fit]",
)
@click.option(
    "--margin",
    type=float,
    help="Margin for unseen against seen classes.  [that of the run or checkpoint: 1 as published, or "
    "the one that --select val chose]",
)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, …  [a GPU if there is one]")
@threads_option()
@json_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new file for everything as JSON: per-class accuracies and confusion counts too. A run's folder keeps "
    "the same in results.json.",
)
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new CSV file with a line for each test image: its class, the answer, its score and, where the run has "
    "one, its confidence.",
)
@home_option
def evaluate(
    home: Home,
    run_path: Path | None,
    checkpoint: Path | None,
    dataset: str | None,
    model: str | None,
    cache: Path | None,
    alpha: tuple[float, float] | None,
    groups: Path | None,
    gzsl: bool,
    czsl: bool,
    as_json: bool,
    out: Path | None,
    predictions: Path | None,
    threads: int | None,
    **measuring: Any,
) -> None:
    """Measure a trained run, or a published checkpoint, on the test images: per-class mean accuracies, in percent.

    How the weights were chosen is shown with the figures.
    """
    margin = measuring["margin"]
    if margin is not None and not math.isfinite(margin):
        raise click.BadParameter(f"{margin} is not a finite number", param_hint="--margin")
    for option, path in (("--out", out), ("--predictions", predictions)):
        if path is not None:
            check_new(path, option)
    registry.use_home(home)
    model = model and registry.choose_model(model).name
    dataset = dataset and dataset_name(dataset)
    hidden = {*_DETAILS, *(() if gzsl == czsl else _GZSL if czsl else _CZSL)}

    def show_figures(result: dict[str, Any]) -> None:
        facts = {name: value for name, value in result.items() if name not in hidden}
        show(Result(facts, [figures_table(facts)], figures_notes(facts)), as_json)

    answers: list[Line] = []
    measuring["answers"] = None if predictions is None else answers
    if checkpoint is not None:
        if run_path is not None:
            raise click.UsageError("--checkpoint and --run name two models; give one of them.")
        model = model or registry.DEFAULT
        if alpha is not None and "alpha" not in fields_of(registry.find_model(model).settings):
            raise click.UsageError(f"--alpha is not a setting of the model '{model}'; leave it out.")
        check_groups(model, groups)
        measuring |= {"groups": groups, "task": "czsl" if czsl and not gzsl else "gzsl"}
        measuring["predict_with"] = {} if alpha is None else {"alpha": alpha}
    elif alpha is not None or groups is not None:
        option = "--groups" if alpha is None else "--alpha"
        raise click.UsageError(f"{option} goes with --checkpoint: a run keeps what it was trained with.")
    with keep_threads(threads):
        if checkpoint is not None:
            result = _measure_checkpoint(home, checkpoint, str(model), dataset, cache, measuring)
        else:
            result = _measure_run(home, run_path, dataset, model, cache, measuring, show_figures)
    if out is not None:
        create_file(out, (json.dumps(result) + "\n").encode(), "--out")
    if predictions is not None:
        create_file(predictions, csv_text(answers).encode(), "--predictions")
    show_figures(result)


def _measure_checkpoint(
    home: Home,
    checkpoint: Path,
    model: str,
    dataset: str | None,
    cache: Path | None,
    measuring: dict[str, Any],
) -> dict[str, Any]:
    from msdn.train.measure.evaluate import evaluate_published
    from msdn.train.runs.run import open_dataset_cache

    with open_dataset_cache(home, dataset, cache) as opened:
        collect = _collector(opened, measuring.pop("answers"))
        return evaluate_published(checkpoint, opened, model=model, on_scores=collect, **measuring)


def _measure_run(
    home: Home,
    run_path: Path | None,
    dataset: str | None,
    model: str | None,
    cache: Path | None,
    measuring: dict[str, Any],
    on_unkept: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Measure a run and keep its figures; where that fails, `on_unkept` is given them before the error ends all."""
    from msdn.train.measure.evaluate import evaluate_run, keep_results
    from msdn.train.runs.results import check_kept
    from msdn.train.runs.run import find_run, open_run_cache

    run = find_run(home.runs, run_path, dataset=dataset, model=model)
    with open_run_cache(home, run, cache) as opened:
        collect = _collector(opened, measuring.pop("answers"))
        result = evaluate_run(run, opened, on_scores=collect, **measuring)
    if measuring["margin"] is None:
        check_kept(run)
        try:
            keep_results(run, result)
        except OSError:
            on_unkept(result)
            raise
    return result


def _collector(cache: FeatureCache, answers: list[Line] | None) -> "Callable[[ScoredTest], None] | None":
    """What puts the answer to every test image into a list; nothing where nobody asked for them."""
    if answers is None:
        return None
    from msdn.train.measure.predictions import answer_lines

    return lambda scores: answers.extend(answer_lines(scores, cache))


def figures_table(result: dict[str, Any]) -> Table:
    """The figures that were measured and mean something for these data, with the chance level."""
    rows: list[list[Cell]] = []
    for name, meaning in _MEANINGS.items():
        is_idle = name.startswith("H_") and (
            result.get(name) is None or result["margin"] == result["margins"][name]
        )
        is_idle = is_idle or (name == "H_published" and not has_preset(result["dataset"], result["model"]))
        if name in result and not is_idle:
            chance = result["chance"].get(name, "")
            rows.append([name.replace("_", " "), result[name], chance, meaning])
    columns = ("figure", "%", "chance %", "per-class mean of")
    return Table(columns, rows, f"{result['model']} on {result['dataset']}", words=(columns[0], columns[3]))


def figures_notes(result: dict[str, Any]) -> list[str]:
    """What the figures belong to, and how the weights were chosen."""
    lines = _published_notes(result) if "checkpoint" in result else [f"run: {result['run']}"]
    lines += [f"margin: {result['margin']:.4g}", f"selection: {result['selection']}"]
    if result.get("watch_test"):
        lines.append(WATCHED)
    lines += learning_notes(result)
    lines += reconstruction_notes([result["model"]])
    return lines + provenance_notes(result["weights"], result["masked_images"])


def _published_notes(result: dict[str, Any]) -> list[str]:
    left_out = result["ignored_backbone_tensors"]
    lines = [
        f"checkpoint: {result['checkpoint']}",
        f"sha256: {result['sha256']}",
        f"cache: {result['cache']}",
        "weights of the backbone: those of the cache"
        + (f" ({left_out} tensors of one in the checkpoint left out)" if left_out else ""),
    ]
    if "groups" in result:
        lines.append(groups_line(result["groups"]))
    predicting = registry.find_model(result["model"]).predicting(result)
    return lines + [f"{name}: {show_value(value)}" for name, value in predicting.items()]
