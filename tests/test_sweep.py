"""`msdn sweep`: the values, what is refused, grids, files, and a choice that reads no test image."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from toy_runs import rows_of_test, write_split_cache
from toy_studies import SHORT, Epochs, read_csv

from msdn.cache import FeatureCache, Home
from msdn.cache.errors import UnknownNameError
from msdn.cache.records import read_sealed
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import fields_of
from msdn.train.loop.training import train_model
from msdn.train.measure.summary import spread
from msdn.train.models.registry import find_model, settings_of
from msdn.train.runs.run import VALIDATED, find_runs
from msdn.train.studies.sweep import (
    parse_values,
    settings_at_edge,
    sweep_rows,
    swept_setting,
    train_command,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
SWEEP = ("sweep", "--dataset", "toy", *SHORT, "--seeds", "0-1")
OWN = fields_of(find_model("msdn++").settings)
LAMBDA = (*SWEEP, "--over", "lambda_cal", "--values", "0.5,0.1")


@pytest.fixture(autouse=True)
def features(home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small cache of the dataset 'toy' in the home; it counts as one with a preset (else: test_rule_studies.py)."""
    monkeypatch.setattr("msdn.train.loop.options.has_preset", lambda *_: True)
    return write_split_cache(home.features / "toy-224-random.h5")


def test_values_as_typed() -> None:
    assert parse_values(OWN["lambda_cal"], "0.5, 0.1,1e-3") == (0.001, 0.1, 0.5)
    assert parse_values(OWN["epochs"], "20,3") == (3, 20)
    assert parse_values(OWN["alpha"], "0.9,0.25,0.5:0.1") == ((0.25, 0.75), (0.5, 0.1), (0.9, 0.1))
    assert parse_values(OWN["alpha"], None)[0] == (0.0, 1.0) and len(parse_values(OWN["alpha"], None)) == 11


@pytest.mark.parametrize("name", [name for name, one in OWN.items() if "sweep" in one.metadata])
def test_default_values_are_allowed_and_ascend(name: str) -> None:
    values = parse_values(OWN[name], None)
    assert list(values) == sorted(set(values)) and len(values) > 2
    for value in values:
        assert getattr(settings_of("msdn++", **{name: value}), name) == value


@pytest.mark.parametrize(
    ("text", "name"),
    [("lambda_cal", "lambda_cal"), ("lambda-cal", "lambda_cal"), ("lr", "learning_rate"), ("alpha", "alpha")],
)
def test_a_setting_by_its_names(text: str, name: str) -> None:
    assert swept_setting(text, "msdn") == name


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lambda_cal", "0.1", "expected two or more different values"),
        ("lambda_cal", "0.1,1e-1", "expected two or more different values"),
        ("lambda_cal", "0.1,much", "'much' is not a number"),
        ("epochs", "1,2.5", "'2.5' is not a whole number"),
        ("alpha", "0.1,0.9:", "'0.9:' is not a number, or two as in 0.9:0.1"),
        ("margin", None, "no values by default for margin; give them with --values"),
    ],
)
def test_values_that_make_no_sweep(name: str, values: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_values(OWN[name], values)


def test_settings_that_cannot_be_swept() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown setting of 'msdn' 'lambda_call'\. Did you mean 'lambda_cal'"
    ):
        swept_setting("lambda_call", "msdn")
    for name in ("sampler", "model", "normalize_vectors", "paper_style"):
        with pytest.raises(SettingsError, match=f"--over {name} is not a number; these are: margin, epochs"):
            swept_setting(name, "msdn")
    with pytest.raises(UnknownNameError, match="unknown setting of 'baseline' 'lambda_distill'"):
        swept_setting("lambda_distill", "baseline")
    with pytest.raises(SettingsError, match="give several seeds with --seeds"):
        swept_setting("seed", "msdn")


def test_a_grid_ascends_in_both() -> None:
    over = {"alpha": ((0.1, 0.9), (0.2, 0.8)), "lambda_cal": (0.0, 1.0)}
    rows = sweep_rows("toy", over, {"epochs": 5})
    assert [row.label for row in rows] == [
        "alpha 0.1 0.9, lambda_cal 0",
        "alpha 0.1 0.9, lambda_cal 1",
        "alpha 0.2 0.8, lambda_cal 0",
        "alpha 0.2 0.8, lambda_cal 1",
    ]
    assert rows[2].settings == settings_of(epochs=5, alpha=(0.2, 0.8), lambda_cal=0.0)
    assert rows[2].facts == {"alpha_1": 0.2, "alpha_2": 0.8, "lambda_cal": 0.0}
    assert rows[2].overrides == {"epochs": 5, "alpha": (0.2, 0.8), "lambda_cal": 0.0}


def test_values_outside_a_limit_are_refused_before_any_training(home: Home, run_msdn: Msdn) -> None:
    result = run_msdn(*SWEEP, "--over", "momentum", "--values", "0.5,1")
    assert result.exit_code == 2 and "--momentum is 1.0, expected less than 1" in result.stderr
    assert not home.studies.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--over", "alpha", "--over", "alpha"), "--over names 'alpha' twice"),
        (("--over", "lambda_cal", "--lambda-cal", "0.1"), "lambda_cal is what --over changes"),
        (
            ("--over", "alpha", "--over", "lambda_cal", "--values", "0,1"),
            "2 times --over and 1 times --values; give one for each",
        ),
        (("--over", "alpha", "--seed", "3"), "--seed: a study has several seeds; give them with --seeds"),
        (("--over", "alpha", "--model", "dazle"), "unknown setting of 'dazle' 'alpha'"),
        (("--over", "alpha", "--name", "a/b"), "--name is 'a/b', expected a file's name without a folder"),
        (("--over", "alpha", "--groups", "g.csv"), "--groups is not a setting of the model 'msdn'"),
        (("--over", "alpha", "--seeds", "3-1"), "'3-1' is not a range of 1 to 1000 seeds"),
    ],
)
def test_wrong_usage_gets_one_sentence(run_msdn: Msdn, arguments: tuple[str, ...], message: str) -> None:
    result = run_msdn("sweep", "--dataset", "toy", *arguments)
    assert result.exit_code == 2 and message in result.stderr and result.stdout == ""


def test_figures_of_the_test_classes_are_not_to_choose_by(home: Home, run_msdn: Msdn) -> None:
    shown = run_msdn(*LAMBDA)
    assert shown.exit_code == 0, shown.output
    assert "test classes, mean ± std" in shown.stdout and "choose nothing by them" in shown.stdout
    assert "one seed" not in shown.stdout  # it has two
    assert "msdn train" not in shown.stdout
    labels = [line.split("│")[1].strip() for line in rows_of(shown.stdout) if "lambda_cal" in line]
    assert labels == ["lambda_cal 0.1", "lambda_cal 0.5"]
    runs = {str(run.path): run for run in find_runs(home.studies / "runs")}
    lines = read_csv(home.studies / "sweep-toy-msdn-lambda_cal-last-epochs_2-batch_size_8.csv")
    assert [(line["lambda_cal"], line["seed"]) for line in lines] == [
        *(("0.1", "0"), ("0.1", "1"), ("0.5", "0"), ("0.5", "1"))
    ]
    for line in lines:
        run = runs[line["run"]]
        assert run.settings.lambda_cal == float(line["lambda_cal"]) and run.settings.seed == int(line["seed"])
        assert float(line["H"]) == json.loads(run.results.read_text())["H"]
        assert line["measured_on"] == "test" and line["weights"] == "random"
    assert not home.runs.exists()


def test_files_hold_means_and_everything_else(home: Home, run_msdn: Msdn) -> None:
    shown = json.loads(run_msdn(*LAMBDA, "--name", "first", "--json").stdout)
    assert shown == read_sealed(home.studies / "first.json")
    seeds, means = (read_csv(home.studies / f"first{end}.csv") for end in ("", "-means"))
    assert shown["seeds"] == [0, 1] and shown["selection"].startswith("last") and shown["best"] is None
    for row, line in zip(shown["rows"], means, strict=True):
        assert row["settings"]["lambda_cal"] == row["lambda_cal"] == float(line["lambda_cal"])
        assert row["preset"] == "released/gzsl" and row["overrides"]["epochs"] == 2
        for name in ("acc", "U", "S", "H", "AUSUC"):
            values = [float(one[name]) for one in seeds if one["lambda_cal"] == line["lambda_cal"]]
            expected = spread(values)
            assert float(line[name]) == pytest.approx(expected.mean)
            assert float(line[f"{name}_std"]) == pytest.approx(expected.std)
            assert row["summary"][name] == {
                "mean": pytest.approx(expected.mean),
                "std": pytest.approx(expected.std),
                "seeds": 2,
            }


def test_choosing_reads_no_test_image(home: Home, monkeypatch: pytest.MonkeyPatch, run_msdn: Msdn) -> None:
    read_rows, reads = FeatureCache.read_rows, []

    def watched(cache: FeatureCache, rows: np.ndarray, **options: Any) -> Any:
        assert not np.isin(rows, rows_of_test(cache.annotations)).any(), "a test image was read"
        reads.append(len(rows))
        return read_rows(cache, rows, **options)

    monkeypatch.setattr(FeatureCache, "read_rows", watched)
    shown = run_msdn(*LAMBDA, "--select", "val")
    assert shown.exit_code == 0, shown.output
    assert reads and "no test image was read" in shown.stdout
    assert {run.manifest["status"] for run in find_runs(home.studies / "runs")} == {VALIDATED}
    with pytest.raises(AssertionError, match="a test image was read"):
        run_msdn(*LAMBDA)


@pytest.mark.parametrize(("task", "figure"), [("gzsl", "H"), ("czsl", "acc")])
def test_the_best_value_comes_with_its_command(home: Home, task: str, figure: str, run_msdn: Msdn) -> None:
    arguments = (*LAMBDA, "--select", "val", "--task", task, "--lr", "0.003")
    shown = json.loads(run_msdn(*arguments, "--json").stdout)
    means = [(row["summary"][figure]["mean"], row["label"]) for row in shown["rows"]]
    best = max(mean for mean, _ in means)
    assert shown["best"]["label"] == next(label for mean, label in means if mean == best)
    assert shown["measured_on"] == "validation"
    assert f"best {figure} on validation classes" in run_msdn(*arguments).stdout
    words = shlex.split(shown["best"]["command"])
    assert words[:2] == ["msdn", "train"]
    trained = run_msdn(*words[1:])
    assert trained.exit_code == 0, trained.output
    (run,) = find_runs(home.runs)
    (row,) = (row for row in shown["rows"] if row["label"] == shown["best"]["label"])
    assert run.settings == dataclasses.replace(
        settings_of(),
        epochs=2,
        batch_size=8,
        learning_rate=0.003,
        select="val",
        task=task,
        lambda_cal=row["lambda_cal"],
    )


def test_a_command_names_every_kind_of_setting() -> None:
    overrides = {"model": "msdn", "task": "czsl", "normalize_vectors": False, "sampler": "balanced"}
    (row, _) = sweep_rows("cub", {"alpha": ((0.1, 0.9), (0.2, 0.8))}, overrides, "paper")
    assert train_command("cub", row, ["--cache", "a b.h5"]) == (
        "msdn train --dataset cub --model msdn --cache 'a b.h5' --preset paper --task czsl "
        "--no-normalize-vectors --sampler balanced --alpha 0.1 0.9"
    )


def test_alpha_needs_one_training_for_all_values(run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = Epochs(monkeypatch)
    shown = json.loads(run_msdn(*SWEEP, "--over", "alpha", "--json").stdout)
    assert len(shown["rows"]) == 11 and epochs.count == 2 * 2
    assert len({seed["run"] for row in shown["rows"] for seed in row["seeds"]}) == 2


def test_an_interrupted_sweep_goes_on(run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = Epochs(monkeypatch)
    epochs.stop_before = 4
    stopped = run_msdn(*LAMBDA)
    assert stopped.exit_code == 130 and "repeat the same command" in stopped.stderr
    epochs.stop_before = None
    assert run_msdn(*LAMBDA).exit_code == 0
    assert epochs.count == 2 * 2 * 2
    again = run_msdn(*LAMBDA)
    assert again.exit_code == 0 and epochs.count == 2 * 2 * 2


FAST = (*SWEEP, "--over", "lr", "--values")


def test_a_value_that_fails_leaves_the_others(
    home: Home, monkeypatch: pytest.MonkeyPatch, run_msdn: Msdn
) -> None:
    epochs = Epochs(monkeypatch)
    shown = run_msdn(*FAST, "1e-4,1e30")
    assert shown.exit_code == 0, shown.output
    good, bad = ([cell.strip() for cell in line.split("│")[2:-1]] for line in rows_of(shown.stdout)[1:])
    assert bad == ["–"] * 5 + ["0 of 2"] and good[5] == "2" and "–" not in good
    notes = [line for line in shown.stdout.splitlines() if line.startswith("failed: ")]
    assert [note.split(": epoch 1: ")[0] for note in notes] == [
        f"failed: learning_rate 1e+30, seed {seed}" for seed in (0, 1)
    ]
    assert "failed trainings are not repeated; to try one again, delete its folder" in shown.stdout
    assert "learning_rate 1e+30, seed 1  failed: epoch 1" in shown.stderr
    seeds, means = (
        read_csv(home.studies / f"sweep-toy-msdn-learning_rate-last-epochs_2-batch_size_8{end}.csv")
        for end in ("", "-means")
    )
    assert [(line["H"] == "", bool(line["failed"])) for line in seeds] == [(False, False)] * 2 + [
        (True, True)
    ] * 2
    assert [(line["H"] == "", line["seeds"], line["failed"]) for line in means] == [
        *((False, "2", "0"), (True, "2", "2"))
    ]
    trained = epochs.count
    again = run_msdn(*FAST, "1e-4,1e30")
    assert again.stdout == shown.stdout and epochs.count == trained
    assert len(find_runs(home.studies / "runs")) == 4


def test_a_sweep_that_fails_everywhere_ends_with_the_reason(home: Home, run_msdn: Msdn) -> None:
    shown = run_msdn(*FAST, "1e29,1e30")
    assert shown.exit_code == 1 and shown.stdout == "" and not list(home.studies.glob("*.csv"))
    assert "no training succeeded; learning_rate 1e+29, seed 0: epoch 1: the " in shown.stderr


def test_a_failed_value_is_not_the_best(run_msdn: Msdn) -> None:
    shown = json.loads(run_msdn(*FAST, "1e-4,1e30", "--select", "val", "--json").stdout)
    assert shown["best"]["learning_rate"] == 1e-4 and shown["best"]["at_edge"] == ["learning_rate"]
    assert shown["rows"][1]["summary"]["H"]["mean"] is None


def rows_of(shown: str) -> list[str]:
    """The lines of a printed table below its heading."""
    return [line for line in shown.splitlines() if line.startswith("│")]


@pytest.mark.parametrize(
    ("over", "best", "at_edge"),
    [
        ({"lambda_cal": (0.1, 0.2, 0.3)}, 1, []),
        ({"lambda_cal": (0.1, 0.2, 0.3)}, 2, ["lambda_cal"]),
        ({"lambda_cal": (0.0, 0.2)}, 0, []),  # there is nothing below zero
        ({"lambda_cal": (0.0, 0.2)}, 1, ["lambda_cal"]),
        ({"region_mix": (0.5, 1.0)}, 1, []),
        ({"alpha": ((0.0, 1.0), (0.4, 0.6), (1.0, 0.0))}, 0, []),
        ({"alpha": ((0.0, 1.0), (0.4, 0.6), (1.0, 0.0))}, 2, []),
        ({"alpha": ((0.3, 0.7), (0.4, 0.6))}, 1, ["alpha"]),
        ({"epochs": (1, 2), "lambda_cal": (0.1, 0.2, 0.3)}, 4, ["epochs"]),
    ],
)
def test_the_best_value_may_lie_at_the_edge(over: dict[str, Any], best: int, at_edge: list[str]) -> None:
    rows = sweep_rows("toy", over, {"model": "dedn" if "region_mix" in over else "msdn"})
    assert settings_at_edge(rows[best], over) == at_edge


def test_the_edge_is_told_with_the_best_value(run_msdn: Msdn) -> None:
    shown = run_msdn(*LAMBDA, "--select", "val").stdout
    assert "the best lambda_cal lies at the edge of the values given: try some beyond it" in shown


def test_files_are_named_by_task_and_preset_and_say_what_was_changed(home: Home, run_msdn: Msdn) -> None:
    run_msdn(*LAMBDA)
    shown = run_msdn(*LAMBDA, "--task", "czsl", "--preset", "paper", "--lr", "0.003")
    other = "sweep-toy-msdn-lambda_cal-last-czsl-paper-epochs_2-batch_size_8-learning_rate_0.003"
    names = {path.name for path in home.studies.glob("*.csv")}
    assert {
        "sweep-toy-msdn-lambda_cal-last-epochs_2-batch_size_8.csv",
        f"{other}.csv",
    } < names
    assert "\npreset: paper/czsl; changed: epochs 2, batch_size 8, learning_rate 0.003\n" in shown.stdout
    for end in ("", "-means"):
        lines = read_csv(home.studies / f"{other}{end}.csv")
        assert {line["preset"] for line in lines} == {"paper/czsl"}
        assert {line["overrides"] for line in lines} == {
            f"task czsl, epochs 2, batch_size 8, learning_rate 0.003, lambda_cal {value}"
            for value in (0.1, 0.5)
        }


def test_groups_are_shown(run_msdn: Msdn, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(
        "attribute,group\n" + "".join(f"{n},{'wing' if n < 4 else 'head'}\n" for n in range(1, 8))
    )
    dedn = (*SWEEP, "--seeds", "0", "--model", "dedn", "--over", "region_mix", "--values", "0.2,0.4")
    assert (
        "attribute groups: file mine.csv (wing 3, head 4)\n" in run_msdn(*dedn, "--groups", str(file)).stderr
    )
    one_seed = run_msdn(*dedn)
    assert one_seed.stderr.count("attribute groups: ") == 1 and "one seed: no verdict" in one_seed.stdout
    assert "attribute groups" not in run_msdn(*LAMBDA).stderr


def test_a_run_whose_test_figures_were_watched_is_named(home: Home, run_msdn: Msdn) -> None:
    watched = settings_of(epochs=2, batch_size=8, lambda_cal=0.5, seed=1)
    with FeatureCache(home.features / "toy-224-random.h5") as cache:
        train_model(cache, watched, home.studies / "runs", watch_test=True)
    shown = run_msdn(*LAMBDA)
    assert "\ntest figures were shown while training (--watch-test): lambda_cal 0.5, seed 1\n" in shown.stdout
    lines = read_csv(home.studies / "sweep-toy-msdn-lambda_cal-last-epochs_2-batch_size_8.csv")
    assert [line["watch_test"] for line in lines] == ["False", "False", "False", "True"]
