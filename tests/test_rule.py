"""Data without a published preset: what the rule chooses, what validation searches, and what is said of it."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from toy_runs import assert_same_bits, final_state, read_records, split_annotations, write_split_cache

from msdn.cache import FeatureCache, Home
from msdn.train.errors import SettingsError, TrainError
from msdn.train.loop.batches import validation_division
from msdn.train.loop.trainer import Trainer
from msdn.train.loop.training import continue_run, train_model
from msdn.train.measure.reporting import is_hardly_better, learning_notes
from msdn.train.measure.selection import choose_on_validation
from msdn.train.models.presets import known_datasets, preset_settings, preset_values
from msdn.train.models.registry import model_names, settings_of
from msdn.train.models.rule import Amounts, amounts_of, rule_values
from msdn.train.runs.run import Run, find_runs

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
ENOUGH = Amounts(1000, 20, 10, 300, 140, True)
SEARCH = settings_of("baseline", epochs=3, batch_size=16, learning_rate=3e-2, select="val", search_lr=True)


@pytest.fixture
def cache(home: Home) -> Iterator[FeatureCache]:
    with FeatureCache(write_split_cache(home.features / "toy-224-random.h5")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("images", "batch", "epochs"), [(2, 16, 2400), (49, 16, 98), (320, 20, 19), (3000, 50, 8), (30000, 50, 8)]
)
def test_batch_and_epochs_follow_the_number_of_images(images: int, batch: int, epochs: int) -> None:
    values = rule_values(dataclasses.replace(ENOUGH, images=images))
    assert (values["batch_size"][0], values["epochs"][0]) == (batch, epochs)
    assert images * epochs // batch >= 300 and f"{images} training images" in values["epochs"][1]


@pytest.mark.parametrize(
    "few", [{"validation_classes": 2}, {"classes": 2}, {"validation_images": 8}, {"held_out": 3}]
)
def test_nothing_is_chosen_by_too_few(few: dict[str, int]) -> None:
    assert rule_values(ENOUGH)["select"][0] == "val" and rule_values(ENOUGH)["search_lr"][0]
    values = rule_values(dataclasses.replace(ENOUGH, **few))
    assert values["select"][0] == "last" and "search_lr" not in values


def test_amounts_are_those_that_validation_has(cache: FeatureCache) -> None:
    found, division = amounts_of(cache.annotations, cache.masked_rows), validation_division(cache)
    assert found.held_out == len(division.seen_rows) and found.validation_images == len(division.unseen_rows)
    assert found.classes == len(division.problem.seen)
    assert found.validation_classes == len(division.problem.unseen)
    assert found.images == len(cache.rows("trainval")) and found.has_vectors


def test_without_vectors_they_are_learned() -> None:
    values = preset_values("msdn", "birds", amounts=dataclasses.replace(ENOUGH, has_vectors=False))
    assert values["vectors"][0] == "learned" and "msdn data vectors" in values["vectors"][1]
    assert "vectors" not in preset_values("msdn", "birds", amounts=ENOUGH)


@pytest.mark.parametrize("model", model_names())
def test_known_datasets_keep_their_presets(model: str) -> None:
    for dataset in known_datasets():
        assert preset_settings(model, dataset, amounts=ENOUGH) == preset_settings(model, dataset)
        assert not preset_settings(model, dataset).searched_rates
    assert preset_settings(model, "birds", amounts=ENOUGH).select == "val"


def only_run(home: Home) -> Run:
    (run,) = find_runs(home.runs)
    return run


def test_train_says_what_was_chosen_and_shows_the_figures(
    cache: FeatureCache, run_msdn: Msdn, home: Home
) -> None:
    done = run_msdn("train", "--dataset", "toy", "--model", "baseline", "--epochs", 2, "--json")
    assert done.exit_code == 0, done.output
    run, shown = only_run(home), json.loads(done.stdout)
    assert run.settings.select == "val" and run.settings.searched_rates == (9e-4, 3e-3, 9e-3)
    assert run.settings.epochs == 2 and "epochs" not in run.manifest["rule"]
    for name, option in (("batch_size", "--batch-size 16"), ("select", "--select val")):
        assert f"{option}: {run.manifest['rule'][name]}" in done.stderr
    kept = json.loads(run.results.read_text())
    for name in ("U", "S", "H", "acc", "AUSUC", "chance", "margin"):
        assert shown["test"][name] == kept[name]
    assert shown["chosen"]["learning_rate"] in run.settings.searched_rates
    plain = run_msdn("train", "--dataset", "toy", "--model", "baseline", "--epochs", 1)
    assert "│ AUSUC " in plain.stdout and "chance %" in plain.stdout


@pytest.mark.parametrize(
    ("given", "select", "rates"),
    [(("--lr", 0.01), "val", 0), (("--select", "last"), "last", 0), (("--select", "test"), "test", 0)],
)
def test_what_is_given_wins(
    cache: FeatureCache, run_msdn: Msdn, home: Home, given: tuple, select: str, rates: int
) -> None:
    done = run_msdn("train", "--dataset", "toy", "--model", "baseline", "--epochs", 1, *given)
    assert done.exit_code == 0, done.output
    settings = only_run(home).settings
    assert (settings.select, len(settings.searched_rates)) == (select, rates)
    assert ("│ AUSUC " in done.stdout) == (select != "test")


def test_presets_and_help_show_it(cache: FeatureCache, run_msdn: Msdn, home: Home, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    shown = run_msdn("presets", "--model", "msdn", "--dataset", tmp_path / "toy", "--json")
    rows = {row["setting"]: row for row in json.loads(shown.stdout)["settings"]}
    assert rows["select"]["value"] == "val" and rows["search_lr"]["value"] is True
    assert rows["epochs"]["source"].startswith("rule for data without a preset: ")
    assert rows["momentum"]["source"] == "default"
    said = " ".join(run_msdn("train", "--dataset", tmp_path / "toy", "--help").stdout.split())
    assert f"[default: {rows['epochs']['value']}]" in said and "the three. [default: yes]" in said
    cache.path.unlink()
    assert "msdn extract" in run_msdn("presets", "--model", "msdn", "--dataset", tmp_path / "toy").stdout


def test_every_rate_is_validated_and_the_best_trained(cache: FeatureCache, tmp_path: Path) -> None:
    run = train_model(cache, SEARCH, tmp_path / "runs")
    records = read_records(run)
    validated = [record for record in records if "phase" in record]
    assert [(r["learning_rate"], r["epoch"]) for r in validated] == [
        (rate, epoch) for rate in (9e-3, 3e-2, 9e-2) for epoch in (1, 2, 3)
    ]
    chosen = run.chosen
    assert chosen["validation_epochs"] == 9 and len(records) == 9 + chosen["epochs"]
    alone = dataclasses.replace(
        SEARCH, search_lr=False, select="last", learning_rate=chosen["learning_rate"], epochs=chosen["epochs"]
    )
    same = train_model(cache, alone, tmp_path / "alone")
    assert_same_bits(final_state(run), final_state(same))


@pytest.mark.parametrize("number", [2, 4, 5, 8, 10])
def test_an_interrupted_search_goes_on(cache: FeatureCache, tmp_path: Path, number: int) -> None:
    whole = train_model(cache, SEARCH, tmp_path / "whole")
    count, original = iter(range(1, 100)), Trainer.train_epoch

    def stop(self: Trainer, epoch: int) -> dict[str, float]:
        if next(count) == number:
            raise KeyboardInterrupt
        return original(self, epoch)

    begun: list[Run] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_epoch", stop)
        train_model(cache, SEARCH, tmp_path / "cut", on_start=begun.append)
    run = continue_run(Run(begun[0].path), cache)
    assert read_records(run) == read_records(whole) and run.chosen == whole.chosen
    assert_same_bits(final_state(run), final_state(whole))


def test_a_rate_that_fails_is_left_behind(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, rates = Trainer.__init__, []

    def begin(self: Trainer, model: Any, settings: Any, *others: Any) -> None:
        rates.append(settings.learning_rate)
        original(self, model, settings, *others)

    train = Trainer.train_epoch

    def fail(self: Trainer, epoch: int) -> dict[str, float]:
        if rates[-1] in failing and epoch == 2:
            raise TrainError("the loss is no longer finite")
        return train(self, epoch)

    monkeypatch.setattr(Trainer, "__init__", begin)
    monkeypatch.setattr(Trainer, "train_epoch", fail)
    failing, notes = {9e-2}, []
    run = train_model(cache, SEARCH, tmp_path / "runs", on_note=notes.append)
    assert run.finished and run.chosen["validation_epochs"] == 7
    assert any("learning rate 0.09: epoch 2: the loss" in note for note in notes)
    failing = {9e-3, 3e-2, 9e-2}
    with pytest.raises(TrainError, match="no longer finite"):
        train_model(cache, SEARCH, tmp_path / "runs")


def test_an_epoch_counts_as_those_around_it() -> None:
    rng = np.random.default_rng(0)
    records = [
        {"phase": "validation", "learning_rate": rate, "epoch": epoch, "epochs": 60}
        | {"val_H": float(rng.uniform(0, 100)), "val_acc": 50.0, "val_margin": float(rng.uniform(0, 1))}
        for rate in (1e-4, 1e-3)
        for epoch in range(1, 61)
    ]

    def near(record: dict[str, Any]) -> list[dict[str, Any]]:
        same = [one for one in records if one["learning_rate"] == record["learning_rate"]]
        return [one for one in same if -3 <= one["epoch"] - record["epoch"] <= 3]

    best = max(records, key=lambda record: fmean(one["val_H"] for one in near(record)))
    chosen = choose_on_validation(records, "gzsl")
    assert (chosen["learning_rate"], chosen["epochs"]) == (best["learning_rate"], best["epoch"])
    assert chosen["margin"] == median(one["val_margin"] for one in near(best))


def test_a_search_needs_validation() -> None:
    with pytest.raises(SettingsError, match="--search-lr goes with --select val"):
        settings_of(search_lr=True)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"seen": 12.0, "all": 12.0}, "12.0 % of training images"),
        ({"seen": 90.0, "all": 1.0}, "the margin of 1 is too large"),
        ({"seen": 90.0, "all": 80.0}, ""),
    ],
)
def test_hardly_better_than_chance_is_said(told: dict[str, float], said: str) -> None:
    result = {"training": {**told, "chance_seen": 10.0, "chance_all": 5.0}, "margin": 1.0, "select": "last"}
    notes = learning_notes(result)
    assert len(notes) == bool(said) and all(said in note for note in notes)


def test_validation_tells_it_too() -> None:
    told = {"seen": 90.0, "all": 80.0, "chance_seen": 10.0, "chance_all": 5.0}
    result = {"training": told, "margin": 1.0, "select": "val", "chosen": {"val_H": 6.0}}
    (note,) = learning_notes(result)
    assert "H 6.0 %" in note and "5.0 %" in note
    assert learning_notes({**result, "chosen": {"val_H": 40.0}}) == []


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"acc": 50.0, "H": 40.0}, []),
        ({"acc": 11.0, "H": 0.0}, ["acc 11.0 %", "10.0 %", "attributes that can be seen"]),
        ({"acc": 50.0, "H": 0.0}, ["H 0.0 %", "5.0 %", "--select val"]),
        ({"acc": 50.0, "H": None}, []),
    ],
)
def test_training_images_alone_are_not_enough(figures: dict[str, float], said: list[str]) -> None:
    told = {"seen": 100.0, "all": 100.0, "chance_seen": 10.0, "chance_all": 5.0}
    result = {"training": told, "margin": 1.0, "select": "last", "chance": {"acc": 10.0, "H": 5.0}, **figures}
    notes = learning_notes(result)
    assert len(notes) == bool(said)
    assert all(part in note for part in [*said, "100.0 % of training images"] for note in notes)


@pytest.mark.parametrize(
    ("figure", "chance", "hardly"),
    [(3.9, 2, True), (4.1, 2, False), (74, 50, True), (76, 50, False), (100, 100, False), (None, 2, False)],
)
def test_what_counts_as_chance(figure: float | None, chance: float, hardly: bool) -> None:
    assert is_hardly_better(figure, chance) == hardly


def test_a_training_that_learns_nothing_says_so_in_both_commands(
    cache: FeatureCache, run_msdn: Msdn, home: Home
) -> None:
    """No test image is needed for it."""
    steps = ("--epochs", 1, "--batch-size", 16, "--lr", 1e-9, "--select", "last")
    trained = run_msdn("train", "--dataset", "toy", "--model", "baseline", *steps)
    assert "hardly better than chance" in trained.stdout or "margin of 1 is too large" in trained.stdout
    assert "--select val" in run_msdn("evaluate").stdout or "--epochs" in run_msdn("evaluate").stdout


def test_the_toy_has_enough_to_validate() -> None:
    assert amounts_of(split_annotations(), np.zeros(0, np.int64)).can_validate
