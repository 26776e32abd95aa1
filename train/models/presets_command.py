"""`msdn presets`: the settings of each model on each dataset, every value with its source."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from msdn.cache.errors import UnknownNameError, WrongUsageError
from msdn.cache.files import check_new
from msdn.cache.home import Home, dataset_name, home_option
from msdn.terminal import json_option
from msdn.train.loop.settings import TASKS, fields_of
from msdn.train.measure.show import Result, Table, show, show_value
from msdn.train.models import presets as stored
from msdn.train.models.registry import DEFAULT, choose_model, find_model, model_names, use_home
from msdn.train.models.rule import Amounts, find_amounts

KINDS = ("published", "borrowed", "ours", "default")
_IN_TITLE = ("model", "task")


@click.command()
@click.option("--model", metavar="NAME|FILE", help="Only this model.")
@click.option(
    "--dataset",
    metavar="NAME|FOLDER",
    help="Only this dataset; for your own, the rule for its amounts of images chooses.",
)
@click.option(
    "--task", default=TASKS[0], type=click.Choice(TASKS), show_default=True, help="The figure that matters."
)
@click.option(
    "--preset",
    default=stored.PRESET_NAMES[0],
    metavar=f"{'|'.join(stored.PRESET_NAMES)}|FILE.toml",
    show_default=True,
    help="Released code, the paper's text, or your own file.",
)
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the settings of --model on --dataset to a new .toml file, to edit and give to 'msdn train --preset'.",
)
@json_option
@home_option
def presets(
    home: Home,
    model: str | None,
    dataset: str | None,
    task: str,
    preset: str,
    write: Path | None,
    as_json: bool,
) -> None:
    """Show the settings that 'msdn train' starts from, and where each value comes from.

    With --model and --dataset, every setting of the two is shown. Without them, you see how many settings are published
    (the paper or its authors' code), borrowed (from another model or dataset, because none is published), ours, or the
    default.
    """
    use_home(home)
    models, datasets = _asked(model, dataset)
    if write is not None:
        if write.suffix != ".toml":
            raise WrongUsageError(
                f"--write {write}: its name must end in .toml, because --preset knows such files by that ending"
            )
        check_new(write, "name")
        only = _only(datasets, dataset)
        rows = setting_rows(models[0] if model else DEFAULT, only, task, preset, find_amounts(home, only))
        values = {row["setting"]: (row["value"], row["source"]) for row in rows}
        stored.write_preset(write, models[0] if model else DEFAULT, only, values)
        click.echo(write)
        return
    facts: dict[str, Any] = {"task": task, "preset": preset}
    amounts = find_amounts(home, datasets[0]) if dataset else None
    notes = [note for name in models if (note := find_model(name).reconstruction)]
    if dataset and amounts is None and not stored.has_preset(datasets[0]):
        notes.append(
            f"{datasets[0]} has no preset, and no features to choose settings by; run 'msdn extract' first"
        )
    if model and dataset:
        rows = setting_rows(models[0], datasets[0], task, preset, amounts)
        has_none = preset == stored.PRESET_NAMES[0] and not stored.has_preset(datasets[0], models[0])
        name = "no preset for these data" if has_none else f"preset {preset}"
        title = f"{models[0]} on {datasets[0]}: {name}, task {task}"
        content = {"model": models[0], "dataset": datasets[0], **facts, "settings": rows, "notes": notes}
    else:
        shown = [one for one in models if preset != "paper" or stored.has_paper_preset(one)]
        rows = [overview_row(m, d, task, preset, amounts) for m in shown or models for d in datasets]
        title = f"number of settings by source: preset {preset}, task {task}"
        content = {**facts, "presets": rows, "notes": notes}
    cells = [[show_value(value) for value in row.values()] for row in rows]
    words = [name for name in rows[0] if name not in KINDS]
    show(Result(content, [Table(list(rows[0]), cells, title, words)], notes), as_json)


def setting_rows(
    model: str, dataset: str, task: str, preset: str, amounts: Amounts | None = None
) -> list[dict[str, Any]]:
    """Each setting of a model on a dataset with its value and source, also those at their default."""
    asked: dict[str, Any] = {"preset": preset, "task": task, "amounts": amounts}
    sourced = stored.preset_values(model, dataset, **asked)
    values = stored.preset_settings(model, dataset, **asked).as_json()
    return [
        {"setting": name, "value": values[name], "source": sourced[name][1] if name in sourced else KINDS[-1]}
        for name in fields_of(find_model(model).settings)
        if name not in _IN_TITLE
    ]


def overview_row(
    model: str, dataset: str, task: str, preset: str, amounts: Amounts | None = None
) -> dict[str, Any]:
    """How many settings of a model on a dataset come from where."""
    counts = Counter(kind_of(row["source"]) for row in setting_rows(model, dataset, task, preset, amounts))
    return {"model": model, "dataset": dataset, **{kind: counts[kind] for kind in KINDS}}


def kind_of(source: str) -> str:
    """One of `KINDS` for a value's source."""
    if source == "default":
        return source
    if source.startswith("as "):
        return "borrowed"
    return "published" if source.startswith("the ") else "ours"


def _asked(model: str | None, dataset: str | None) -> tuple[list[str], list[str]]:
    models = [choose_model(model).name] if model else model_names()
    known = stored.known_datasets()
    if dataset is None:
        return models, known
    name = dataset_name(dataset)
    if name == dataset and name not in known and not Path(dataset).is_dir():
        raise UnknownNameError("dataset", dataset, known, ", or the path of your own folder")
    return models, [name]


def _only(datasets: list[str], dataset: str | None) -> str:
    if dataset is None:
        raise WrongUsageError("--write needs --dataset: the dataset whose settings to start from")
    return datasets[0]
