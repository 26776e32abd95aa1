"""All models on one dataset, each by its own preset. Data only, no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from msdn.train.loop.options import choose_settings, preset_label
from msdn.train.models.msdn_plus import COUNTERFACTUALS
from msdn.train.models.published import published_figures
from msdn.train.models.registry import find_model
from msdn.train.studies.rows import StudyRow

MODEL = "model"  # the column that holds a row's model
Member = tuple[str, Mapping[str, Any]]  # a model, and what is changed of its preset
FAMILY: tuple[Member, ...] = (
    ("baseline", {}),
    ("dazle", {}),
    ("msdn", {}),
    *(("msdn++", {"counterfactual": name}) for name in COUNTERFACTUALS),
    ("dedn", {}),
)


def family_rows(
    dataset: str, members: Sequence[Member] = FAMILY, overrides: Mapping[str, Any] | None = None
) -> tuple[StudyRow, ...]:
    """A row for each model with its changes; `overrides` hold for all models that have them."""
    return tuple(_row(dataset, model, changes, dict(overrides or {})) for model, changes in members)


def _row(dataset: str, model: str, changes: Mapping[str, Any], common: dict[str, Any]) -> StudyRow:
    given = find_model(model).select(common)
    overrides = {**given, **changes}
    return StudyRow(
        label=", ".join([model, *(f"{value} {name}" for name, value in changes.items())]),
        settings=choose_settings(dataset, None, overrides, model),
        facts={MODEL: model},
        preset=preset_label(None, overrides),
        overrides=overrides,
        given=given,
        published=published_figures(model, dataset),
    )
