"""Settings, presets and the table of models: the values, the refusals, and that none of them needs torch."""

import dataclasses
import subprocess
import sys

import pytest

from msdn.cache.errors import UnknownNameError
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import TASKS, TrainSettings, check_effect, option_name, settings_from_json
from msdn.train.models.presets import (
    CZSL_PRESETS,
    PAPER_PRESETS,
    PRESET_NAMES,
    PRESETS,
    preset_settings,
    preset_values,
)
from msdn.train.models.registry import MODELS, model_entry


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0}, "--lr is 0, expected more than 0"),
        ({"learning_rate": float("nan")}, "--lr is nan, expected a finite number"),
        ({"epochs": 0}, "--epochs is 0, expected 1 or more"),
        ({"epochs": 1.5}, "--epochs is 1.5, expected a whole number"),
        ({"batch_size": True}, "--batch-size is True, expected a whole number"),
        ({"momentum": 1.0}, "--momentum is 1.0, expected less than 1"),
        ({"seed": -1}, "--seed is -1, expected 0 or more"),
        ({"sampler": "fair"}, "--sampler is 'fair', expected one of: random, balanced"),
        ({"va_form": "papers"}, "--va-form is 'papers', expected one of: released, paper"),
        ({"alpha": (0.5,)}, r"--alpha is \(0.5,\), expected 2 numbers"),
        ({"alpha": (0, 0.0)}, "--alpha is 0 0, with which no branch would predict"),
        ({"alpha": (0.5, -1)}, "--alpha is -1, expected 0 or more"),
        ({"lambda_cal": "much"}, "--lambda-cal is 'much', expected a number"),
        ({"vectors": "word2vec"}, "--vectors is 'word2vec', expected one of: given, learned"),
        ({"normalize_vectors": 1}, "--normalize-vectors is 1, expected bool"),
    ],
)
def test_senseless_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(TrainSettings(), **change)


def test_settings_survive_json() -> None:
    settings = preset_settings("msdn", "awa2")
    assert settings_from_json(settings.as_json()) == settings
    assert settings_from_json({"epochs": 3}) == TrainSettings(epochs=3)
    with pytest.raises(SettingsError, match="unknown setting 'warmup'"):
        settings_from_json({"warmup": 3})


# The published training code: epochs, λ_cal, CZSL's λ_cal, λ_distill, α, momentum, sampler
PUBLISHED = {
    "cub": (30, 0.1, 0.18, 0.001, (0.9, 0.1), 0.9, "random"),
    "sun": (70, 1e-4, 1e-4, 0.01, (0.7, 0.3), 0.9, "balanced"),
    "awa2": (50, 0.12, 0.3, 1e-7, (1.0, 0.0), 0.0, "balanced"),
}


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_presets_are_the_published_settings(dataset: str) -> None:
    epochs, lambda_cal, lambda_czsl, lambda_distill, alpha, momentum, sampler = PUBLISHED[dataset]
    settings = preset_settings("msdn", dataset)
    assert settings == TrainSettings(
        epochs=epochs,
        lambda_cal=lambda_cal,
        lambda_distill=lambda_distill,
        alpha=alpha,
        momentum=momentum,
        sampler=sampler,
        normalize_vectors=dataset == "awa2",
        negative_attributes="missing" if dataset == "awa2" else "keep",
        learning_rate=1e-4,
        weight_decay=1e-4,
        batch_size=50,
    )
    czsl = preset_settings("msdn", dataset, task="czsl")
    assert czsl == dataclasses.replace(settings, lambda_cal=lambda_czsl, task="czsl")


@pytest.mark.parametrize(
    ("dataset", "weights"), [("cub", (0.1, 0.001)), ("sun", (0.0, 0.01)), ("awa2", (0.1, 0.001))]
)
def test_the_paper_preset_has_the_papers_equations_and_weights(dataset: str, weights: tuple) -> None:
    settings = preset_settings("msdn", dataset, preset="paper")
    forms = (settings.va_form, settings.cross_entropy, settings.calibration, settings.distillation)
    assert forms == ("paper",) * 4
    assert (settings.lambda_cal, settings.lambda_distill) == weights
    assert settings.momentum == 0.9


def test_flo_has_no_names_of_attributes_so_its_vectors_are_learned() -> None:
    assert preset_settings("msdn", "flo") == TrainSettings(vectors="learned")
    assert preset_settings("baseline", "flo") == TrainSettings(model="baseline")


def test_released_is_the_default_and_an_unknown_dataset_gets_the_defaults() -> None:
    settings = preset_settings("msdn", "my-birds")
    assert settings == TrainSettings()
    forms = (settings.va_form, settings.cross_entropy, settings.calibration, settings.distillation)
    assert forms == ("released",) * 4


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'msnd'\. Did you mean 'msdn'"):
        preset_settings("msnd", "cub")
    with pytest.raises(UnknownNameError, match="unknown preset 'papr'"):
        preset_settings("msdn", "cub", preset="papr")
    with pytest.raises(UnknownNameError, match="unknown task 'gzls'"):
        preset_settings("msdn", "cub", task="gzls")


def test_a_setting_that_the_model_lacks_is_refused() -> None:
    model_entry("baseline").check_overrides(["lambda_cal", "epochs"])
    with pytest.raises(SettingsError, match="--va-form is no setting of the model 'baseline'"):
        model_entry("baseline").check_overrides(["va_form"])


def test_tables_name_only_what_exists() -> None:
    fields = {field.name for field in dataclasses.fields(TrainSettings)}
    for tables in (PRESETS, CZSL_PRESETS, PAPER_PRESETS):
        assert set(tables) <= set(MODELS)
        assert all(set(values) <= fields for table in tables.values() for values in table.values())
    assert all(set(entry.settings) <= fields for entry in MODELS.values())
    assert option_name("learning_rate") == "--lr"


@pytest.mark.parametrize("model", MODELS)
def test_every_number_of_a_preset_has_its_source(model: str) -> None:
    for dataset in ("cub", "sun", "awa2", "flo", "plumage"):
        for preset in PRESET_NAMES if model in PAPER_PRESETS else PRESET_NAMES[:1]:
            for task in TASKS:
                values = preset_values(model, dataset, preset=preset, task=task)
                settings = preset_settings(model, dataset, preset=preset, task=task)
                for name, (value, source) in values.items():
                    assert getattr(settings, name) == value and len(source) > 3
    assert preset_values("msdn", "cub")["epochs"] == (30, "the authors' training code")


# epochs, λ_cal, CZSL's, c_mix, CZSL's, e_mix, sampler, shift
PUBLISHED_DEDN = {
    "cub": (80, 0.0, 0.18, 0.8, 0.6, 0.9, "balanced", 3),
    "sun": (80, 0.0, 0.0, 0.95, 0.95, 0.3, "random", 2),
    "awa2": (20, 0.11, 0.11, 0.8, 0.8, 0.5, "balanced", 2),
}


@pytest.mark.parametrize("dataset", PUBLISHED_DEDN)
def test_dedns_presets_are_the_published_settings(dataset: str) -> None:
    one, czsl = (preset_settings("dedn", dataset, task=task) for task in TASKS)
    assert PUBLISHED_DEDN[dataset] == (
        *(one.epochs, one.lambda_cal, czsl.lambda_cal, one.region_mix, czsl.region_mix),
        *(one.coarse_mix, one.sampler, one.true_class_shift),
    )
    assert (one.lambda_experts, one.lambda_align, one.batch_size) == (0.1, 0.001, 50)
    assert one.distance_epsilon == (0.0 if dataset == "cub" else 1e-9)
    assert (one.score_rank, czsl.score_rank) == ((256, 128) if dataset == "sun" else (0, 0))


def test_dedn_has_no_paper_preset_and_others_say_whose_numbers_they_take() -> None:
    with pytest.raises(SettingsError, match="'dedn' has no preset 'paper'; leave --preset out"):
        preset_settings("dedn", "awa2", preset="paper")
    like_msdn = preset_values("baseline", "awa2", preset="paper")
    assert like_msdn["lambda_cal"] == (0.1, "as MSDN, for lack of published settings")
    assert preset_values("msdn", "awa2", preset="paper")["lambda_cal"] == (0.1, "the paper")


@pytest.mark.parametrize("model", MODELS)
def test_only_what_is_no_number_of_the_method_is_a_default(model: str) -> None:
    for dataset in ("cub", "sun", "awa2", "flo", "plumage"):
        sourced = preset_values(model, dataset)
        left = {name for name in model_entry(model).settings if name not in sourced}
        assert not left, f"{model} on {dataset}: no source for {left}"


@pytest.mark.parametrize(
    ("changes", "given", "reason"),
    [
        ({"branches": "av"}, "alpha", "--branches trains one branch alone"),
        ({"branches": "va"}, "lambda_distill", "--branches trains one branch alone"),
        ({"branches": "av"}, "va_form", "--branches av trains no V→A branch"),
        ({"lambda_distill": 0.0}, "distill_parts", "--lambda-distill is 0"),
        ({"lambda_causal": 0.0}, "counterfactual", "--lambda-causal is 0"),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(changes: dict, given: str, reason: str) -> None:
    settings = TrainSettings(**changes)
    check_effect(settings, changes)
    with pytest.raises(SettingsError, match=f"{option_name(given)} changes nothing: {reason}"):
        check_effect(settings, [*changes, given])


def test_every_setting_belongs_to_a_model_or_to_the_trainer() -> None:
    of_models = {name for entry in MODELS.values() for name in entry.settings}
    of_trainer = {
        *("model", "seed", "epochs", "batch_size", "learning_rate", "weight_decay", "momentum", "sampler"),
        *("task", "select", "paper_style"),
    }
    assert of_models | of_trainer == {field.name for field in dataclasses.fields(TrainSettings)}
    assert not of_models & of_trainer


def test_paper_style_goes_with_selection_on_the_test_set() -> None:
    with pytest.raises(SettingsError, match="--paper-style goes with --select test"):
        TrainSettings(paper_style=True)
    assert TrainSettings(paper_style=True, select="test").paper_style


def test_tables_and_commands_load_no_torch() -> None:
    code = (
        "import sys, msdn.train.models.presets, msdn.train.models.registry, msdn.train.models.parts.problem, "
        "msdn.train.measure.reporting, "
        "msdn.train.loop.command, msdn.train.measure.evaluate_command; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
