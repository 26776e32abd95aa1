"""A sweep: one row for each value of a setting, or for each pair of values of two. Data and words only, no torch."""

import dataclasses
import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from msdn.cache.errors import UnknownNameError
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import TrainSettings, option_name
from msdn.train.measure.tables import show_value
from msdn.train.models.registry import model_entry
from msdn.train.studies.rows import Facts, RowResult, StudyRow

ALPHA = "alpha"
_DIGITS = 9  # of a mean in percent, so that equals are equal in spite of rounding
FIELDS = {one.name: one for one in dataclasses.fields(TrainSettings)}
DEFAULT_VALUES: dict[str, tuple[Any, ...]] = {  # ours; around the published values
    ALPHA: tuple((step / 10, round(1 - step / 10, 1)) for step in range(0, 11)),
    "lambda_cal": (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0),
    "lambda_distill": (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0),
    "lambda_causal": (0.0, 0.01, 0.1, 0.3, 1.0, 3.0),
    "lambda_experts": (0.0, 0.01, 0.1, 1.0),
    "lambda_align": (0.0, 0.0001, 0.001, 0.01, 0.1),
    "learning_rate": (3e-5, 1e-4, 3e-4, 1e-3),
    "weight_decay": (0.0, 1e-5, 1e-4, 1e-3),
    "region_mix": tuple(step / 10 for step in range(0, 11)),
    "coarse_mix": tuple(step / 10 for step in range(0, 11)),
}


def swept_setting(text: str, model: str) -> str:
    """The setting that `--over` names, with or without dashes; raises where the model cannot be swept over it."""
    by_option = {option_name(name)[2:]: name for name in FIELDS}
    numeric = [name for name in FIELDS if is_numeric(name)]
    name = by_option.get(text, text.replace("-", "_"))
    if name not in FIELDS:
        raise UnknownNameError("setting", text, numeric)
    if name == "seed":
        raise SettingsError("--over seed compares nothing; give several seeds with --seeds")
    if name not in numeric:
        raise SettingsError(f"--over {text} is no number; these are: {', '.join(numeric)}")
    model_entry(model).check_overrides([name])
    return name


def is_numeric(name: str) -> bool:
    """Whether a setting is a number, or alpha's pair of them."""
    default = cast(Any, FIELDS[name].default)
    return name != "seed" and isinstance(default, (int, float, tuple)) and not isinstance(default, bool)


def parse_values(name: str, text: str | None) -> tuple[Any, ...]:
    """The values of a setting as typed, `0.1,0.3`, ascending; None means the default ones."""
    if text is None:
        if name not in DEFAULT_VALUES:
            raise SettingsError(
                f"there are no values by default for {name}; give them with --values, as in 1,2,3"
            )
        return DEFAULT_VALUES[name]
    values = sorted(_parse_value(name, part.strip()) for part in text.split(","))
    if len(values) < 2 or len(set(values)) < len(values):
        raise SettingsError(
            f"--values {text} of {name}: expected two or more different values, as in 0.1,0.3"
        )
    return tuple(values)


def sweep_rows(
    base: TrainSettings, over: Mapping[str, Sequence[Any]], overrides: Mapping[str, Any], preset: str
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
        if value in (min(values), max(values)) and not _is_limit(name, value):
            found.append(name)
    return found


def train_command(dataset: str, row: StudyRow, places: Sequence[str] = ()) -> str:
    """The command that trains a row's settings; `places` are further words, such as those of `--cache`."""
    preset, _, task = (row.preset or "").partition("/")
    words = ["msdn", "train", "--dataset", dataset, "--model", row.settings.model, *places]
    words += ["--preset", preset, "--task", task]
    for name, value in row.overrides.items():
        if name not in ("model", "task"):
            words += _option_words(name, value)
    return shlex.join(words)


def _is_limit(name: str, value: Any) -> bool:
    """Whether a value, or a part of it, is the first or the last that its setting may have."""
    limits = [FIELDS[name].metadata.get(limit) for limit in ("at_least", "at_most")]
    return any(part in limits for part in (value if isinstance(value, tuple) else (value,)))


def _option_words(name: str, value: Any) -> list[str]:
    option = option_name(name)
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    parts = value if isinstance(value, tuple) else (value,)
    return [option, *(repr(part) if isinstance(part, float) else str(part) for part in parts)]


def _columns(name: str, value: Any) -> list[tuple[str, Any]]:
    """A value's columns in files; alpha has one for each branch."""
    if isinstance(value, tuple):
        return [(f"{name}_{number}", part) for number, part in enumerate(value, 1)]
    return [(name, value)]


def _parse_value(name: str, text: str) -> Any:
    """A value as typed; of alpha the first weight, or both as `0.9:0.1`."""
    kind = int if isinstance(FIELDS[name].default, int) else float
    try:
        if name != ALPHA:
            return kind(text)
        first, colon, second = text.partition(":")
        return float(first), float(second) if colon else round(1 - float(first), 12)
    except ValueError as error:
        expected = "a whole number" if kind is int else "a number"
        pair = ", or two as in 0.9:0.1" if name == ALPHA else ""
        raise SettingsError(f"--values of {name}: '{text}' is not {expected}{pair}") from error
