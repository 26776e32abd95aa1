"""`msdn sweep`: the same training with one setting, or two, at several values. Loads torch only when it runs."""

import json
from pathlib import Path
from typing import Any, ClassVar

import click

from msdn.cache import Home
from msdn.cache.home import DEFAULT_HOME, dataset_name, home_option
from msdn.train.errors import SettingsError
from msdn.train.loop.options import (
    WHAT,
    SettingsCommand,
    check_groups,
    choose_settings,
    groups_option,
    option,
    preset_label,
)
from msdn.train.loop.settings import fields_of
from msdn.train.models.registry import DEFAULT, find_model
from msdn.train.studies import sweep as sweeps
from msdn.train.studies.options import SEVERAL_SEEDS, choose_name, default_name, study_options
from msdn.train.studies.rows import Facts, RowResult, StudyRow

Swept = dict[str, tuple[Any, ...]]  # the settings to change, with their values
_ON_TEST = "figures of the test classes, to look at: choose nothing by them, --select val is for that"


class SweepCommand(SettingsCommand):
    """Takes a model's settings, but for the seed."""

    refused: ClassVar = {"seed": SEVERAL_SEEDS}


@click.command(cls=SweepCommand)
@option(
    WHAT,
    "--over",
    multiple=True,
    required=True,
    metavar="SETTING",
    help="The setting to change: alpha, lambda_cal, lr, … Twice for a grid of two.",
)
@option(
    WHAT,
    "--values",
    multiple=True,
    metavar="V,V,…",
    help="Its values, once for each --over; of alpha the weight of A→V, where V→A gets the rest, or both as in "
    "0.9:0.1.  [values around the published ones]",
)
@study_options(seeds="0-2")
@groups_option
@home_option
def sweep(
    home: Home,
    dataset: str,
    over: tuple[str, ...],
    values: tuple[str, ...],
    cache: Path | None,
    seeds: tuple[int, ...],
    jobs: int | None,
    device: str,
    threads: int | None,
    name: str | None,
    as_json: bool,
    preset: str | None,
    groups: Path | None,
    **settings: Any,
) -> None:
    """Train with several values of a setting, and show what each gives: mean ± standard deviation over the seeds.

    With --select val the figures are of validation classes, no test image is looked at, and the best value is named
    with the command that trains it. Otherwise they are of the test classes, and nothing should be chosen by them.

    What was trained before is not trained again: an interrupted sweep goes on with the same command. Where a training
    fails, the others go on, and its row has no mean. Runs are kept in HOME/studies/runs, figures in HOME/studies:
    NAME.csv (each seed), NAME-means.csv and NAME.json.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    dataset = dataset_name(dataset)
    swept = _swept(over, values, overrides)
    base = choose_settings(dataset, preset, overrides)
    check_groups(base.model, groups)
    rows = sweeps.sweep_rows(base, swept, overrides, preset_label(preset, overrides))
    name = choose_name(name, default_name(["sweep", dataset, base.model, *swept, base.select], rows))
    facts, done = _measure(home, dataset, rows, name, cache, seeds, groups, jobs, device, threads)
    places = {"--cache": cache, "--groups": groups, "--home": _unusual(home)}
    words = [word for one in places.items() if one[1] for word in map(str, one)]
    _report(home, facts, done, swept, words, as_json)


def _swept(over: tuple[str, ...], values: tuple[str, ...], overrides: dict[str, Any]) -> Swept:
    """The settings to change with their values."""
    model = overrides.get("model", DEFAULT)
    names = [sweeps.swept_setting(text, model) for text in over]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"--over names '{name}' twice; a grid takes two different settings")
        if name in overrides:
            raise SettingsError(f"{name} is what --over changes; leave the option of its own out")
    if values and len(values) != len(names):
        raise SettingsError(
            f"{len(names)} times --over and {len(values)} times --values; give one for each, or none"
        )
    texts, own = values or (None,) * len(names), fields_of(find_model(model).settings)
    return {name: sweeps.parse_values(own[name], text) for name, text in zip(names, texts, strict=True)}


def _measure(
    home: Home,
    dataset: str,
    rows: tuple[StudyRow, ...],
    name: str,
    cache: Path | None,
    seeds: tuple[int, ...],
    groups: Path | None,
    jobs: int | None,
    device: str,
    threads: int | None,
) -> tuple[Facts, list[RowResult]]:
    from msdn.train.groups.choose import choose_groups
    from msdn.train.runs.run import open_dataset_cache
    from msdn.train.studies.measure import measure_study
    from msdn.train.studies.study import Study

    with open_dataset_cache(home, dataset, cache) as opened:
        chosen = choose_groups(opened.annotations, groups) if groups else None
        study = Study(name, rows, seeds, rows[0].settings.select == "val", chosen)
        return measure_study(opened, study, home, workers=jobs, device=device, threads=threads)


def _report(
    home: Home, facts: Facts, rows: list[RowResult], swept: Swept, places: list[str], as_json: bool
) -> None:
    from msdn.train.measure.tables import print_table
    from msdn.train.studies.files import study_json
    from msdn.train.studies.measure import keep_study
    from msdn.train.studies.view import study_notes, study_table

    notes, extra = _advice(facts, rows, swept, places)
    keep_study(home, facts, rows, extra)
    if as_json:
        click.echo(json.dumps(study_json(facts, rows, extra)))
        return
    title = f"{rows[0].row.settings.model} on {facts.dataset}, {facts.measured_on} classes, mean ± std"
    print_table(study_table(title, facts, rows), [*study_notes(facts, rows), *notes])


def _advice(
    facts: Facts, rows: list[RowResult], swept: Swept, places: list[str]
) -> tuple[list[str], dict[str, Any]]:
    """What may be done with the figures."""
    if facts.measured_on == "test":
        return [_ON_TEST], {"best": None}
    best = sweeps.best_row(facts, rows)
    if best is None:
        return [f"no value has a known {facts.ranked_by} on the validation classes"], {"best": None}
    command = sweeps.train_command(facts.dataset, best.row, places)
    lines = [
        f"best {facts.ranked_by} on validation classes (figures of these, not of test classes): {best.row.label}",
        f"train with it: {command}",
    ]
    edge = sweeps.settings_at_edge(best.row, swept)
    lines += [f"the best {name} lies at the edge of the values given: try some beyond it" for name in edge]
    found = {"label": best.row.label, **best.row.facts, "command": command, "at_edge": edge}
    return lines, {"best": found}


def _unusual(home: Home) -> Path | None:
    """The home where a command has to name it."""
    return None if home.root == Path(DEFAULT_HOME) else home.root
