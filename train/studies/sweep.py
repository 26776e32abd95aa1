"""A sweep: one row for each value of a setting, or for each pair of values of two. Data and words only, no torch."""

import dataclasses
import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from msdn.cache.errors import UnknownNameError
from msdn.train.errors import SettingsError
from msdn.train.loop.options import split_label
from msdn.train.loop.settings import RunSettings, fields_of, option_name
from msdn.train.measure.tables import show_value
from msdn.train.models.registry import find_model
from msdn.train.studies.rows import Facts, RowResult, StudyRow

_DIGITS = 9  # of a mean in percent, so that equals are equal in spite of rounding


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
        raise SettingsError(f"--over {text} is no number; these are: {', '.join(numeric)}")
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
    base: RunSettings, over: Mapping[str, Sequence[Any]], overrides: Mapping[str, Any], preset: str
) -> tuple[StudyRow, ...]:
    """A row for each value, or for each combination of values, ascending; refuses values outside the limits."""
    rows = []
    for values in itertools.product(*over.values()):
        changes = dict(zip(over, values, strict=True))
        rows.append(
            StudyRow(
                label=", ".join(f"{name} {show_value(value)}" for name, value in changes.items()),
                settings=dataclasses.replace(base, **changes),
                facts=dict(itertools.chain.from_iterable(_columns(*change) for change in changes.items())),
                preset=preset,
                overrides={**overrides, **changes},
                given=overrides,
            )
        )
    return tuple(rows)


def best_row(facts: Facts, rows: Iterable[RowResult]) -> RowResult | None:
    """The row with the best mean of the task's figure, the first of equals; None where no mean is known."""
    means = [(done.figures[facts.ranked_by].mean, done) for done in rows]
    known = [(round(mean, _DIGITS), done) for mean, done in means if mean is not None]
    return max(known, key=lambda one: one[0])[1] if known else None


def settings_at_edge(best: StudyRow, over: Mapping[str, Sequence[Any]]) -> list[str]:
    """The swept settings whose best value is the least or the greatest one given, and not so by its limits."""
    found = []
    for name, values in over.items():
        value = getattr(best.settings, name)
        limits = fields_of(type(best.settings))[name].metadata
        if value in (min(values), max(values)) and not _is_limit(limits, value):
            found.append(name)
    return found


def train_command(dataset: str, row: StudyRow, places: Sequence[str] = ()) -> str:
    """The command that trains a row's settings; `places` are further words, such as those of `--cache`."""
    preset, task = split_label(row.preset)
    own = fields_of(type(row.settings))
    words = ["msdn", "train", "--dataset", dataset, "--model", row.settings.model, *places]
    words += ["--preset", preset, "--task", task]
    for name, value in row.overrides.items():
        if name not in ("model", "task"):
            words += _option_words(own[name], value)
    return shlex.join(words)


def _is_limit(metadata: Mapping[str, Any], value: Any) -> bool:
    """Whether a value, or a part of it, is the first or the last that its setting may have."""
    limits = [metadata.get(limit) for limit in ("at_least", "at_most")]
    return any(part in limits for part in (value if isinstance(value, tuple) else (value,)))


def _option_words(one: "dataclasses.Field[Any]", value: Any) -> list[str]:
    option = option_name(one)
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    parts = value if isinstance(value, tuple) else (value,)
    return [option, *(repr(part) if isinstance(part, float) else str(part) for part in parts)]


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
