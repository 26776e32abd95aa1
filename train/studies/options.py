"""Click options that the commands of studies share, and the names of their files."""

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from msdn.cache.errors import WrongUsageError
from msdn.train.loop.options import (
    OUTPUT,
    RUNNING,
    cache_option,
    dataset_option,
    jobs_option,
    option,
    preset_option,
    seeds_option,
    split_label,
    threads_option,
)
from msdn.train.loop.settings import TASKS
from msdn.train.measure.show import show_value
from msdn.train.models.presets import PRESET_NAMES
from msdn.train.studies.study import StudyRow, changed_settings

SEVERAL_SEEDS = "a study has several seeds; give them with --seeds"
_LONGEST = 80  # letters of a file's name that tell the changed settings; more become a hash


def study_options(seeds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add what every study takes: the features, seeds, workers, files, and output."""
    options = (
        dataset_option(required=True),
        cache_option,
        seeds_option(default=seeds, show_default=True, help="The seeds that every row is trained with."),
        jobs_option,
        option(
            RUNNING,
            "--device",
            default="auto",
            show_default=True,
            help="cpu, cuda, cuda:1, several with commas; auto takes every GPU there is.",
        ),
        threads_option,
        option(
            OUTPUT,
            "--name",
            help="Name of the files in HOME/studies; those of an earlier study are replaced.",
        ),
        option(OUTPUT, "--json", "as_json", is_flag=True, help="Print the study as JSON."),
        preset_option,
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(options):
            command = one(command)
        return command

    return add


def default_name(words: Sequence[str], rows: Sequence[StudyRow]) -> str:
    """The name of a study's files: these words, then task and preset if not the default ones, and changed settings."""
    preset, task = split_label(rows[0].preset)
    unusual = [task] * (task != TASKS[0]) + [Path(preset).stem] * (preset != PRESET_NAMES[0])
    given = changed_settings(rows, but_for=("model", "task", "select"))
    changed = [f"{name}_{show_value(value)}" for name, value in given.items()]
    told = "-".join(re.sub(r"[^\w.+-]+", "_", one) for one in changed)
    if len(told) > _LONGEST:
        told = sha256(told.encode()).hexdigest()[:8]
    return "-".join([*words, *unusual, *filter(None, [told])])


def choose_name(name: str | None, default: str) -> str:
    """The name of a study's files; one that a path is hidden in is refused."""
    if name is None:
        return default
    if not name.strip(".") or Path(name).name != name:
        raise WrongUsageError(
            f"--name is '{name}', expected a file's name without a folder, such as first-try"
        )
    return name
