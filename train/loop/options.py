"""An option for every training setting, shared by the commands that train. No torch."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click

from msdn.train.errors import SettingsError
from msdn.train.loop.settings import TrainSettings, option_name
from msdn.train.measure.summary import parse_seeds
from msdn.train.models.presets import PRESET_NAMES, preset_settings
from msdn.train.models.registry import MODELS, model_entry


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every field of `TrainSettings`; one not given is None, and the preset decides."""
    for field in reversed(dataclasses.fields(TrainSettings)):
        command = _settings_option(field)(command)
    return command


def _settings_option(field: "dataclasses.Field[Any]") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    name = option_name(field.name)
    choices = field.metadata.get("choices")
    shape: dict[str, Any] = {"type": click.Choice(choices) if choices else type(cast(Any, field.default))}
    default, meaning = cast(Any, field.default), field.metadata["meaning"]
    if isinstance(default, bool):
        name, shape = f"{name}/--no-{name[2:]}", {}
        default = "yes" if default else "no"
    elif isinstance(default, tuple):
        shape = {"type": float, "nargs": len(default)}
        default = " ".join(map(str, default))
    if field.name == "model":
        known = "; ".join(f"{name}, the {entry.summary}" for name, entry in MODELS.items())
        meaning = f"{meaning} Known: {known}."
    return click.option(
        name,
        field.name,
        default=None,
        help=f"{meaning}  [{default}, or the preset's]",
        **shape,
    )


preset_option = click.option(
    "--preset", type=click.Choice(PRESET_NAMES), help="Released code or the paper's text.  [released]"
)
cache_option = click.option(
    "--cache", type=click.Path(path_type=Path), help="The features, where the dataset has several caches."
)
groups_option = click.option(
    "--groups",
    type=click.Path(path_type=Path),
    help="For a model that takes the attributes in groups: a CSV of attribute and group (see 'msdn data groups').",
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Trainings at once. On a CPU each takes one thread, so that figures do not depend on this; GPUs are taken in "
    "turn.  [one a GPU, or one a core up to 8]",
)


def seeds_option(**settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `--seeds`, whose value is a tuple of numbers."""
    return click.option("--seeds", metavar="0-4", callback=_parse_seeds, **settings)


def _parse_seeds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return parse_seeds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def check_groups(model: str, file: Path | None) -> None:
    """Refuse a file of groups where the model takes none."""
    if file is not None and not model_entry(model).needs_groups:
        raise SettingsError(f"--groups is no setting of the model '{model}'; leave it out")


def choose_settings(
    dataset: str, preset: str | None, overrides: dict[str, Any], model: str | None = None
) -> TrainSettings:
    """The preset's settings of a model on a dataset, with what was given on the command line."""
    model = model or overrides.get("model", TrainSettings.model)
    model_entry(model).check_overrides(overrides)
    task = overrides.get("task", TrainSettings.task)
    settings = preset_settings(model, dataset, preset=preset or PRESET_NAMES[0], task=task)
    return dataclasses.replace(settings, **{**overrides, "model": model})


def preset_label(preset: str | None, overrides: dict[str, Any]) -> str:
    """The preset's name and task, as manifests keep it."""
    return f"{preset or PRESET_NAMES[0]}/{overrides.get('task', TrainSettings.task)}"
