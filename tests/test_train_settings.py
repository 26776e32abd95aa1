"""Settings, presets and the table of models: the values, the refusals, and that none of them needs torch."""

import dataclasses
import subprocess
import sys

import pytest

from msdn.cache.errors import UnknownNameError
from msdn.train.errors import SettingsError
from msdn.train.models.registry import MODELS, model_entry
from msdn.train.presets import CZSL_PRESETS, PAPER_PRESETS, PRESETS, preset_settings
from msdn.train.settings import TrainSettings, option_name, settings_from_json


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
    assert czsl == dataclasses.replace(settings, lambda_cal=lambda_czsl)


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


def test_tables_and_commands_load_no_torch() -> None:
    code = (
        "import sys, msdn.train.presets, msdn.train.models.registry, msdn.train.problem, msdn.train.reporting, "
        "msdn.train.train_command, msdn.train.evaluate_command; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
