"""`msdn evaluate`: test figures of a trained run or of a published checkpoint. Loads torch only when it runs."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msdn.cache import Home
from msdn.cache.names import dataset_name
from msdn.cache.options import home_option
from msdn.train.errors import RunError
from msdn.train.measure.reporting import WATCHED, provenance_notes, reconstruction_notes
from msdn.train.measure.show import Cell, Result, Table, show
from msdn.train.models.registry import find_model

if TYPE_CHECKING:
    from msdn.train.runs.run import Run

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
@click.option("--czsl", is_flag=True, help="Show acc: only unseen classes compete. Neither flag means both.")
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path),
    help="The run: its folder, or its name.  [the latest finished one]",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Instead of a run: a file of weights that the authors of MSDN published.",
)
@click.option(
    "--dataset",
    metavar="NAME|FOLDER",
    help="The latest finished run of this dataset; with --checkpoint, the dataset whose features to use.",
)
@click.option(
    "--model", metavar="NAME", help="The latest finished run of this model; a checkpoint is one of 'msdn'."
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="The features.  [those that the run was trained on]"
)
@click.option(
    "--alpha",
    type=float,
    nargs=2,
    help="With --checkpoint: weights of A→V and V→A in the prediction.  [the dataset's preset]",
)
@click.option(
    "--margin",
    type=float,
    help="Margin for unseen against seen classes.  [the run's or checkpoint's; 1 as published; with --select val the "
    "one chosen]",
)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, …  [a GPU where there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new file for everything as JSON: per-class accuracies and confusion counts too. A run's folder keeps "
    "the same in results.json.",
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
    gzsl: bool,
    czsl: bool,
    as_json: bool,
    out: Path | None,
    **measuring: Any,
) -> None:
    """Measure a trained run, or a published checkpoint, on the test images: per-class mean accuracies, in percent.

    The protocol by which the weights were chosen is named with the figures.
    """
    margin = measuring["margin"]
    if margin is not None and not math.isfinite(margin):
        raise click.BadParameter(f"{margin} is not a finite number", param_hint="--margin")
    if model is not None:
        find_model(model)
    dataset = dataset and dataset_name(dataset)
    if checkpoint is not None:
        _check_fits_checkpoint(run_path, model)
        result = _measure_checkpoint(home, checkpoint, dataset, cache, alpha, measuring)
    elif alpha is not None:
        raise click.UsageError("--alpha goes with --checkpoint: a run keeps the one it was trained with.")
    else:
        result = _measure_run(home, run_path, dataset, model, cache, measuring)
    if out is not None:
        _write_new(out, result)
    hidden = set(_DETAILS)
    if gzsl != czsl:
        hidden |= set(_GZSL if czsl else _CZSL)
    facts = {name: value for name, value in result.items() if name not in hidden}
    show(Result(facts, [_figures_table(facts)], _figures_notes(facts)), as_json)


def _write_new(path: Path, result: dict[str, Any]) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
    except FileExistsError as error:
        raise RunError(f"{path}: exists already, and nothing is overwritten; choose another --out") from error


def _check_fits_checkpoint(run_path: Path | None, model: str | None) -> None:
    if run_path is not None:
        raise click.UsageError("--checkpoint and --run name two models; give one of them.")
    if model not in (None, "msdn"):
        raise click.UsageError(f"--checkpoint takes weights of the published 'msdn', not of '{model}'.")


def _measure_checkpoint(
    home: Home,
    checkpoint: Path,
    dataset: str | None,
    cache: Path | None,
    alpha: tuple[float, float] | None,
    measuring: dict[str, Any],
) -> dict[str, Any]:
    from msdn.train.measure.evaluate import evaluate_released
    from msdn.train.runs.locate import open_dataset_cache

    with open_dataset_cache(home, dataset, cache) as opened:
        return evaluate_released(checkpoint, opened, alpha=alpha, **measuring)


def _measure_run(
    home: Home,
    run_path: Path | None,
    dataset: str | None,
    model: str | None,
    cache: Path | None,
    measuring: dict[str, Any],
) -> dict[str, Any]:
    from msdn.train.measure.evaluate import evaluate_run, keep_results
    from msdn.train.runs.locate import open_run_cache
    from msdn.train.runs.run import latest_run, open_run

    if run_path is None:
        run = latest_run(home.runs, finished=True, dataset=dataset, model=model)
    else:
        run = open_run(home.runs, run_path)
        _check_is(run, dataset, model)
    with open_run_cache(home, run, cache) as opened:
        result = evaluate_run(run, opened, **measuring)
    if measuring["margin"] is None:
        keep_results(run, result)
    return result


def _check_is(run: "Run", dataset: str | None, model: str | None) -> None:
    for name, asked, is_ in (("dataset", dataset, run.dataset), ("model", model, run.settings.model)):
        if asked not in (None, is_):
            raise RunError(
                f"{run.path}: a run of the {name} '{is_}', not '{asked}'; leave out --{name} or --run"
            )


def _figures_table(result: dict[str, Any]) -> Table:
    """All figures that were measured, with the chance level."""
    rows: list[list[Cell]] = []
    for name, meaning in _MEANINGS.items():
        other_h = name.startswith("H_") and (
            result.get(name) is None or result["margin"] == result["margins"][name]
        )
        if name in result and not other_h:
            chance = result["chance"].get(name, "")
            rows.append([name.replace("_", " "), result[name], chance, meaning])
    columns = ("figure", "%", "chance %", "per-class mean of")
    return Table(columns, rows, f"{result['model']} on {result['dataset']}", words=(columns[0], columns[3]))


def _figures_notes(result: dict[str, Any]) -> list[str]:
    """What the figures belong to, and how the weights were chosen."""
    lines = _released_notes(result) if "checkpoint" in result else [f"run: {result['run']}"]
    lines += [f"margin: {result['margin']:.4g}", f"selection: {result['selection']}"]
    if result.get("watch_test"):
        lines.append(WATCHED)
    lines += reconstruction_notes([result["model"]])
    return lines + provenance_notes(result["weights"], result["masked_images"])


def _released_notes(result: dict[str, Any]) -> list[str]:
    left_out = result["ignored_backbone_tensors"]
    return [
        f"checkpoint: {result['checkpoint']}",
        f"sha256: {result['sha256']}",
        f"cache: {result['cache']}",
        "weights of the backbone: those of the cache"
        + (f" ({left_out} tensors of one in the checkpoint left out)" if left_out else ""),
        f"alpha: {result['alpha'][0]:g} {result['alpha'][1]:g}",
    ]
