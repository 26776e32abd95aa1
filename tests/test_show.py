"""What a command found, as tables, JSON and CSV; and that a reconstruction is told wherever figures are."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result as Run
from toy_runs import write_split_cache
from toy_studies import SHORT

from msdn.cache import Home
from msdn.cache.records import read_sealed
from msdn.train.measure.show import Result, Table, csv_text, show, show_cell, show_settings, write
from msdn.train.measure.summary import Spread
from msdn.train.models.registry import find_model
from msdn.train.runs.run import find_runs

TRAIN = ("train", "--dataset", "toy", "--model", "msdn++", *SHORT[:4], "--device", "cpu")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("words", "words"),
        ("", ""),
        (3, "3"),
        (3.25, "3.2"),
        (None, "–"),
        (Spread(3.0, 0.25, 2), "3.0 ± 0.2"),
        (Spread(3.0, None, 1), "3.0"),
        (Spread(None, None, 2), "–"),
    ],
)
def test_a_cell_is_shown_by_its_kind(cell: object, shown: str) -> None:
    assert show_cell(cell) == shown


def test_settings_are_shown_as_they_are_typed() -> None:
    settings = {"alpha": [0.9, 0.1], "epochs": 3, "paper_style": False, "sampler": "random"}
    assert show_settings(settings) == "alpha 0.9 0.1, epochs 3, paper_style no, sampler random"


def test_a_result_is_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(
        ("model", "[H]"), [["[b]x", 1.0]], "[i]title", ("model",), [["paper", 2.0]], ["above"], ["below"]
    )
    result = Result({"H": 1.0}, [table], ["a [note]"])
    show(result)
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[1].strip(), lines[-2], lines[-1]) == ("above", "[i]title", "below", "a [note]")
    assert any("│ [b]x  │ 1.0 │" in line for line in lines) and any(
        "│ paper │ 2.0 │" in line for line in lines
    )
    show(result, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"H": 1.0}


def test_files_hold_facts_and_lines(tmp_path: Path) -> None:
    lines = [{"a": 1, "b": None}, {"a": "x, y", "b": 0.5}]
    paths = write(Result({"c": 2}, lines={"": lines, "-means": lines[:1]}), tmp_path / "new", "first")
    assert [path.name for path in paths] == ["first.csv", "first-means.csv", "first.json"]
    assert paths[0].read_text() == csv_text(lines) == 'a,b\n1,\n"x, y",0.5\n'
    assert read_sealed(paths[2]) == {"c": 2}


@pytest.mark.usefixtures("one_thread")
def test_a_reconstruction_is_told_with_every_figure(home: Home, run_msdn: Callable[..., Run]) -> None:
    write_split_cache(home.features / "toy-224-random.h5")
    note = find_model("msdn++").reconstruction
    sweep = (
        "sweep",
        *TRAIN[1:],
        "--over",
        "lambda_cal",
        "--values",
        "0.1,0.5",
        "--seeds",
        "0",
        "--jobs",
        "1",
    )
    for command in (TRAIN, ("evaluate",), (*TRAIN, "--seeds", "0"), sweep):
        assert f"\n{note}\n" in run_msdn(*command).stdout, command
        told = json.loads(run_msdn(*command, "--json").stdout)
        assert {one["reconstruction"] for one in told.get("rows", [told])} == {note}
    run = find_runs(home.runs)[0]
    assert run.manifest["reconstruction"] == json.loads(run.results.read_text())["reconstruction"] == note
    plain = run_msdn(*(word.replace("msdn++", "baseline") for word in TRAIN), "--json")
    assert json.loads(plain.stdout)["reconstruction"] is None


@pytest.mark.parametrize(
    ("command", "refused"),
    [("ablate", ("--seed ", "--model ", "--branches", "--distill-parts")), ("sweep", ("--seed ",))],
)
def test_help_lists_no_option_that_is_refused(
    run_msdn: Callable[..., Run], command: str, refused: tuple[str, ...]
) -> None:
    shown = run_msdn(command, "--help").stdout
    assert "--epochs" in shown and "--seeds" in shown
    assert not [option for option in refused if option in shown]
