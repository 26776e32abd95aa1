"""`msdn presets`: the settings of each model on each dataset, every value with its source. No torch."""

import dataclasses
import json
from collections import Counter
from typing import Any

import click

from msdn.cache.errors import UnknownNameError
from msdn.train.loop.settings import TASKS, TrainSettings
from msdn.train.measure.tables import plain_table, result_console, show_value
from msdn.train.models.presets import (
    BOTH,
    CODE,
    PAPER,
    PAPER_PRESETS,
    PRESET_NAMES,
    PRESETS,
    preset_settings,
    preset_values,
)
from msdn.train.models.registry import MODELS, model_entry

DEFAULT = "default"
KINDS = ("published", "borrowed", "ours", DEFAULT)
_IN_TITLE = ("model", "task")


@click.command()
@click.option("--model", metavar="NAME", help="This model alone.")
@click.option("--dataset", metavar="NAME", help="This dataset alone.")
@click.option(
    "--task", default=TASKS[0], type=click.Choice(TASKS), show_default=True, help="The figure that matters."
)
@click.option(
    "--preset",
    default=PRESET_NAMES[0],
    type=click.Choice(PRESET_NAMES),
    show_default=True,
    help="Released code or the paper's text.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def presets(model: str | None, dataset: str | None, task: str, preset: str, as_json: bool) -> None:
    """Show the settings that 'msdn train' starts from, and where each value comes from.

    With --model and --dataset every setting of the two; else how many are published (the paper or its authors'
    code), borrowed (another model's or dataset's, for lack of published ones), ours, or the default.
    """
    models, datasets = _asked(model, dataset)
    if model and dataset:
        rows = setting_rows(model, dataset, task, preset)
        title = f"{model} on {dataset}: preset {preset}, task {task}"
        facts: dict[str, Any] = {"model": model, "dataset": dataset, "task": task, "preset": preset}
        content: dict[str, Any] = facts | {"settings": rows}
    else:
        shown = [one for one in models if preset != "paper" or one in PAPER_PRESETS]
        rows = [overview_row(m, d, task, preset) for m in shown or models for d in datasets]
        title = f"number of settings by source: preset {preset}, task {task}"
        content = {"task": task, "preset": preset, "presets": rows}
    if as_json:
        click.echo(json.dumps(content))
        return
    right = [name for name in rows[0] if name in KINDS]
    cells = [[show_value(value) for value in row.values()] for row in rows]
    result_console().print(plain_table(title, list(rows[0]), cells, right=right))


def known_datasets() -> list[str]:
    """The datasets that some model has a preset for."""
    return list(dict.fromkeys(name for of_model in PRESETS.values() for name in of_model))


def setting_rows(model: str, dataset: str, task: str, preset: str) -> list[dict[str, Any]]:
    """Each setting of a model on a dataset with its value and source, also those at their default."""
    sourced = preset_values(model, dataset, preset=preset, task=task)
    values = preset_settings(model, dataset, preset=preset, task=task).as_json()
    names = model_entry(model).select({one.name: None for one in dataclasses.fields(TrainSettings)})
    return [
        {"setting": name, "value": values[name], "source": sourced[name][1] if name in sourced else DEFAULT}
        for name in names
        if name not in _IN_TITLE
    ]


def overview_row(model: str, dataset: str, task: str, preset: str) -> dict[str, Any]:
    """How many settings of a model on a dataset come from where."""
    counts = Counter(kind_of(row["source"]) for row in setting_rows(model, dataset, task, preset))
    return {"model": model, "dataset": dataset, **{kind: counts[kind] for kind in KINDS}}


def kind_of(source: str) -> str:
    """One of `KINDS` for a value's source."""
    if source in (CODE, PAPER, BOTH):
        return "published"
    if source.startswith("as "):
        return "borrowed"
    return DEFAULT if source == DEFAULT else "ours"


def _asked(model: str | None, dataset: str | None) -> tuple[list[str], list[str]]:
    known = known_datasets()
    if model is not None:
        model_entry(model)
    if dataset is not None and dataset not in known:
        raise UnknownNameError("dataset", dataset, known, "; a dataset of your own gets the defaults")
    return [model] if model else list(MODELS), [dataset] if dataset else known
