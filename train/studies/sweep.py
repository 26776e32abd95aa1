"""`msdn sweep`: the same training with one setting at several values, or two; the best one, where it may be chosen.

Loads torch only when it runs.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import click

from msdn.cache import Home
from msdn.cache.errors import UnknownNameError
from msdn.cache.home import command_line, home_option
from msdn.train.errors import SettingsError
from msdn.train.loop.options import (
    SEVERAL_SEEDS,
    WHAT,
    SettingsCommand,
    amounts_for,
    check_groups,
    dataset_of,
    groups_option,
    option,
    preset_of,
    study_options,
)
from msdn.train.loop.settings import fields_of, option_name
from msdn.train.measure.show import show_settings
from msdn.train.models.registry import DEFAULT, find_model, remember
from msdn.train.models.rule import Amounts
from msdn.train.studies.study import (
    Facts,
    RowResult,
    Study,
    StudyRow,
    choose_name,
    default_name,
    keep_and_show,
    measure_study,
    model_row,
    study_result,
    study_table,
)

Swept = Mapping[str, Sequence[Any]]  # the settings to change, with their values
_DIGITS = 9  # of a mean in percent, so that equals are equal in spite of rounding
_ON_TEST = "figures of the test classes, only to look at: choose nothing by them; to choose a value, use --select val"
_ONE_SEED = "one seed: no verdict; the differences may be chance, so give several seeds with --seeds"


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
    dataset: str | None,
    over: tuple[str, ...],
    values: tuple[str, ...],
    cache: Path | None,
    seeds: tuple[int, ...],
    jobs: int | None,
    threads: int | None,
    device: str,
    precision: str,
    name: str | None,
    as_json: bool,
    preset: str | None,
    groups: Path | None,
    **settings: Any,
) -> None:
    """Train with several values of a setting, and show what each gives: mean ± standard deviation over the seeds.

    With --select val the figures are of validation classes and no test image is used; the best value is shown with the
    command that trains it. Without it, the figures are of the test classes: do not choose anything by them. One seed
    decides nothing: give several with --seeds.

    What was trained before is not trained again: to continue an interrupted sweep, repeat the command. If a training
    fails, the others continue, and its row has no mean. Runs are kept in HOME/studies/runs, figures in HOME/studies:
    NAME.csv (each seed), NAME-means.csv and NAME.json.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    dataset = dataset_of(dataset, cache)
    swept = _swept(over, values, overrides)
    rows = sweep_rows(dataset, swept, overrides, preset, amounts_for(home, dataset, cache))
    base = rows[0].settings
    check_groups(base.model, groups)
    name = choose_name(name, default_name(["sweep", dataset, base.model, *swept, base.select], rows))
    remember(home, base.model)
    from msdn.train.groups.choose import choose_groups
    from msdn.train.runs.run import open_dataset_cache

    with open_dataset_cache(home, dataset, cache) as opened:
        chosen = choose_groups(opened.annotations, groups) if groups else None
        study = Study(name, rows, seeds, base.select == "val", chosen, precision)
        facts, done = measure_study(opened, study, home, workers=jobs, device=device, threads=threads)
    places = [word for one in (("--cache", cache), ("--groups", groups)) if one[1] for word in one if word]
    notes, best = _advice(facts, done, swept, places, home)
    table = study_table(f"{base.model} on {dataset}, {facts.measured_on} classes, mean ± std", facts, done)
    keep_and_show(home, study_result(facts, done, table, notes, {"best": best}), as_json)


def _swept(over: tuple[str, ...], values: tuple[str, ...], overrides: dict[str, Any]) -> Swept:
    """The settings to change with their values."""
    model = overrides.get("model", DEFAULT)
    names = [swept_setting(text, model) for text in over]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"--over names '{name}' twice; a grid takes two different settings")
        if name in overrides:
            raise SettingsError(f"{name} is what --over changes; leave its own option out")
    if values and len(values) != len(names):
        raise SettingsError(
            f"{len(names)} times --over and {len(values)} times --values; give one for each, or none"
        )
    texts, own = values or (None,) * len(names), fields_of(find_model(model).settings)
    return {name: parse_values(own[name], text) for name, text in zip(names, texts, strict=True)}


def swept_setting(text: str, model: str) -> str:
    """The setting that `--over` names, with or without dashes; raises where the model cannot be swept over it."""
    own = fields_of(find_model(model).settings)
    by_option = {option_name(one)[2:]: name for name, one in own.items()}
    numeric = [name for name, one in own.items() if is_numeric(one)]
    name = by_option.get(text, text.replace("-", "_"))
    if name not in own:
        raise UnknownNameError(f"setting of '{model}'", text, numeric)
    if name == "seed":
        raise SettingsError("--over seed compares nothing; give several seeds with --seeds")
    if name not in numeric:
        raise SettingsError(f"--over {text} is not a number; these are: {', '.join(numeric)}")
    return name


def is_numeric(one: "dataclasses.Field[Any]") -> bool:
    """Whether a setting is a number, or alpha's pair of them."""
    default = cast(Any, one.default)
    return one.name != "seed" and isinstance(default, (int, float, tuple)) and not isinstance(default, bool)


def parse_values(one: "dataclasses.Field[Any]", text: str | None) -> tuple[Any, ...]:
    """The values of a setting as typed, `0.1,0.3`, ascending; None means those that its field names."""
    name = one.name
    if text is None:
        if "sweep" not in one.metadata:
            raise SettingsError(
                f"there are no values by default for {name}; give them with --values, as in 1,2,3"
            )
        return tuple(one.metadata["sweep"])
    values = sorted(_parse_value(one, part.strip()) for part in text.split(","))
    if len(values) < 2 or len(set(values)) < len(values):
        raise SettingsError(
            f"--values {text} of {name}: expected two or more different values, as in 0.1,0.3"
        )
    return tuple(values)


def sweep_rows(
    dataset: str,
    over: Swept,
    overrides: Mapping[str, Any],
    preset: str | None = None,
    amounts: Amounts | None = None,
) -> tuple[StudyRow, ...]:
    """A row for each value, or for each combination of values, ascending; refuses values outside the limits.

    Each is what 'msdn train' makes of that value: the preset's settings, or the rule's, which goes by `amounts`.
    """
    rows = []
    for values in itertools.product(*over.values()):
        changes = dict(zip(over, values, strict=True))
        rows.append(
            model_row(
                dataset,
                overrides.get("model", DEFAULT),
                show_settings(changes),
                preset=preset,
                changes=changes,
                common=overrides,
                facts=dict(itertools.chain.from_iterable(_columns(*change) for change in changes.items())),
                amounts=amounts,
            )
        )
    return tuple(rows)


def best_row(rows: Iterable[RowResult]) -> RowResult | None:
    """The row with the best mean of the task's figure, the first of equals; None where no mean is known."""
    means = [(done.figures[done.row.settings.ranked_by].mean, done) for done in rows]
    known = [(round(mean, _DIGITS), done) for mean, done in means if mean is not None]
    return max(known, key=lambda one: one[0])[1] if known else None


def settings_at_edge(best: StudyRow, over: Swept) -> list[str]:
    """The swept settings whose best value is the least or the greatest one given, and not so by its limits."""
    found = []
    for name, values in over.items():
        value, limited = getattr(best.settings, name), fields_of(type(best.settings))[name].metadata
        limits = limited.get("at_least"), limited.get("at_most")
        if value in (min(values), max(values)) and not any(part in limits for part in _parts(value)):
            found.append(name)
    return found


def train_command(
    dataset: str, row: StudyRow, places: Sequence[str | Path] = (), home: Home | None = None
) -> str:
    """The command that trains a row's settings; `places` are further words, such as those of `--cache`."""
    own = fields_of(type(row.settings))
    words: list[Any] = ["train", "--dataset", dataset, "--model", row.settings.model, *places]
    words += ["--preset", preset_of(row.preset)] if row.preset else []
    words += ["--task", row.settings.task]
    for name, value in row.overrides.items():
        if name not in ("model", "task"):
            words += _option_words(own[name], value)
    return command_line(*words, home=home)


def _parts(value: Any) -> tuple[Any, ...]:
    """Alpha's two weights, or the one value of another setting."""
    return value if isinstance(value, tuple) else (value,)


def _option_words(one: "dataclasses.Field[Any]", value: Any) -> list[str]:
    option = option_name(one)
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    return [option, *(repr(part) if isinstance(part, float) else str(part) for part in _parts(value))]


def _columns(name: str, value: Any) -> list[tuple[str, Any]]:
    """A value's columns in files; alpha has one for each branch."""
    if isinstance(value, tuple):
        return [(f"{name}_{number}", part) for number, part in enumerate(value, 1)]
    return [(name, value)]


def _parse_value(one: "dataclasses.Field[Any]", text: str) -> Any:
    """A value as typed; of alpha the first weight, or both as `0.9:0.1`."""
    kind, is_pair = int if isinstance(one.default, int) else float, isinstance(one.default, tuple)
    try:
        if not is_pair:
            return kind(text)
        first, colon, second = text.partition(":")
        return float(first), float(second) if colon else round(1 - float(first), 12)
    except ValueError as error:
        expected = "a whole number" if kind is int else "a number"
        pair = ", or two as in 0.9:0.1" if is_pair else ""
        raise SettingsError(f"--values of {one.name}: '{text}' is not {expected}{pair}") from error


def _advice(
    facts: Facts, rows: list[RowResult], swept: Swept, places: list[str | Path], home: Home
) -> tuple[list[str], dict[str, Any] | None]:
    """What may be done with the figures, and the best value where one may be chosen."""
    one_seed = [_ONE_SEED] if len(facts.seeds) == 1 else []
    if facts.measured_on == "test":
        return [_ON_TEST, *one_seed], None
    figure, best = rows[0].row.settings.ranked_by, best_row(rows)
    if best is None:
        return [f"no value has a known {figure} on the validation classes"], None
    command, edge = train_command(facts.dataset, best.row, places, home), settings_at_edge(best.row, swept)
    lines = [
        f"best {figure} on validation classes (figures of these, not of test classes): {best.row.label}",
        f"train with it: {command}",
        *(f"the best {name} lies at the edge of the values given: try some beyond it" for name in edge),
        *one_seed,
    ]
    return lines, {"label": best.row.label, **best.row.facts, "command": command, "at_edge": edge}
