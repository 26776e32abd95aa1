"""`--select`: what is chosen follows a naive search, test images stay unread, and any interruption changes nothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from naive_metrics import Case, naive_acc, naive_best, naive_gzsl
from toy_runs import (
    assert_same_bits,
    assert_same_run,
    changed,
    final_state,
    read_records,
    rows_of_test,
    write_split_cache,
)

from msdn.cache import FeatureCache
from msdn.cli import main
from msdn.train.loop.batches import Division, FeatureSource, validation_division
from msdn.train.loop.settings import RunSettings
from msdn.train.loop.trainer import Trainer
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run, load_model
from msdn.train.measure.selection import choose_on_validation
from msdn.train.models.parts.base import ZslModel, build_model, preparation
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

BY_LAST = settings_of(epochs=4, batch_size=8, learning_rate=3e-3)
BY_VAL = dataclasses.replace(BY_LAST, select="val")
BY_TEST = dataclasses.replace(BY_LAST, select="test")
FIGURE = {"gzsl": "H", "czsl": "acc"}
CPU = torch.device("cpu")
MODELS: dict[str, dict[str, Any]] = {
    "msdn": {},
    "msdn++ random": {"model": "msdn++", "counterfactual": "random"},
    "msdn++ shuffle": {"model": "msdn++", "counterfactual": "shuffle"},
    "dedn": {"model": "dedn"},
    "dazle": {"model": "dazle"},
    "baseline": {"model": "baseline"},
}


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """A small open cache, in a home of its own."""
    return FeatureCache(write_split_cache(tmp_path / "home" / "features" / "toy-224-random.h5"))


def first_best(records: list[dict[str, Any]], figure: str) -> dict[str, Any]:
    best = records[0]
    for record in records[1:]:
        if record[figure] > best[figure] + 1e-9:
            best = record
    return best


def validation_records(run: Run) -> list[dict[str, Any]]:
    return [record for record in read_records(run) if record.get("phase") == "validation"]


# --- val: the choice


def models_of_each_epoch(cache: FeatureCache, settings: RunSettings, stage: Division) -> list[ZslModel]:
    """The model as it was after each epoch of a stage, trained without runs or stages' machinery."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model = build_model(stage.problem, settings)
        features = FeatureSource(cache, stage.rows, preparation(model, "float32"), CPU)
        trainer = Trainer(model, settings, features, stage.rows, stage.labels, CPU)
        states = []
        for epoch in range(1, settings.epochs + 1):
            trainer.train_epoch(epoch)
            states.append({name: value.clone() for name, value in model.state_dict().items()})
    models = [build_model(stage.problem, settings) for _ in states]
    for one, state in zip(models, states, strict=True):
        one.load_state_dict(state)
    return models


def naive_case(cache: FeatureCache, stage: Division, model: ZslModel) -> Case:
    """Scores of the validation images."""
    model.eval()
    parts: list[Any] = []
    for rows in (stage.seen_rows, stage.unseen_rows):
        with torch.no_grad():
            regions = model.prepare(torch.from_numpy(cache.read_rows(rows)), torch.float32)
            scores = model.class_scores(model(regions))
        parts += [scores.numpy(), stage.labels[rows].tolist()]
    return Case(stage.problem.seen.tolist(), stage.problem.unseen.tolist(), *parts)


@pytest.mark.parametrize(
    ("model", "task"), [("msdn++ random", "gzsl"), ("msdn", "czsl"), ("baseline", "gzsl")]
)
def test_epochs_and_margin_are_those_of_a_naive_search(
    cache: FeatureCache, tmp_path: Path, model: str, task: str
) -> None:
    settings = changed(BY_VAL, task=task, **MODELS[model])
    run = train_model(cache, settings, tmp_path)
    stage, records = validation_division(cache), validation_records(run)
    cases = [naive_case(cache, stage, one) for one in models_of_each_epoch(cache, settings, stage)]
    for record, case in zip(records, cases, strict=True):
        margin, h = naive_best(case)
        u, s, _ = naive_gzsl(case, margin)
        expected = {"val_H": h, "val_U": u, "val_S": s, "val_acc": naive_acc(case)}
        assert {name: record[name] for name in expected} == pytest.approx(
            {name: 100 * float(value) for name, value in expected.items()}
        )
        assert record["val_margin"] == pytest.approx(float(margin))
    best = first_best(records, f"val_{FIGURE[task]}")
    assert run.chosen == {
        "epochs": best["epoch"],
        "margin": best["val_margin"],
        **{name: value for name, value in best.items() if name.startswith("val_")},
    }


def test_the_choice_of_the_toy_is_neither_the_first_nor_the_last_epoch(
    cache: FeatureCache, tmp_path: Path
) -> None:
    chosen = {
        task: train_model(cache, dataclasses.replace(BY_VAL, task=task), tmp_path).chosen for task in FIGURE
    }
    assert {task: one and one["epochs"] for task, one in chosen.items()} == {"gzsl": 3, "czsl": 2}


def test_of_equal_epochs_the_first_is_chosen_whatever_the_rounding() -> None:
    def record(epoch: int, h: float | None) -> dict[str, Any]:
        return {"phase": "validation", "epoch": epoch, "val_H": h, "val_margin": epoch / 10}

    third = 100 / 3
    records = [record(1, 20.0), record(2, third), record(3, float(np.nextafter(third, 100))), record(4, None)]
    records.append({"epoch": 1, "H": 99.0})  # of the second stage
    assert choose_on_validation(records, "gzsl") == {
        "epochs": 2, "margin": 0.2, "val_H": third, "val_margin": 0.2,
    }  # fmt: skip
    assert choose_on_validation([record(1, None), record(2, None)], "gzsl")["epochs"] == 1


@pytest.mark.parametrize("model", MODELS)
def test_val_ends_with_the_weights_of_a_plain_run_of_that_many_epochs(
    cache: FeatureCache, tmp_path: Path, model: str
) -> None:
    run = train_model(cache, changed(BY_VAL, **MODELS[model]), tmp_path)
    assert run.chosen
    plain = changed(BY_LAST, epochs=run.chosen["epochs"], **MODELS[model])
    same = train_model(cache, plain, tmp_path)
    assert_same_bits(final_state(run), final_state(same))
    ours, theirs = evaluate_run(run, cache), evaluate_run(same, cache, margin=run.chosen["margin"])
    assert ours["margin"] == run.chosen["margin"] == ours["margins"]["H_val_margin"]
    assert {name: ours[name] for name in ("U", "S", "H", "acc", "AUSUC")} == {
        name: theirs[name] for name in ("U", "S", "H", "acc", "AUSUC")
    }
    assert ours["H_val_margin"] == ours["H"]


# --- val: test images stay unread


@pytest.mark.parametrize(
    ("model", "features"),
    [("msdn", "memory"), ("msdn++ shuffle", "map"), ("dedn", "map"), ("baseline", "map")],
)
def test_val_reads_no_test_row(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, features: str
) -> None:
    forbidden, read_rows, read = rows_of_test(cache.annotations), FeatureCache.read_rows, set()

    def watched(self: FeatureCache, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        if np.isin(rows, forbidden).any():
            raise AssertionError("a test image was read")
        read.update(np.asarray(rows).tolist())
        return read_rows(self, rows, out)

    monkeypatch.setattr(FeatureCache, "read_rows", watched)
    run = train_model(cache, changed(BY_VAL, **MODELS[model]), tmp_path, features=features)
    assert read == set(cache.annotations.splits["trainval"].tolist())
    with pytest.raises(AssertionError, match="a test image was read"):  # the guard itself works
        evaluate_run(run, cache)


@pytest.mark.parametrize("model", ["msdn", "dedn", "baseline"])
def test_val_chooses_the_same_whatever_the_test_images_hold(
    cache: FeatureCache, tmp_path: Path, model: str
) -> None:
    settings = changed(BY_VAL, **MODELS[model])
    blank = FeatureCache(write_split_cache(tmp_path / "blank.h5", test_features=np.nan))
    assert blank.fingerprint != cache.fingerprint
    assert np.isnan(blank.read_rows(rows_of_test(blank.annotations))).all()
    assert_same_run(train_model(cache, settings, tmp_path), train_model(blank, settings, tmp_path))


# --- test: the best epoch, or the best two


@pytest.mark.parametrize("task", ["gzsl", "czsl"])
@pytest.mark.parametrize("model", ["msdn", "dedn"])
def test_selection_on_the_test_set_keeps_the_first_best_epoch(
    cache: FeatureCache, tmp_path: Path, model: str, task: str
) -> None:
    run = train_model(cache, changed(BY_TEST, task=task, **MODELS[model]), tmp_path)
    records = read_records(run)
    best = first_best(records, FIGURE[task])
    figures = {name: best[name] for name in ("epoch", "U", "S", "H", "acc")}
    assert run.chosen == {task: figures}
    result = evaluate_run(run, cache)
    assert {name: result[name] for name in ("U", "S", "H", "acc")} == {
        name: best[name] for name in ("U", "S", "H", "acc")
    }
    plain = changed(BY_LAST, epochs=best["epoch"], task=task, **MODELS[model])
    of_that_epoch = train_model(cache, plain, tmp_path)
    attributes = cache.annotations.attributes.shape[1]
    first, second = (
        load_model(one, problem_of(cache, one.groups(attributes))) for one in (run, of_that_epoch)
    )
    assert_same_bits(first.state_dict(), second.state_dict())


def test_paper_style_keeps_two_epochs(cache: FeatureCache, tmp_path: Path) -> None:
    run = train_model(cache, dataclasses.replace(BY_TEST, paper_style=True), tmp_path)
    by_h, by_acc = (first_best(read_records(run), figure) for figure in ("H", "acc"))
    assert by_h["epoch"] != by_acc["epoch"]
    assert run.chosen and {task: one["epoch"] for task, one in run.chosen.items()} == {
        "gzsl": by_h["epoch"],
        "czsl": by_acc["epoch"],
    }
    result = evaluate_run(run, cache)
    assert {name: result[name] for name in ("U", "S", "H")} == {name: by_h[name] for name in ("U", "S", "H")}
    assert result["acc"] == by_acc["acc"] > by_h["acc"]


def test_without_paper_style_h_and_acc_are_of_one_epoch(cache: FeatureCache, tmp_path: Path) -> None:
    result = evaluate_run(train_model(cache, BY_TEST, tmp_path), cache)
    pairs = [(record["H"], record["acc"]) for record in read_records(Run(Path(result["run"])))]
    assert (result["H"], result["acc"]) in pairs
    assert result["acc"] < max(acc for _, acc in pairs)


# --- every output names the protocol


SENTENCES = {
    "last": "last (a fixed number of epochs, nothing chosen on test images)",
    "val": "val ({epochs} of 4 epochs chosen by H and margin {margin:.3g} by H on validation classes, "
    "trained again on all training classes)",
    "test": "test (EPOCH CHOSEN BY H ON THE TEST CLASSES)",
    "paper": "test, paper style (BEST H AND BEST acc OF ALL EPOCHS ON THE TEST CLASSES, from two epochs)",
}


@pytest.mark.parametrize("protocol", SENTENCES)
def test_every_output_and_file_names_the_protocol(cache: FeatureCache, protocol: str) -> None:
    home = cache.path.parents[1]

    def msdn(*arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments, "--home", str(home)])
        assert result.exit_code == 0, result.output
        return result.stdout

    select = "test" if protocol == "paper" else protocol
    options = ["--epochs", "4", "--batch-size", "8", "--lr", "0.003", "--select", select]
    options += ["--paper-style"] * (protocol == "paper")
    trained = msdn("train", "--dataset", "toy", *options)
    (path,) = (home / "runs").iterdir()
    run = Run(path)
    sentence = SENTENCES[protocol].format(**(run.chosen or {}))
    assert f"selection: {sentence}\n" in trained
    assert f"selection: {sentence}\n" in msdn("evaluate")
    for result in (json.loads(msdn("evaluate", "--json")), json.loads(run.results.read_text())):
        assert (result["select"], result["selection"]) == (select, sentence)
        assert result["chosen"] == run.chosen == run.manifest["chosen"]
        assert result["settings"]["paper_style"] is (protocol == "paper")
    assert run.manifest["settings"]["select"] == select
    as_json = json.loads(msdn("train", "--dataset", "toy", *options, "--seed", "1", "--json"))
    assert (as_json["select"], as_json["chosen"]) == (select, Run(Path(as_json["run"])).chosen)
    assert as_json["selection"] == SENTENCES[protocol].format(**(as_json["chosen"] or {}))
    first_word = sentence.split(" (")[0]
    assert f"selection: {first_word} (" in msdn("compare")
    assert json.loads(msdn("compare", "--json"))["tables"][0]["selection"].startswith(first_word)
