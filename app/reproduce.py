"""`msdn reproduce`: a dataset's published figures made again: features where they are missing, then all seeds.

Loads torch only when it runs.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from msdn.cache import Home
from msdn.cache.errors import UnknownNameError
from msdn.cache.home import home_option
from msdn.extract.datasets.registry import DATASETS
from msdn.extract.pipeline.settings import IMAGE_SIZES, ExtractSettings
from msdn.terminal import json_option, note_console
from msdn.train.loop.options import cache_option, devices_option, jobs_option, precision_option, seeds_option
from msdn.train.loop.settings import SELECTIONS, RunSettings
from msdn.train.measure.selection import COMPARED
from msdn.train.measure.show import Cell, Table
from msdn.train.measure.summary import Spread
from msdn.train.models.presets import preset_settings
from msdn.train.models.published import Published, published_figures, published_image_size
from msdn.train.models.registry import model_names, use_home
from msdn.train.studies.study import (
    MODEL,
    Facts,
    RowResult,
    Study,
    StudyRow,
    keep_and_show,
    measure_study,
    model_row,
    study_result,
)

DEFAULT = ExtractSettings(dataset="")
TASK = "task"  # the column that tells a model's two rows apart
NOT_COMPARABLE = (
    "WARNING: random weights in the backbone: the papers' figures above cannot be compared with these"
)


@click.command(context_settings={"show_default": True})
@click.argument("dataset", metavar="cub|sun|awa2|flo|plumage")
@click.option(
    "--weights",
    default=DEFAULT.weights,
    metavar="imagenet|FILE|random",
    help="The backbone's weights; with random ones nothing can be compared with the papers.",
)
@click.option(
    "--image-size",
    type=click.Choice([str(size) for size in IMAGE_SIZES]),
    default=str(IMAGE_SIZES[0]),
    callback=lambda _context, _parameter, value: int(value),
    help="Pixels; 224 gives 7x7 regions, 448 gives 14x14.",
)
@cache_option
@click.option(
    "--models",
    metavar="NAME,NAME",
    help=f"The models to train: {', '.join(model_names())}.  [default: msdn; msdn++ on flo, where only its figures are "
    "published]",
)
@seeds_option(default="0-4", help="The seeds that each model is trained with.")
@click.option(
    "--select",
    type=click.Choice(SELECTIONS),
    default=RunSettings.select,
    help="How the weights are chosen, as 'msdn train' explains; the papers' were chosen on the test set.",
)
@click.option(
    "--paper-style", is_flag=True, help="With --select test: the best H and the best acc of different epochs."
)
@jobs_option
@devices_option
@precision_option
@json_option
@home_option
def reproduce(
    home: Home,
    dataset: str,
    weights: str,
    image_size: int,
    cache: Path | None,
    models: str | None,
    seeds: tuple[int, ...],
    select: str,
    paper_style: bool,
    jobs: int | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Extract features where they are missing, train with several seeds, and show the figures beside the papers'.

    U, S and H come from the preset for GZSL; acc comes from the preset for CZSL if that is a different one. What was
    done before is used again: after an interruption, repeat the command to continue. The dataset must be there
    (msdn data download). Runs are kept in HOME/studies/runs, figures in HOME/studies: reproduce-DATASET.csv and .json
    (the name has --select in it if that is not last).
    """
    use_home(home)
    if dataset not in DATASETS:
        raise UnknownNameError("dataset", dataset, DATASETS)
    chosen = [name.strip() for name in models.split(",")] if models else default_models(dataset)
    rows = reproduction_rows(dataset, dict.fromkeys(chosen), {"select": select, "paper_style": paper_style})
    unusual = [select] * (select != "last") + ["paper-style"] * paper_style
    name = "-".join(["reproduce", dataset, *unusual])
    extraction = ExtractSettings(dataset, image_size, weights, device.partition(",")[0].strip())
    from msdn.train.runs.run import open_dataset_cache

    with open_dataset_cache(home, dataset, cache or extract_features(extraction, home)) as opened:
        study = Study(name, rows, seeds, precision=precision)
        facts, done = measure_study(opened, study, home, workers=jobs, device=device)
    table, notes = reproduction_table(facts, done), reproduction_notes(facts, done)
    keep_and_show(home, study_result(facts, done, table, notes), as_json)


def default_models(dataset: str) -> tuple[str, ...]:
    """MSDN, or where no figures of it are published on a dataset, the first model of which there are some."""
    known = [model for model in model_names() if published_figures(model, dataset)]
    return tuple(known[:1]) or ("msdn",)


def reproduction_rows(
    dataset: str, models: Iterable[str], overrides: Mapping[str, Any]
) -> tuple[StudyRow, ...]:
    """One row for each model, and one more for acc where that is trained differently from U, S and H."""
    return tuple(
        model_row(
            dataset,
            model,
            model if task == "gzsl" else f"{model} for acc",
            common={**overrides, "task": task},
            facts={MODEL: model, TASK: task},
            published=published_figures(model, dataset),
        )
        for model in models
        for task in (("gzsl", "czsl") if needs_two(dataset, model, overrides) else ("gzsl",))
    )


def needs_two(dataset: str, model: str, overrides: Mapping[str, Any]) -> bool:
    """Whether acc takes a training of its own: another preset, or an epoch chosen by acc on validation classes."""
    gzsl, czsl = (preset_settings(model, dataset, task=task) for task in ("gzsl", "czsl"))
    chosen_by_task = overrides.get("select", gzsl.select) != "last" and not overrides.get("paper_style")
    return chosen_by_task or dataclasses.replace(czsl, task="gzsl") != gzsl


def extract_features(settings: ExtractSettings, home: Home) -> Path:
    """The features' file, extracted where it is missing."""
    from msdn.extract.pipeline.extraction import extract
    from msdn.extract.pipeline.progress import ProgressView

    with ProgressView(note_console()) as view:
        return extract(settings, home, view.watcher).path


def model_figures(model: str, rows: Sequence[RowResult]) -> dict[str, Spread]:
    """A model's figures; acc is that of the training for acc where there is one."""
    by_task = {done.row.facts[TASK]: done.figures for done in rows if done.row.facts[MODEL] == model}
    return {**by_task["gzsl"], "acc": by_task.get("czsl", by_task["gzsl"])["acc"]}


def reproduction_table(facts: Facts, rows: Sequence[RowResult]) -> Table:
    """Three lines for each model: ours, the paper's, and the difference where they can be compared."""
    cells: list[list[Cell]] = [["chance", *(facts.chance.get(name) for name in COMPARED), ""]]
    for done in rows:
        if _is_for_acc(done):
            continue
        model, published = done.row.facts[MODEL], done.row.published
        ours = model_figures(model, rows)
        cells.append([model, *(ours[name] for name in COMPARED), done.seeds])
        if published:
            paper = [getattr(published, name, None) for name in COMPARED]
            cells.append([f"{model}, the paper", *paper, ""])
        if published and facts.weights != "random":
            cells.append(["difference", *(_difference(ours[name], published, name) for name in COMPARED), ""])
    return Table(("", *COMPARED, "seeds"), cells, f"{facts.dataset}, test classes, mean ± std")


def reproduction_notes(facts: Facts, rows: Sequence[RowResult]) -> list[str]:
    """How ours were chosen, and how theirs, as far as the table's own notes do not say it."""
    lines = [
        f"{done.row.label}: trained separately, by {done.row.preset}" for done in rows if _is_for_acc(done)
    ]
    without = [done.row.label for done in rows if not done.row.published and not _is_for_acc(done)]
    if without and not facts.counts_differ:
        lines.append(f"no published figures of {', '.join(without)} on {facts.dataset} are known")
    if facts.weights == "random" and any(done.row.published for done in rows):
        lines.append(NOT_COMPARABLE)
    for done in rows:
        size = published_image_size(done.row.facts[MODEL])
        if done.row.published and not _is_for_acc(done) and size not in (None, facts.image_size):
            ours = facts.image_size or "an unknown number of"
            lines.append(
                f"{done.row.label}: the authors' script reads images of {size} pixels, these features are of {ours}; "
                f"--image-size {size} comes closer"
            )
    return lines


def _is_for_acc(done: RowResult) -> bool:
    return bool(done.row.facts[TASK] == "czsl")


def _difference(ours: Spread, published: Published, name: str) -> str | None:
    theirs = getattr(published, name, None)
    return None if ours.mean is None or theirs is None else f"{ours.mean - theirs:+.1f}"
