"""The settings of each model on each dataset and task, every number with its source. Data only: no torch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from msdn.cache.errors import UnknownNameError
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import TASKS, TrainSettings
from msdn.train.models.registry import model_entry

Sourced = Mapping[str, tuple[Any, str]]  # a setting's value, and where it comes from

CODE = "the authors' training code"
PAPER = "the paper"
BOTH = "the paper and the authors' training code"
LIKE_MSDN = "as MSDN, for lack of published settings"
LIKE_CUB = "as CUB, for lack of published settings"
LIKE_AWA2 = "as AWA2, for lack of published settings"
OURS = "ours"
TUNED = "ours, by 'msdn sweep --select val' (docs/results.md)"

PRESET_NAMES = ("released", "paper")

_COMMON: Sourced = {
    "learning_rate": (1e-4, BOTH),
    "weight_decay": (1e-4, BOTH),
    "batch_size": (50, BOTH),
    "margin": (1.0, BOTH),
    "vectors": ("given", BOTH),
    "normalize_vectors": (False, CODE),
    "negative_attributes": ("keep", CODE),
    "branches": ("both", BOTH),
    "distill_parts": ("both", BOTH),
    **{name: ("released", CODE) for name in ("va_form", "cross_entropy", "calibration", "distillation")},
}
_CUB: Sourced = {
    **_COMMON,
    "momentum": (0.9, BOTH),
    "epochs": (30, CODE),
    "sampler": ("random", CODE),
    "lambda_cal": (0.1, BOTH),
    "lambda_distill": (0.001, BOTH),
    "alpha": ((0.9, 0.1), BOTH),
}
_AS_CUB: Sourced = {name: (value, LIKE_CUB) for name, (value, _) in _CUB.items()}
_MSDN: dict[str, Sourced] = {
    "cub": _CUB,
    "sun": {
        **_COMMON,
        "momentum": (0.9, BOTH),
        "epochs": (70, CODE),
        "sampler": ("balanced", CODE),
        "lambda_cal": (1e-4, CODE),
        "lambda_distill": (0.01, BOTH),
        "alpha": ((0.7, 0.3), BOTH),
    },
    "awa2": {
        **_COMMON,
        "momentum": (0.0, CODE),
        "epochs": (50, CODE),
        "sampler": ("balanced", CODE),
        "lambda_cal": (0.12, CODE),
        "lambda_distill": (1e-7, CODE),
        "alpha": ((1.0, 0.0), CODE),
        "normalize_vectors": (True, CODE),
        "negative_attributes": ("missing", CODE),  # −1 marks a missing value there
    },
    # No names of attributes there that words could be looked up for.
    "flo": {**_AS_CUB, "vectors": ("learned", OURS)},
    "plumage": {
        **_AS_CUB,
        "epochs": (60, TUNED),
        "lambda_cal": (0.0, TUNED),
        "lambda_distill": (0.03, TUNED),
    },
}
_CAUSAL: Sourced = {
    "lambda_causal": (1.0, OURS),
    "counterfactual": ("random", OURS),
    "causal_branches": ("both", OURS),
}
_MSDN_CZSL: dict[str, Sourced] = {"cub": {"lambda_cal": (0.18, CODE)}, "awa2": {"lambda_cal": (0.3, CODE)}}

# The paper's text, where it differs from the code: its equations, and the weights of its "Implementation Details".
_PAPER_FORMS = dict.fromkeys(("va_form", "cross_entropy", "calibration", "distillation"), "paper")
_MSDN_PAPER: dict[str, Sourced] = {
    "sun": {"lambda_cal": (0.0, PAPER)},
    "awa2": {"lambda_cal": (0.1, PAPER), "lambda_distill": (0.001, PAPER), "momentum": (0.9, PAPER)},
}


def _like(source: str, values: Mapping[str, Sourced], changes: Mapping[str, Sourced]) -> dict[str, Sourced]:
    """Another model's settings of each dataset, said to be so, with changes."""
    return {
        dataset: {name: (value, source) for name, (value, _) in sourced.items()}
        | dict(changes.get(dataset, {}))
        for dataset, sourced in values.items()
    }


_BASELINE = _like(
    LIKE_MSDN,
    _MSDN,
    {
        # A linear map that starts at zero needs larger steps, and more of them, on so few images.
        "plumage": {
            "epochs": (120, TUNED),
            "learning_rate": (3e-3, TUNED),
            "weight_decay": (3e-5, TUNED),
            "momentum": (0.0, TUNED),
            "lambda_cal": (0.1, TUNED),
        }
    },
)
_DEDN_COMMON: Sourced = {
    **{name: (value, CODE) for name, (value, _) in _COMMON.items()},
    "distance_epsilon": (0.0, CODE),
    "score_rank": (0, CODE),
    "lambda_experts": (0.1, CODE),
    "lambda_align": (0.001, CODE),
}
_DEDN: dict[str, Sourced] = {
    "cub": {
        **_DEDN_COMMON,
        "momentum": (0.9, CODE),
        "epochs": (80, CODE),
        "sampler": ("balanced", CODE),
        "lambda_cal": (0.0, CODE),
        "region_mix": (0.8, CODE),
        "coarse_mix": (0.9, CODE),
        "true_class_shift": (3.0, CODE),
    },
    "sun": {
        **_DEDN_COMMON,
        "momentum": (0.9, CODE),
        "epochs": (80, CODE),
        "sampler": ("random", CODE),
        "lambda_cal": (0.0, CODE),
        "region_mix": (0.95, CODE),
        "coarse_mix": (0.3, CODE),
        "true_class_shift": (2.0, CODE),
        "score_rank": (256, CODE),
        "distance_epsilon": (1e-9, CODE),
    },
    "awa2": {
        **_DEDN_COMMON,
        "momentum": (0.0, CODE),
        "epochs": (20, CODE),
        "sampler": ("balanced", CODE),
        "lambda_cal": (0.11, CODE),
        "region_mix": (0.8, CODE),
        "coarse_mix": (0.5, CODE),
        "true_class_shift": (2.0, CODE),
        "distance_epsilon": (1e-9, CODE),
        "negative_attributes": ("missing", CODE),
    },
}
_DEDN |= {
    "flo": {
        **{name: (value, LIKE_CUB) for name, (value, _) in _DEDN["cub"].items()},
        "vectors": ("learned", OURS),
    },
    "plumage": {
        **{name: (value, LIKE_AWA2) for name, (value, _) in _DEDN["awa2"].items()},
        "momentum": (0.9, LIKE_CUB),
        "sampler": ("random", LIKE_MSDN),
        "distance_epsilon": (0.0, LIKE_CUB),
        "negative_attributes": ("keep", LIKE_CUB),
        "lambda_cal": (0.0, TUNED),
    },
}
_DEDN_CZSL: dict[str, Sourced] = {
    "cub": {"lambda_cal": (0.18, CODE), "region_mix": (0.6, CODE)},
    "sun": {"score_rank": (128, CODE)},
}

PRESETS: dict[str, Mapping[str, Sourced]] = {
    "msdn": _MSDN,
    "msdn++": _like(
        LIKE_MSDN,
        _MSDN,
        {**dict.fromkeys(_MSDN, _CAUSAL), "plumage": {**_CAUSAL, "lambda_causal": (0.1, TUNED)}},
    ),
    "dedn": _DEDN,
    "dazle": _like(LIKE_MSDN, _MSDN, {"plumage": {"epochs": (30, LIKE_CUB), "lambda_cal": (0.0, TUNED)}}),
    "baseline": _BASELINE,
}
CZSL_PRESETS: dict[str, Mapping[str, Sourced]] = {
    "msdn": _MSDN_CZSL,
    "msdn++": _like(LIKE_MSDN, _MSDN_CZSL, {}),
    "dedn": _DEDN_CZSL,
    "dazle": _like(LIKE_MSDN, _MSDN_CZSL, {}),
    "baseline": _like(LIKE_MSDN, _MSDN_CZSL, {}),
}
PAPER_PRESETS: dict[str, Mapping[str, Sourced]] = {  # DEDN's equations are known from its code alone
    "msdn": _MSDN_PAPER,
    "msdn++": _like(LIKE_MSDN, _MSDN_PAPER, {}),
    "dazle": _like(LIKE_MSDN, _MSDN_PAPER, {}),
    "baseline": _like(LIKE_MSDN, _MSDN_PAPER, {}),
}


def preset_settings(
    model: str, dataset: str, *, preset: str = "released", task: str = "gzsl"
) -> TrainSettings:
    """The settings of a model on a dataset; a dataset without a preset gets the defaults.

    `task="czsl"` matters where the released code has other settings for it; the paper has none.
    """
    sourced = preset_values(model, dataset, preset=preset, task=task)
    return dataclasses.replace(
        TrainSettings(model=model, task=task), **{name: value for name, (value, _) in sourced.items()}
    )


def preset_values(
    model: str, dataset: str, *, preset: str = "released", task: str = "gzsl"
) -> dict[str, tuple[Any, str]]:
    """The values of a preset with their sources; what is not among them is the default of `TrainSettings`."""
    if preset not in PRESET_NAMES:
        raise UnknownNameError("preset", preset, PRESET_NAMES)
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    values = {**PRESETS.get(model, {}).get(dataset, {})}
    entry = model_entry(model)
    if preset == "paper":
        if model not in PAPER_PRESETS:
            raise SettingsError(f"the model '{model}' has no preset 'paper'; leave --preset out")
        source = PAPER if model == "msdn" else LIKE_MSDN
        values |= {name: (form, source) for name, form in _PAPER_FORMS.items()}
        values |= {**PAPER_PRESETS[model].get(dataset, {})}
    elif task == "czsl":
        values |= {**CZSL_PRESETS.get(model, {}).get(dataset, {})}
    return entry.select(values)
