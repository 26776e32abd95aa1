"""Settings, presets and the table of models: the values, the refusals, and that none of them needs torch."""

import dataclasses
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from msdn.cache.errors import UnknownNameError
from msdn.cli import main
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import TASKS, RunSettings, fields_of, option_name
from msdn.train.models.presets import (
    PRESET_NAMES,
    has_paper_preset,
    preset_settings,
    preset_values,
)
from msdn.train.models.registry import find_model, model_names, presets_file, settings_from_json, settings_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0}, "--lr .learning_rate. is 0, expected more than 0"),
        ({"learning_rate": float("nan")}, "--lr .learning_rate. is nan, expected a finite number"),
        ({"epochs": 0}, "--epochs is 0, expected 1 or more"),
        ({"epochs": 1.5}, "--epochs is 1.5, expected a whole number"),
        ({"batch_size": True}, "--batch-size is True, expected a whole number"),
        ({"momentum": 1.0}, "--momentum is 1.0, expected less than 1"),
        ({"seed": -1}, "--seed is -1, expected 0 or more"),
        ({"sampler": "fair"}, "--sampler is 'fair', expected one of: random, balanced"),
        ({"va_form": "papers"}, "--va-form is 'papers', expected one of: released, paper"),
        ({"alpha": (0.5,)}, r"--alpha is \(0.5,\), expected 2 numbers"),
        ({"alpha": (0, 0.0)}, "--alpha is 0 0, so no branch would predict"),
        ({"alpha": (0.5, -1)}, "--alpha is -1, expected 0 or more"),
        ({"lambda_cal": "much"}, "--lambda-cal is 'much', expected a number"),
        ({"vectors": "word2vec"}, "--vectors is 'word2vec', expected one of: given, learned"),
        ({"normalize_vectors": 1}, "--normalize-vectors is 1, expected bool"),
    ],
)
def test_senseless_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(settings_of(), **change)


def test_settings_survive_json() -> None:
    settings = preset_settings("msdn", "awa2")
    assert settings_from_json(settings.as_json()) == settings
    assert settings_from_json({"epochs": 3}) == settings_of(epochs=3)
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
    assert settings == settings_of(
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
    assert preset_settings("msdn", "flo") == settings_of(vectors="learned")
    assert preset_settings("baseline", "flo") == settings_of("baseline")


def test_released_is_the_default_and_an_unknown_dataset_gets_the_defaults() -> None:
    settings = preset_settings("msdn", "my-birds")
    assert settings == settings_of()
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
    done = CliRunner().invoke(
        main, ["train", "--dataset", "toy", "--model", "baseline", "--va-form", "paper"]
    )
    assert done.exit_code == 2
    for fact in ("--va-form", "'baseline'", "msdn, msdn++"):  # what, for which model, and whose it is
        assert fact in done.stderr


@pytest.mark.parametrize("model", model_names())
def test_presets_name_only_what_exists(model: str) -> None:
    own = fields_of(find_model(model).settings)
    content = tomllib.loads(presets_file(model).read_text(encoding="utf-8"))
    for kind in ("released", "czsl", "paper"):
        for table in content.get(kind, {}).values():
            assert set(table) - {"like"} <= set(own)
    assert option_name(own["learning_rate"]) == "--lr"


@pytest.mark.parametrize("model", model_names())
def test_every_number_of_a_preset_has_its_source(model: str) -> None:
    for dataset in ("cub", "sun", "awa2", "flo", "plumage"):
        for preset in PRESET_NAMES if has_paper_preset(model) else PRESET_NAMES[:1]:
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


@pytest.mark.parametrize("model", model_names())
def test_only_what_is_no_number_of_the_method_is_a_default(model: str) -> None:
    for dataset in ("cub", "sun", "awa2", "flo", "plumage"):
        sourced = preset_values(model, dataset)
        own = set(fields_of(find_model(model).settings)) - set(fields_of(RunSettings)) - {"search_lr"}
        left = (own | {"margin", "negative_attributes"}) - set(sourced)
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
    model = find_model("msdn++")
    settings = model.default(**changes)
    model.check_effect(settings, changes)
    option = option_name(fields_of(model.settings)[given])
    with pytest.raises(SettingsError, match=f"{option} changes nothing: {reason}"):
        model.check_effect(settings, [*changes, given])


def test_a_setting_stands_in_one_place() -> None:
    places: dict[str, set[str]] = {}
    for model in model_names():
        for one in find_model(model).settings.__mro__:
            for name in vars(one).get("__annotations__", {}):
                places.setdefault(name, set()).add(f"{one.__module__}.{one.__qualname__}")
    assert {name for name, where in places.items() if len(where) > 1} <= {
        "lambda_cal"
    }  # one field, used twice


def test_paper_style_goes_with_selection_on_the_test_set() -> None:
    with pytest.raises(SettingsError, match="--paper-style goes with --select test"):
        settings_of(paper_style=True)
    assert settings_of(paper_style=True, select="test").paper_style


def test_tables_and_commands_load_no_torch() -> None:
    code = (
        "import sys, msdn.train.models.presets, msdn.train.models.registry, msdn.train.models.parts.problem, "
        "msdn.train.measure.reporting, "
        "msdn.train.loop.command, msdn.train.measure.evaluate_command; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
