"""Click options and checks that the commands of studies share. No torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from msdn.cache.errors import WrongUsageError
from msdn.train.errors import SettingsError
from msdn.train.loop.options import (
    cache_option,
    jobs_option,
    preset_option,
    seeds_option,
    settings_options,
)
from msdn.train.loop.settings import TrainSettings, option_name
from msdn.train.models.presets import PRESET_NAMES
from msdn.train.studies.rows import StudyRow


def study_options(seeds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add what every study takes: the features, seeds, workers, files, and an option for every setting."""
    options = (
        click.option(
            "--dataset", required=True, metavar="NAME|FOLDER", help="The dataset whose features to train on."
        ),
        cache_option,
        seeds_option(default=seeds, show_default=True, help="The seeds that every row is trained with."),
        jobs_option,
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="cpu, cuda, cuda:1, several with commas; auto takes every GPU there is.",
        ),
        click.option(
            "--name", help="Name of the files in HOME/studies; those of an earlier study are replaced."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the study as JSON."),
        preset_option,
        settings_options,
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def given_settings(settings: dict[str, Any], refused: dict[str, str]) -> dict[str, Any]:
    """The settings that were typed; those of `refused` end with the reason that stands there."""
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if name in refused:
            raise SettingsError(f"{option_name(name)}: {refused[name]}")
    return given


def default_name(words: Sequence[str], rows: Sequence[StudyRow]) -> str:
    """The name of a study's files: these words, then task and preset where they are not the default ones."""
    preset, _, task = (rows[0].preset or "").partition("/")
    unusual = [task] * (task != TrainSettings.task) + [preset] * (preset != PRESET_NAMES[0])
    return "-".join([*words, *unusual])


def choose_name(name: str | None, default: str) -> str:
    """The name of a study's files; one that a path is hidden in is refused."""
    if name is None:
        return default
    if not name.strip(".") or Path(name).name != name:
        raise WrongUsageError(
            f"--name is '{name}', expected a file's name without a folder, such as first-try"
        )
    return name
