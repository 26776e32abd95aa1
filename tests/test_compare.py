"""`msdn compare`: seeds together, protocols apart, and no figure that is not a run's own."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from toy_results import FIGURES, keep, make_run

from msdn.cache import FeatureCache, Home
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.measure.latex import escape_latex, latex
from msdn.train.measure.show import Table, draw
from msdn.train.models.presets import preset_settings
from msdn.train.models.registry import find_model, settings_of
from msdn.train.runs.results import Measured, collect_results
from msdn.train.studies.compare import board_table, compare_runs, show_seeds

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
Tables = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def msdn(run_msdn: Callable[..., Result]) -> Msdn:
    """`msdn compare` on the home."""
    return partial(run_msdn, "compare")


@pytest.fixture
def tables_of(msdn: Msdn) -> Callable[..., list[dict[str, Any]]]:
    """The tables that it shows, from its JSON."""
    return lambda *arguments: json.loads(msdn(*arguments, "--json").stdout)["tables"]


def test_seeds_become_one_line(home: Home, msdn: Msdn, tables_of: Tables) -> None:
    values = {3: 40.0, 0: 44.5, 1: 42.0}
    runs = {seed: make_run(home, {"H": value}, seed=seed) for seed, value in values.items()}
    (table,) = tables_of()
    (line,) = table["lines"]
    assert line["seeds"] == [0, 1, 3]
    assert line["runs"] == [str(runs[seed].path) for seed in (0, 1, 3)]
    assert line["figures"]["H"] == {
        "mean": pytest.approx(mean(values.values())),
        "std": pytest.approx(stdev(values.values())),
        "count": 3,
    }
    shown = msdn().stdout
    assert "42.2 ± 2.3" in shown and "3: 0-1,3" in shown
    assert "toy, task gzsl: 3 runs, ranked by H" in shown


def test_one_seed_has_no_deviation(home: Home, msdn: Msdn, tables_of: Tables) -> None:
    make_run(home, {})
    assert "±" not in msdn().stdout
    (table,) = tables_of()
    assert table["lines"][0]["figures"]["acc"] == {"mean": 50.0, "std": None, "count": 1}


def test_lines_are_ranked_by_the_tasks_figure(home: Home, tables_of: Tables) -> None:
    for task, best in (("gzsl", "dazle"), ("czsl", "msdn")):
        make_run(home, {"H": 30.0, "acc": 70.0}, model="msdn", task=task)
        make_run(home, {"H": 60.0, "acc": 20.0}, model="dazle", task=task)
        make_run(home, {"H": 30.0, "acc": 20.0}, model="baseline", task=task)
        (table,) = (table for table in tables_of() if table["task"] == task)
        assert table["ranked_by"] == {"gzsl": "H", "czsl": "acc"}[task]
        assert (table["lines"][0]["rank"], table["lines"][0]["model"]) == (1, best)
        assert [line["rank"] for line in table["lines"]] == [1, 2, 2]  # equals share a rank


def test_a_line_without_the_figure_comes_last_without_a_rank(
    home: Home, msdn: Msdn, tables_of: Tables
) -> None:
    make_run(home, {"S": None, "H": None, "AUSUC": None}, model="baseline")
    make_run(home, {"H": 5.0})
    (table,) = tables_of()
    assert [(line["model"], line["rank"]) for line in table["lines"]] == [("msdn", 1), ("baseline", None)]
    assert "–" in next(line for line in msdn().stdout.splitlines() if "baseline" in line)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"dataset": "other"}, "dataset"),
        ({"fingerprint": "0" * 64}, "features"),
        ({"task": "czsl"}, "task"),
        ({"select": "val"}, "selection of the weights, margin"),
        ({"select": "test"}, "selection of the weights"),
        ({"margin": 0.5}, "margin"),
    ],
)
def test_other_protocols_have_a_table_of_their_own(
    home: Home, other: dict[str, Any], why: str, msdn: Msdn, tables_of: Tables
) -> None:
    make_run(home, {})
    make_run(home, {}, model="baseline")
    make_run(home, {}, model="baseline", **other)
    tables = tables_of()
    assert sorted(len(table["lines"]) for table in tables) == [1, 2]
    assert all(table["lines"][0]["rank"] == 1 for table in tables)
    sentence = msdn().stdout.splitlines()[0]
    assert sentence == f"2 tables that are not ranked against each other; they differ in: {why}"


def test_paper_style_is_a_protocol_of_its_own(home: Home, msdn: Msdn) -> None:
    make_run(home, {}, select="test")
    make_run(home, {}, select="test", paper_style=True)
    shown = msdn().stdout
    assert "they differ in: selection of the weights\n" in shown
    assert "selection: test (EPOCH CHOSEN BY H ON THE TEST CLASSES)\n" in shown
    assert "selection: test, paper style (BEST H AND BEST acc" in shown


def test_blank_lines_stand_between_tables_only(home: Home, msdn: Msdn) -> None:
    make_run(home, {})
    assert not msdn().stdout.endswith("\n\n")
    make_run(home, {}, dataset="cub")
    two = msdn().stdout
    assert not two.endswith("\n\n") and "\n\ntoy, task" in two.replace("\n\ncub, task", "\n\ntoy, task", 1)


def test_one_table_says_nothing_of_others(home: Home, msdn: Msdn) -> None:
    make_run(home, {})
    make_run(home, {}, seed=1, lambda_cal=0.3)
    assert "not ranked against each other" not in msdn().stdout


def test_a_line_shows_what_tells_it_from_others_of_its_model(
    home: Home, msdn: Msdn, tables_of: Tables
) -> None:
    make_run(home, {"H": 3.0}, lambda_cal=0.05)
    make_run(home, {"H": 2.0}, lambda_cal=0.1, alpha=(0.5, 0.5))
    make_run(home, {"H": 1.0}, model="baseline", epochs=7)
    (table,) = tables_of()
    assert [line["settings"] for line in table["lines"]] == [
        {"lambda_cal": 0.05, "alpha": [0.9, 0.1]},
        {"lambda_cal": 0.1, "alpha": [0.5, 0.5]},
        {"epochs": 7},
    ]
    shown = msdn().stdout
    assert "msdn, lambda_cal 0.05, alpha 0.9 0.1 " in shown and "baseline, epochs 7 " in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {}),
        ({"lambda_cal": 0.3}, {"lambda_cal": 0.3}),
        ({"margin": 0.5}, {}),  # the heading says it
        ({"margin": 0.5, "select": "val"}, {"margin": 0.5}),  # trained with; each run predicts with its own
    ],
)
def test_a_line_alone_names_what_is_not_as_in_the_preset(
    home: Home, tables_of: Tables, options: dict[str, Any], told: dict[str, Any]
) -> None:
    make_run(home, {}, **options)
    (table,) = tables_of()
    assert table["lines"][0]["settings"] == told


def test_what_the_rule_for_own_data_chose_is_in_a_note(home: Home, tables_of: Tables, msdn: Msdn) -> None:
    run = make_run(home, {}, epochs=98, batch_size=16, lambda_cal=0.3)
    rule = {"epochs": "49 training images: 301 steps", "batch_size": "49 training images"}
    run.update(preset=None, rule=rule, overrides={"model": "msdn", "lambda_cal": 0.3})
    (table,) = tables_of()
    assert table["lines"][0]["settings"] == {"lambda_cal": 0.3}
    assert "epochs 98, batch_size 16" in table["lines"][0]["rule"]
    assert "preset of msdn: none for these data; the rule" in " ".join(msdn().stdout.split())


def test_a_published_dataset_is_compared_with_its_own_preset(home: Home, tables_of: Tables) -> None:
    own = preset_settings("msdn", "cub").as_json()
    make_run(home, {}, dataset="cub", **{**own, "alpha": tuple(own["alpha"]), "weight_decay": 0.5})
    (table,) = tables_of()
    assert table["lines"][0]["settings"] == {"weight_decay": 0.5}


def test_latex_holds_the_same_figures(home: Home, msdn: Msdn) -> None:
    make_run(home, {"H": 68.04}, dataset="cub", weights="torchvision")
    make_run(home, {"H": 64.0}, dataset="cub", seed=1)
    make_run(home, {"H": 12.345, "S": None}, dataset="cub", model="baseline", lambda_cal=0.25)
    done = msdn("--latex")
    lines = done.stdout.splitlines()
    assert r"\begin{tabular}{rlrrrrrr}" in lines and r"\bottomrule" in lines
    cells = {
        line.split(" & ")[1]: line.removesuffix(r" \\").split(" & ")
        for line in lines
        if line.count(" & ") == 7
    }
    assert cells["msdn"][5:] == [r"\textbf{66.0} $\pm$ 2.9", r"\textbf{30.0} $\pm$ 0.0", "2: 0-1"]
    baseline = next(row for name, row in cells.items() if name.startswith("baseline, lambda\\_cal 0.25"))
    assert baseline[4:6] == ["--", "12.3"]
    paper = cells["msdn, the paper (chosen on the test set)"]
    assert paper[2:6] == ["76.1", "68.7", "67.5", "68.1"]
    assert "% paper: msdn from MSDN (CVPR 2022), Table 1" in lines
    assert msdn("--latex", "--json").exit_code == 2


def test_names_are_escaped_for_latex_and_for_the_terminal() -> None:
    name = "[red]x[/] 5% of $a_1$ & {b} #\x1b[31m~^\\"
    table = Table(("model",), [[name]], words=("model",), above=["% a\nb"])
    assert escape_latex(name) == (
        r"[red]x[/] 5\% of \$a\_1\$ \& \{b\} \#\textbackslash{}x1b[31m"
        r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert latex([table]).startswith("% % a\\nb\n\\begin{tabular}{l}\n")
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(draw(table, console))
    shown = console.export_text(styles=True)
    assert "[red]x[/]" in shown and r"\x1b[31m" in shown and "\x1b[31m" not in shown


def test_other_groups_of_attributes_are_another_line(home: Home, tables_of: Tables) -> None:
    halves = [{"name": "a", "attributes": [1]}, {"name": "b", "attributes": [2]}]
    make_run(home, {}, model="dedn", seed=0, groups={"source": "names", "groups": halves})
    make_run(home, {}, model="dedn", seed=1, groups={"source": "names (again)", "groups": halves})
    make_run(home, {}, model="dedn", seed=2, groups={"source": "file.csv", "groups": halves[:1]})
    (table,) = tables_of()
    settings = {tuple(line["seeds"]): line["settings"] for line in table["lines"]}
    assert settings == {(0, 1): {"groups": "2 from names"}, (2,): {"groups": "1 from file.csv"}}


def test_of_two_runs_of_a_seed_the_later_counts(home: Home, msdn: Msdn, tables_of: Tables) -> None:
    second = make_run(home, {"H": 90.0}, started="2026-01-01T23:00:00-09:00")
    first = make_run(home, {"H": 10.0}, started="2026-01-02T00:00:00+00:00")  # eight hours before the other
    (table,) = tables_of()
    assert table["lines"][0]["runs"] == [str(second.path)]
    assert table["lines"][0]["figures"]["H"] == {"mean": 90.0, "std": None, "count": 1}
    assert f"left out, a later run has the same seed and settings: {first.path}\n" in msdn().stdout


def test_folders_from_elsewhere_are_merged(home: Home, tmp_path: Path, tables_of: Tables) -> None:
    here = make_run(home, {"H": 40.0}, seed=0)
    there = make_run(Home(tmp_path / "there"), {"H": 50.0}, seed=1)
    copied = Path(shutil.copytree(there.path, tmp_path / "copied"))
    shutil.rmtree(tmp_path / "there")
    (table,) = tables_of(here.path.name, copied, here.path)
    (line,) = table["lines"]
    assert (line["seeds"], line["figures"]["H"]["mean"]) == ([0, 1], 45.0)
    assert table["repeated"] == []


def test_a_run_without_results_is_measured(
    home: Home, make_cache: Callable[..., Path], msdn: Msdn, tables_of: Tables
) -> None:
    with FeatureCache(make_cache()) as cache:
        run = train_model(cache, settings_of(epochs=2, batch_size=8), home.runs)
        expected = evaluate_run(run, cache)
    result = msdn()
    assert f"measuring {run.path}\n" in result.stderr
    assert "backbone: random weights – figures say nothing about published results" in result.stdout
    (table,) = tables_of()
    (line,) = table["lines"]
    assert {name: one["mean"] for name, one in line["figures"].items()} == pytest.approx(
        {name: expected[name] for name in FIGURES}
    )
    kept = json.loads(run.results.read_text())
    assert (kept["fingerprint"], kept["H"]) == (expected["fingerprint"], pytest.approx(expected["H"]))
    assert "measuring" not in msdn().stderr
    keep(run, fingerprint="other", H=99.0)
    assert "measuring" in msdn().stderr
    assert json.loads(run.results.read_text())["H"] == pytest.approx(expected["H"])


def test_what_cannot_be_compared_is_listed_with_its_reason(
    home: Home, tmp_path: Path, msdn: Msdn, tables_of: Tables
) -> None:
    make_run(home, {})
    lost = make_run(home, seed=1)
    halves = [make_run(home, {}, seed=seed, status="interrupted") for seed in range(2, 7)]
    shown = msdn().stdout
    assert f"left out: {lost.path}: not measured yet, because its features are not found" in shown
    assert f"the features that {lost.path.name} was trained on are neither at" in shown
    assert (
        ", ".join(str(run.path) for run in halves[:3]) + " and 2 more: not finished (interrupted)\n" in shown
    )
    (table,) = tables_of()
    assert table["lines"][0]["seeds"] == [0]
    named = msdn(make_run(home, {}).path, tmp_path, make_run(home, {}, model="dazle").path, "--model", "msdn")
    assert f"left out: {tmp_path}: not a run folder, it has no manifest.json\n" in named.stdout
    assert ": not a run of msdn\n" in named.stdout


def test_nothing_to_compare_is_an_error(home: Home, tmp_path: Path, msdn: Msdn) -> None:
    empty = msdn()
    assert empty.exit_code == 1
    assert "left out: nope: no such run" in msdn("nope").stderr
    assert (
        f"no run to compare in {home.runs}. Train one with: msdn train --dataset NAME --home" in empty.stderr
    )
    wrong = msdn(tmp_path)
    assert wrong.exit_code == 1
    assert "no run that can be compared; left out:" in wrong.stderr and "not a run folder" in wrong.stderr
    unknown = msdn("--model", "msnd")
    assert unknown.exit_code == 2
    assert "unknown model 'msnd'. Did you mean 'msdn'?" in unknown.stderr


def test_dataset_and_model_narrow_the_choice(home: Home, tables_of: Tables) -> None:
    for dataset in ("toy", "other"):
        for model in ("msdn", "dazle"):
            make_run(home, {}, dataset=dataset, model=model)
    assert len(tables_of()) == 2
    (table,) = tables_of("--dataset", "other", "--model", "dazle")
    assert (table["dataset"], [line["model"] for line in table["lines"]]) == ("other", ["dazle"])
    measured, left_out = collect_results(home, model="msdn")
    assert [one.run.dataset for one in measured] == ["toy", "other"] and left_out == []


def test_the_papers_figures_stand_beside(home: Home, msdn: Msdn, tables_of: Tables) -> None:
    make_run(home, {}, dataset="cub")
    make_run(home, {}, dataset="cub", lambda_cal=0.3)
    make_run(home, {}, dataset="cub", model="dedn")
    make_run(home, {}, dataset="cub", model="msdn++")
    shown = msdn().stdout
    (paper,) = (line for line in shown.splitlines() if "msdn, the paper (chosen on the test set)" in line)
    assert [cell.strip() for cell in paper.split("│")[3:8]] == ["76.1", "68.7", "67.5", "68.1", "–"]
    assert "msdn++, the paper (how they were chosen is not known)" in shown
    assert "paper: msdn from MSDN (CVPR 2022), Table 1\n" in shown
    (table,) = tables_of()
    assert set(table["papers"]) == {"msdn", "msdn++"}
    assert table["papers"]["msdn"]["H"] == 68.1


def test_no_papers_figures_stand_beside_other_counts(home: Home, msdn: Msdn, tables_of: Tables) -> None:
    make_run(home, {}, dataset="cub", counts_differ=True)
    shown = msdn().stdout
    assert "the paper" not in shown and "splits: their sizes are not those of cub" in shown
    assert (tables_of()[0]["papers"], tables_of()[0]["counts_differ"]) == ({}, True)


def test_a_reconstruction_is_told(home: Home, msdn: Msdn, tables_of: Tables) -> None:
    make_run(home, {})
    assert "reconstruction" not in msdn().stdout
    make_run(home, {}, model="msdn++")
    note = find_model("msdn++").reconstruction
    assert f"\n{note}\n" in msdn().stdout
    told = {line["model"]: line["reconstruction"] for line in tables_of()[0]["lines"]}
    assert told == {"msdn": None, "msdn++": note}


def test_a_dataset_of_ones_own_has_no_papers(home: Home, msdn: Msdn, tables_of: Tables) -> None:
    make_run(home, {})
    assert "paper" not in msdn().stdout
    assert tables_of()[0]["papers"] == {}


def test_the_heading_and_notes_name_what_was_compared(home: Home, msdn: Msdn) -> None:
    run = make_run(home, {}, select="val", watch_test=True, weights="imported", masked_images=2)
    shown = msdn().stdout
    assert "toy, task gzsl: 1 run, ranked by H\n" in shown
    assert "features: f1f1f1f1f1f1 (imported weights)\n" in shown
    assert "selection: val (epochs chosen by H and margin by H on validation classes" in shown
    assert "margin: each run's own, chosen on validation classes\n" in shown
    assert f"test figures were shown while training (--watch-test): {run.path}\n" in shown
    assert "backbone: not known to msdn" in shown and "masked images: 2" in shown


def test_csv_holds_every_line(home: Home, tmp_path: Path, msdn: Msdn) -> None:
    for seed, value in enumerate((40.0, 50.0)):
        make_run(home, {"H": value}, dataset="cub", seed=seed)
    make_run(home, {}, dataset="cub", lambda_cal=0.3)
    make_run(home, {"H": None}, model="baseline")
    file = tmp_path / "lines.csv"
    file.write_text("old")
    shown = msdn("--csv", file)
    assert shown.exit_code == 0 and "H" in shown.stdout
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [(row["dataset"], row["rank"], row["settings"]) for row in rows] == [
        ("cub", "1", "lambda_cal 0.3"),
        ("cub", "2", "lambda_cal 0.1"),
        ("toy", "", ""),
    ]
    two = rows[1]
    assert (two["H"], two["seeds"], two["runs"], two["paper_H"]) == ("45.0", "0 1", "2", "68.1")
    assert float(two["H_std"]) == pytest.approx(stdev((40.0, 50.0)))
    assert two["paper_source"] == "MSDN (CVPR 2022), Table 1; chosen on the test set"
    assert (rows[2]["H"], rows[2]["paper_H"]) == ("", "")
    nowhere = msdn("--csv", tmp_path / "no" / "lines.csv")
    assert nowhere.exit_code == 1 and "there is no folder" in nowhere.stderr


def test_the_best_of_a_column_is_bold_on_a_terminal(home: Home) -> None:
    runs = [make_run(home, model=model) for model in ("msdn", "dazle", "baseline")]
    measured = [
        Measured(run, {**FIGURES, "acc": None, "H": h, "S": 100 - h})
        for run, h in zip(runs, (41.5, 43.5, 42.5), strict=True)
    ]
    assert bold_of(measured) == {"43.5", "58.5", "40.0", "30.0"}
    assert bold_of(measured[:1]) == set()
    assert "\x1b[" not in drawn(measured, terminal=False)


def drawn(measured: list[Measured], terminal: bool) -> str:
    (board,) = compare_runs(measured)
    file, colors = io.StringIO(), "standard" if terminal else None
    console = Console(file=file, force_terminal=terminal, width=120, color_system=colors)
    console.print(draw(board_table(board), console))
    return file.getvalue()


def bold_of(measured: list[Measured]) -> set[str]:
    body = drawn(measured, terminal=True).split("┩")[1]  # the head is bold in any case
    return {part.split("\x1b[0m")[0].strip() for part in body.split("\x1b[1m")[1:]}


def test_nothing_is_cut_off_on_a_small_terminal(home: Home) -> None:
    for seed, value in enumerate((40.0, 50.0)):
        make_run(home, {name: value for name in FIGURES}, dataset="cub", seed=seed, lambda_distill=0.012345)
    make_run(home, {}, dataset="cub")
    measured, _ = collect_results(home)
    (board,) = compare_runs(measured)
    file = io.StringIO()
    console = Console(file=file, width=80)
    console.print(draw(board_table(board), console))
    assert "…" not in file.getvalue()
    lines = file.getvalue().splitlines()
    assert "2: 0-1" in file.getvalue() and all(len(line) <= 80 for line in lines)
    assert all(name in lines[0] for name in ("model", "acc", "U", "S", "H", "AUSUC", "seeds"))
    assert "lambda_distill" in file.getvalue() and "0.012345" in file.getvalue()


@pytest.mark.parametrize(
    ("seeds", "shown"), [((0,), "1: 0"), ((0, 1, 2), "3: 0-2"), ((0, 2, 3, 9), "4: 0,2-3,9")]
)
def test_seeds_are_counted_and_named(seeds: tuple[int, ...], shown: str) -> None:
    assert show_seeds(seeds) == shown
