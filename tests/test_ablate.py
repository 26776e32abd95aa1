"""`msdn ablate`: the rows of Table 2, trainings that rows share, claims seed by seed, files and resuming."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from toy_runs import write_split_cache
from toy_studies import SHORT, Epochs, read_csv

from msdn.cache import FeatureCache, Home
from msdn.terminal import result_console
from msdn.train.errors import TrainError
from msdn.train.loop.trainer import Trainer
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.measure.show import draw
from msdn.train.models.presets import preset_settings
from msdn.train.models.published import published_ablation
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import find_runs
from msdn.train.studies import series
from msdn.train.studies.ablation import (
    CLAIMS,
    KEY,
    VARIANTS,
    Verdict,
    ablation_rows,
    check_claims,
    claim_lines,
    paired_differences,
)
from msdn.train.studies.series import Job, split_waves, what_trains
from msdn.train.studies.study import (
    Facts,
    RowResult,
    Study,
    measure_study,
    model_row,
    study_notes,
    study_table,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
ABLATE = ("ablate", "--dataset", "toy", *SHORT, "--seeds", "0-1")
FIGURES = ("acc", "U", "S", "H", "AUSUC")
TRAININGS = 6  # of eight rows; three differ in the prediction alone


@pytest.fixture(autouse=True)
def features(home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small cache of the dataset 'toy' in the home; it counts as one with a preset (else: test_rule_studies.py)."""
    monkeypatch.setattr("msdn.train.loop.options.has_preset", lambda *_: True)
    return write_split_cache(home.features / "toy-224-random.h5")


def made_up(figures: dict[str, list[float | None]], dataset: str = "toy") -> list[RowResult]:
    """Rows with these acc of each seed; H is twice as much, everything else the same."""
    return [
        RowResult(
            row,
            tuple(
                {
                    "acc": acc,
                    "H": None if acc is None else 2 * acc,
                    "U": 1.0,
                    "S": 2.0,
                    "AUSUC": 3.0,
                    "seed": n,
                }
                for n, acc in enumerate(figures.get(row.facts[KEY], [10.0] * 3))
            ),
        )
        for row in ablation_rows(dataset)
    ]


def test_the_rows_are_those_of_the_paper() -> None:
    assert [variant.key for variant in VARIANTS] == list(published_ablation("cub"))
    rows = {row.facts[KEY]: row for row in ablation_rows("cub")}
    full = preset_settings("msdn", "cub")
    expected = {
        "baseline": preset_settings("baseline", "cub"),
        "va": dataclasses.replace(full, branches="va"),
        "av": dataclasses.replace(full, branches="av"),
        "va-distill": dataclasses.replace(full, alpha=(0.0, 1.0)),
        "av-distill": dataclasses.replace(full, alpha=(1.0, 0.0)),
        "divergence": dataclasses.replace(full, distill_parts="divergence"),
        "distance": dataclasses.replace(full, distill_parts="distance"),
        "full": full,
    }
    assert {key: row.settings for key, row in rows.items()} == expected
    assert {key: row.published for key, row in rows.items()} == published_ablation("cub")
    assert all(row.published is None for row in ablation_rows("plumage"))


def test_common_settings_reach_the_rows_that_have_them() -> None:
    rows = {
        row.facts[KEY]: row for row in ablation_rows("cub", "paper", {"epochs": 3, "lambda_distill": 0.5})
    }
    assert {row.settings.epochs for row in rows.values()} == {3}
    assert {row.settings.lambda_distill for key, row in rows.items() if key != "baseline"} == {0.5}
    assert "lambda_distill" not in rows["baseline"].overrides
    assert rows["full"].settings.distillation == "paper" and rows["full"].preset == "paper/gzsl"


def test_jobs_of_one_wave_share_no_training() -> None:
    jobs = Study("x", ablation_rows("cub"), (0, 1)).jobs()
    first, rest = split_waves(jobs)
    assert len(first) == 2 * TRAININGS and sorted(first + rest) == list(range(16))
    shared = {VARIANTS[position // 2].key for position in rest}
    assert shared == {"av-distill", "full"}
    chosen = Study("x", ablation_rows("cub", None, {"select": "val"}), (0, 1)).jobs()
    assert split_waves(chosen) == [list(range(16))]


def test_rows_that_share_a_training_get_their_own_figures(
    home: Home, monkeypatch: pytest.MonkeyPatch, run_msdn: Msdn
) -> None:
    epochs = Epochs(monkeypatch)
    shown = json.loads(run_msdn(*ABLATE, "--lr", "0.003", "--json").stdout)
    assert epochs.count == 2 * 2 * TRAININGS
    assert len(find_runs(home.studies / "runs")) == 2 * TRAININGS
    base = settings_of(epochs=2, batch_size=8, learning_rate=0.003)
    rows = {row["key"]: row for row in shown["rows"]}
    with FeatureCache(home.features / "toy-224-random.h5") as cache:
        for key, alpha in (("va-distill", (0.0, 1.0)), ("av-distill", (1.0, 0.0)), ("full", (0.9, 0.1))):
            settings = dataclasses.replace(base, alpha=alpha, seed=1)
            alone = evaluate_run(train_model(cache, settings, home.root / "apart"), cache)
            assert {name: rows[key]["seeds"][1][name] for name in FIGURES} == {n: alone[n] for n in FIGURES}
    assert rows["full"]["seeds"][0]["run"] == rows["va-distill"]["seeds"][0]["run"]
    assert rows["full"]["settings"]["alpha"] == [0.9, 0.1]


def test_jobs_done_at_once_share_no_training(run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch) -> None:
    waves = []

    one_by_one = series._one_by_one

    def watched(cache: FeatureCache, todo: Sequence[tuple[int, Job]], *given: Any) -> Any:
        waves.append([what_trains(job.settings) for _, job in todo])
        return one_by_one(cache, todo, *given)

    monkeypatch.setattr(series, "_one_by_one", watched)
    assert run_msdn(*ABLATE).exit_code == 0
    first, rest = waves
    assert len(first) == len(set(first)) == 2 * TRAININGS
    assert set(rest) < set(first)


@pytest.mark.parametrize("stop", [1, 2, 9, 2 * 2 * TRAININGS])
def test_an_interrupted_ablation_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch, stop: int, run_msdn: Msdn
) -> None:
    epochs = Epochs(monkeypatch)
    epochs.stop_before = stop
    stopped = run_msdn(*ABLATE)
    assert stopped.exit_code == 130 and not list(home.studies.glob("*.csv"))
    epochs.stop_before = None
    assert run_msdn(*ABLATE).exit_code == 0
    assert epochs.count == 2 * 2 * TRAININGS
    assert len(find_runs(home.studies / "runs")) == 2 * TRAININGS


def test_studies_share_runs(home: Home, monkeypatch: pytest.MonkeyPatch, run_msdn: Msdn) -> None:
    run_msdn(*ABLATE)
    epochs = Epochs(monkeypatch)
    sweep = run_msdn("sweep", "--dataset", "toy", *SHORT, "--seeds", "0-1", "--over", "alpha")
    assert sweep.exit_code == 0 and epochs.count == 0
    with FeatureCache(home.features / "toy-224-random.h5") as cache:
        common = {"epochs": 2, "batch_size": 8}
        rows = [model_row("toy", name, name, common=common) for name in ("msdn", "baseline")]
        measure_study(cache, Study("x", tuple(rows), (0, 1)), home, workers=1, device="cpu")
    assert epochs.count == 0


def test_table_claims_and_files(home: Home, run_msdn: Msdn) -> None:
    shown = run_msdn(*ABLATE)
    assert shown.exit_code == 0, shown.output
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines() if "│" in line
    ]
    assert [row[0] for row in cells] == ["chance", *(variant.label for variant in VARIANTS)]
    means, seeds = (
        read_csv(home.studies / f"ablate-toy-epochs_2-batch_size_8{end}.csv") for end in ("-means", "")
    )
    assert [line["key"] for line in means] == [variant.key for variant in VARIANTS]
    for row, line in zip(cells[1:], means, strict=True):
        assert row[1] == f"{float(line['acc']):.1f} ± {float(line['acc_std']):.1f}" and row[6] == "2"
    assert [(line["key"], line["seed"]) for line in seeds] == [
        (variant.key, seed) for variant in VARIANTS for seed in ("0", "1")
    ]
    assert all(line["parameters"] and line["training_seconds"] for line in seeds)
    stored = json.loads((home.studies / "ablate-toy-epochs_2-batch_size_8.json").read_text())
    assert stored["selection"].startswith("last") and stored["weights"] == "random"
    assert len(stored["fingerprint"]) == 32 and stored["measured_on"] == "test"
    assert len(stored["claims"]) == 2 * len(CLAIMS)
    assert all(claim.text in shown.stdout for claim in CLAIMS)
    assert "paper acc" not in shown.stdout


def test_what_was_changed_is_told(home: Home, run_msdn: Msdn) -> None:
    shown = run_msdn(*ABLATE, "--preset", "paper", "--lambda-distill", "0.5")
    assert "\npreset: paper/gzsl; changed: epochs 2, batch_size 8, lambda_distill 0.5\n" in shown.stdout
    lines = {
        line["key"]: line
        for line in read_csv(
            home.studies / "ablate-toy-paper-epochs_2-batch_size_8-lambda_distill_0.5-means.csv"
        )
    }
    assert lines["baseline"]["overrides"] == "epochs 2, batch_size 8"
    assert lines["va"]["overrides"] == "epochs 2, batch_size 8, lambda_distill 0.5, branches va"
    assert {line["preset"] for line in lines.values()} == {"paper/gzsl"}


def test_a_claim_cannot_be_told_by_a_row_that_failed(run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch) -> None:
    train_epoch = Trainer.train_epoch

    def fail(trainer: Trainer, epoch: int) -> dict[str, float]:
        if type(trainer.model).__name__ == "Baseline":
            raise TrainError("too bad")
        return train_epoch(trainer, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", fail)
    shown = run_msdn(*ABLATE)
    assert shown.exit_code == 0, shown.output
    assert "MSDN beats the baseline: acc: not known; H: not known" in shown.stdout
    assert "failed: baseline, seed 0: epoch 1: too bad" in shown.stdout


def test_the_papers_figures_stand_beside() -> None:
    rows = made_up({}, "cub")
    facts = Facts("x", "cub", "f" * 32, "imagenet", 224, 0, False, "test", {"acc": 2.0}, (0, 1, 2))
    console = result_console()
    with console.capture() as capture:
        console.print(draw(study_table("", facts, rows), console))
    lines = [line for line in capture.get().splitlines() if "│" in line]
    for line, published in zip(lines[1:], published_ablation("cub").values(), strict=True):
        assert [cell.strip() for cell in line.split("│")[-3:-1]] == [str(published.acc), str(published.H)]
    assert "paper: MSDN (CVPR 2022), Table 2, chosen on the test set" in study_notes(facts, rows)


def test_claims_are_paired_by_the_seed() -> None:
    rows = made_up(
        {"va": [10, 20, 30], "va-distill": [11, 19, 33], "av-distill": [1, 25, 30], "full": [12, 24, 34]}
    )
    verdicts = {(one.claim, one.figure): one for one in check_claims(rows)}
    helps = verdicts["distillation helps V→A", "acc"]
    assert helps.differences == (1, -1, 3) and helps.holds_in == 2
    assert helps.words == "acc: holds only on the mean (2 of 3 seeds, mean difference +1.0)"
    both = verdicts["both branches beat one", "H"]
    assert both.differences == (2, -2, 2)  # the better of the two branches, seed by seed
    assert verdicts["MSDN beats the baseline", "acc"].words.startswith("acc: holds (3 of 3 seeds")
    against = verdicts["distillation helps A→V", "acc"]
    assert against.differences == (-9, 15, 20)
    assert [line.split(": ")[0] for line in claim_lines(check_claims(rows))] == [one.text for one in CLAIMS]


def test_equal_figures_prove_nothing() -> None:
    (verdict,) = (
        one for one in check_claims(made_up({})) if one.claim == CLAIMS[0].text and one.figure == "H"
    )
    assert verdict.words == "H: not confirmed (0 of 3 seeds, mean difference +0.0)"


def test_one_seed_decides_nothing() -> None:
    words = Verdict(CLAIMS[0].text, "acc", (3.0,), 1.2).words
    assert "one seed: no verdict" in words and "+3.0, paper +1.2" in words and "holds" not in words


def test_an_unknown_figure_proves_nothing() -> None:
    rows = made_up({"va": [10, None, 30], "va-distill": [11, 19, 33]})
    assert paired_differences(rows[3], [rows[1]], "acc") == ()
    assert claim_lines(check_claims(rows))[0] == ("distillation helps V→A: acc: not known; H: not known")


def test_the_papers_own_differences() -> None:
    verdicts = {(one.claim, one.figure): one for one in check_claims(made_up({}, "cub"))}
    assert verdicts["both branches beat one", "acc"].paper_difference == pytest.approx(76.1 - 75.2)
    assert verdicts["distillation helps V→A", "H"].words.endswith("mean difference +0.0, paper +5.4)")
    sun = {(one.claim, one.figure): one for one in check_claims(made_up({}, "sun"))}
    assert sun["distillation helps A→V", "acc"].paper_difference == pytest.approx(63.0 - 63.8)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--branches", "av"), 2, "--branches: each row of the ablation has its own; leave it out"),
        (("--model", "msdn"), 2, "--model: each row of the ablation has its own"),
        (("--seed", "1"), 2, "--seed: a study has several seeds; give them with --seeds"),
        (("--region-mix", "0.5"), 2, "--region-mix is not a setting of the model 'msdn'"),
        (("--seeds", "0,0"), 2, "'0,0' names a seed twice"),
        (("--name", ""), 2, "--name is '', expected a file's name"),
        (("--cache", "nowhere.h5"), 1, "nowhere.h5"),
    ],
)
def test_wrong_usage_gets_one_sentence(
    run_msdn: Msdn, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run_msdn("ablate", "--dataset", "toy", *arguments)
    assert result.exit_code == code and message in result.stderr and result.stdout == ""


def test_a_dataset_without_features(run_msdn: Msdn) -> None:
    result = run_msdn("ablate", "--dataset", "tyo")
    assert result.exit_code == 1 and "no cache of 'tyo'" in result.stderr
