"""The table of models. Naming one loads no torch; a new model is one file and one entry here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msdn.cache.errors import UnknownNameError
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import option_name

_LOSS_SETTINGS = ("margin", "negative_attributes", "lambda_cal", "cross_entropy", "calibration")
_MSDN_SETTINGS = (
    *_LOSS_SETTINGS,
    *("lambda_distill", "distillation", "distill_parts", "alpha", "branches", "va_form"),
    *("vectors", "normalize_vectors"),
)


@dataclass(frozen=True)
class ModelEntry:
    """A model's name, where its builder lives, and what it takes.

    Attributes:
        build: `module:function`, called with the `Problem` and the `TrainSettings`, returns a `ZslModel`.
        settings: the settings that it has; those that no model lists belong to the trainer.
        needs_vectors: whether it needs a word vector of every attribute, unless the settings have it learn them.
        needs_groups: whether it takes the attributes in groups.
    """

    name: str
    summary: str
    build: str
    settings: tuple[str, ...]
    needs_vectors: bool = False
    needs_groups: bool = False

    def refused(self, names: Iterable[str]) -> list[str]:
        """Those of the settings that other models have and this one lacks."""
        of_models = {name for entry in MODELS.values() for name in entry.settings}
        return [name for name in names if name in of_models and name not in self.settings]

    def select(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of settings that this model or the trainer has."""
        refused = self.refused(values)
        return {name: value for name, value in values.items() if name not in refused}

    def check_overrides(self, names: Iterable[str]) -> None:
        """Refuse settings that would change nothing."""
        for name in self.refused(names):
            raise SettingsError(f"{option_name(name)} is no setting of the model '{self.name}'; leave it out")


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="msdn",
            summary="mutually semantic distillation network (CVPR 2022)",
            build="msdn.train.models.msdn.network:build_msdn",
            settings=_MSDN_SETTINGS,
            needs_vectors=True,
        ),
        ModelEntry(
            name="msdn++",
            summary="MSDN with causal attention, a reconstruction (2026)",
            build="msdn.train.models.msdn_plus.network:build_msdn_plus",
            settings=(*_MSDN_SETTINGS, "lambda_causal", "counterfactual", "causal_branches"),
            needs_vectors=True,
        ),
        ModelEntry(
            name="dedn",
            summary="dual expert distillation network (2024): region and channel attention, attributes in groups",
            build="msdn.train.models.dedn.network:build_dedn",
            settings=(
                *("margin", "negative_attributes", "lambda_cal", "vectors"),
                *("lambda_experts", "lambda_align", "true_class_shift", "region_mix", "coarse_mix"),
                *("score_rank", "distance_epsilon"),
            ),
            needs_vectors=True,
            needs_groups=True,
        ),
        ModelEntry(
            name="dazle",
            summary="dense attribute attention (CVPR 2020): A→V with an attention over attributes",
            build="msdn.train.models.dazle.network:build_dazle",
            settings=(*_LOSS_SETTINGS, "vectors", "normalize_vectors"),
            needs_vectors=True,
        ),
        ModelEntry(
            name="baseline",
            summary="map from pooled features to attributes (baseline of MSDN's Table 2)",
            build="msdn.train.models.baseline.network:build_baseline",
            settings=_LOSS_SETTINGS,
        ),
    )
}


def model_entry(name: str) -> ModelEntry:
    """The entry of a model; raises `UnknownNameError`."""
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    return MODELS[name]
