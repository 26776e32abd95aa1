"""The ablation of MSDN's Table 2 as data: its rows, and what the paper claims by them. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msdn.train.loop.options import choose_settings, preset_label
from msdn.train.models.published import published_ablation
from msdn.train.models.registry import find_model
from msdn.train.studies.rows import StudyRow

KEY = "key"  # the column that holds a row's key


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        key: as in `published_figures.published_ablation`.
        label: as in the paper.
        model: whose preset it starts from.
        changes: what makes the row; those that no weight depends on share a training with other rows.
    """

    key: str
    label: str
    model: str = "msdn"
    changes: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("baseline", "baseline", "baseline"),
    Variant("va", "MSDN(V→A) w/o distillation", changes={"branches": "va"}),
    Variant("av", "MSDN(A→V) w/o distillation", changes={"branches": "av"}),
    Variant("va-distill", "MSDN(V→A) w/ distillation", changes={"alpha": (0.0, 1.0)}),
    Variant("av-distill", "MSDN(A→V) w/ distillation", changes={"alpha": (1.0, 0.0)}),
    Variant("divergence", "MSDN w/ distillation (JSD)", changes={"distill_parts": "divergence"}),
    Variant("distance", "MSDN w/ distillation (l2)", changes={"distill_parts": "distance"}),
    Variant("full", "MSDN (full)"),
)
SET_BY_ROWS = ("model", "branches", "distill_parts")


@dataclass(frozen=True)
class Claim:
    """The paper's claim that one row is better than others, each of them."""

    text: str
    better: str
    worse: tuple[str, ...]


CLAIMS = (
    Claim("distillation helps V→A", "va-distill", ("va",)),
    Claim("distillation helps A→V", "av-distill", ("av",)),
    Claim("both branches beat one", "full", ("va-distill", "av-distill")),
    Claim("both terms of the distillation beat one", "full", ("divergence", "distance")),
    Claim("MSDN beats the baseline", "full", ("baseline",)),
)


def ablation_rows(
    dataset: str, preset: str | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[StudyRow, ...]:
    """The rows on a dataset by the presets of their models.

    Args:
        dataset: its name.
        preset: the preset's name; None for the released code's.
        overrides: settings of the MSDN that all rows share, as far as their model has them.
    """
    common = dict(overrides or {})
    return tuple(_row(variant, dataset, preset, common) for variant in VARIANTS)


def _row(variant: Variant, dataset: str, preset: str | None, common: dict[str, Any]) -> StudyRow:
    given = find_model(variant.model).select(common)
    overrides = {**given, **variant.changes}
    return StudyRow(
        label=variant.label,
        settings=choose_settings(dataset, preset, overrides, variant.model),
        facts={KEY: variant.key},
        preset=preset_label(preset, overrides),
        overrides=overrides,
        given=given,
        published=published_ablation(dataset).get(variant.key),
    )
