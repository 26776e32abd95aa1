"""`msdn reproduce` on a stand-in: extracted where needed, trained with seeds, shown beside published figures."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from toy_dataset import TOY, write_toy_dataset
from toy_extraction import make_home as make_images
from toy_runs import write_split_cache
from toy_studies import Epochs, read_csv

from msdn.app.reproduce import (
    NOT_COMPARABLE,
    default_models,
    model_figures,
    needs_two,
    reproduction_notes,
    reproduction_rows,
    reproduction_table,
)
from msdn.cache import Home
from msdn.extract.backbones.frozen import FrozenNetwork
from msdn.extract.datasets import registry
from msdn.terminal import result_console
from msdn.train.measure.show import draw
from msdn.train.models import presets, published
from msdn.train.runs.run import find_runs
from msdn.train.studies.study import Facts, RowResult

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
REPRODUCE = ("reproduce", "toy", "--weights", "random", "--seeds", "0-1", "--jobs", "1", "--device", "cpu")


def table_of(**values: Any) -> dict[str, Any]:
    """A preset's table of these values."""
    return {name: {"value": value, "source": "a test"} for name, value in values.items()}


@pytest.fixture
def toy_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets and published figures of the dataset 'toy', with other settings for acc."""
    content = presets._read("msdn")  # the baseline borrows from it
    monkeypatch.setitem(content["released"], "toy", table_of(epochs=2, batch_size=8))
    monkeypatch.setitem(content["czsl"], "toy", table_of(lambda_cal=0.3))
    for name in ("baseline", "dazle", "msdn++"):
        monkeypatch.setitem(presets._read(name), "czsl", {"toy": table_of(lambda_cal=0.1)})
    stated = {"acc": 50.0, "U": 40.0, "S": 60.0, "H": 48.0, "source": "a paper, Table 9"}
    facts = {"source": "a paper", "selection": "chosen by dice", "image_size": 448}
    paper = {**facts, "figures": {"toy": stated}}
    read = published._read
    monkeypatch.setattr(published, "_read", lambda name: paper if name == "msdn" else read(name))
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)


@pytest.fixture
def features(home: Home, toy_figures: None) -> Path:
    """Features of the dataset 'toy' in the home, which has no images."""
    return write_split_cache(home.features / "toy-224-random.h5")


def cells_of(shown: str) -> dict[str, list[str]]:
    """A printed table's lines by their first cell."""
    lines = [line.split("│")[1:-1] for line in shown.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_from_images_to_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_figures: None, run_msdn: Msdn
) -> None:
    home = make_images(tmp_path, monkeypatch)
    epochs = Epochs(monkeypatch)
    epochs.stop_before = 6
    stopped = run_msdn(*REPRODUCE)
    assert stopped.exit_code == 130 and (home.features / "toy-224-random.h5").is_file()
    epochs.stop_before = None
    monkeypatch.setattr(FrozenNetwork, "__init__", lambda *_: pytest.fail("extracted again"))
    shown = run_msdn(*REPRODUCE)
    assert shown.exit_code == 0, shown.output
    assert epochs.count == 2 * 2 * 2  # epochs, seeds, tasks
    table = cells_of(shown.stdout)
    assert list(table) == ["chance", "msdn", "msdn, the paper"]
    assert table["msdn, the paper"][:4] == ["50.0", "40.0", "60.0", "48.0"]
    assert all(re.fullmatch(r"[\d.]+ ± [\d.]+", cell) for cell in table["msdn"][:5])
    assert NOT_COMPARABLE in shown.stdout and "a paper, Table 9, chosen by dice" in shown.stdout
    assert (
        "selection: last" in shown.stdout
        and "msdn for acc: trained separately, by released/czsl" in shown.stdout
    )
    means = {line["row"]: line for line in read_csv(home.studies / "reproduce-toy-means.csv")}
    assert table["msdn"][0].startswith(f"{float(means['msdn for acc']['acc']):.1f} ±")
    assert table["msdn"][3].startswith(f"{float(means['msdn']['H']):.1f} ±")
    runs = find_runs(home.studies / "runs")
    assert sorted((run.settings.lambda_cal, run.settings.seed) for run in runs) == [
        *((0.1, 0), (0.1, 1), (0.3, 0), (0.3, 1))
    ]
    again = run_msdn(*REPRODUCE, "--json")
    assert epochs.count == 8 and json.loads(again.stdout)["rows"][1]["task"] == "czsl"


def test_features_that_are_there_need_no_images(features: Path, run_msdn: Msdn) -> None:
    shown = run_msdn(*REPRODUCE, "--cache", features, "--models", "baseline,msdn", "--json")
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)["rows"]
    assert [(row["model"], row["task"]) for row in rows] == [
        *(("baseline", "gzsl"), ("msdn", "gzsl"), ("msdn", "czsl"))
    ]
    assert rows[0]["paper"] is None and rows[1]["paper"]["H"] == 48.0
    text = run_msdn(*REPRODUCE, "--cache", features, "--models", "baseline").stdout
    assert "no published figures of baseline on toy are known" in text and NOT_COMPARABLE not in text


def test_the_way_of_choosing_is_said(home: Home, features: Path, run_msdn: Msdn) -> None:
    cache = ("--cache", features)
    shown = run_msdn(*REPRODUCE, *cache, "--select", "test", "--paper-style")
    assert "BEST H AND BEST acc OF ALL EPOCHS ON THE TEST CLASSES" in shown.stdout
    assert (
        home.studies / "reproduce-toy-test-paper-style.csv"
    ).is_file()  # beside that of the default, not in its place
    wrong = run_msdn(*REPRODUCE, *cache, "--paper-style")
    assert wrong.exit_code == 2 and "--paper-style goes with --select test" in wrong.stderr


def test_each_row_has_the_protocol_of_its_own_training(home: Home, features: Path, run_msdn: Msdn) -> None:
    shown = run_msdn(*REPRODUCE, "--cache", features, "--select", "test")
    by_h, by_acc = (f"test (EPOCH CHOSEN BY {figure} ON THE TEST CLASSES)" for figure in ("H", "acc"))
    assert f"selection of msdn: {by_h}\n" in shown.stdout
    assert f"selection of msdn for acc: {by_acc}\n" in shown.stdout
    for end in ("", "-means"):
        lines = read_csv(home.studies / f"reproduce-toy-test{end}.csv")
        assert {(line["task"], line["selection"]) for line in lines} == {("gzsl", by_h), ("czsl", by_acc)}
    stored = json.loads((home.studies / "reproduce-toy-test.json").read_text())
    assert [(row["task"], row["selection"]) for row in stored["rows"]] == [("gzsl", by_h), ("czsl", by_acc)]
    assert stored["task"] is stored["selection"] is None


def test_other_counts_have_no_published_figures(home: Home, features: Path, run_msdn: Msdn) -> None:
    provenance = {"weights": {"kind": "imported"}, "counts": "not those of toy"}
    write_split_cache(features, provenance=provenance)
    shown = run_msdn(*REPRODUCE, "--cache", features)
    assert list(cells_of(shown.stdout)) == ["chance", "msdn"]
    assert "splits: their sizes are not those of toy" in shown.stdout
    assert "a paper" not in shown.stdout and "no published figures" not in shown.stdout.split("splits:")[0]
    assert {line["paper_H"] for line in read_csv(home.studies / "reproduce-toy-means.csv")} == {""}
    assert all(run.manifest["counts_differ"] for run in find_runs(home.studies / "runs"))


def test_acc_has_a_training_of_its_own_where_it_must(toy_figures: None) -> None:
    last: dict[str, Any] = {"select": "last"}
    assert needs_two("toy", "msdn", last) and not needs_two("toy", "baseline", last)
    assert needs_two("toy", "baseline", {"select": "val"}) and needs_two(
        "toy", "baseline", {"select": "test"}
    )
    assert not needs_two("toy", "baseline", {"select": "test", "paper_style": True})
    gzsl, czsl = reproduction_rows("toy", ["msdn"], last)
    assert (gzsl.settings.task, gzsl.settings.lambda_cal, gzsl.preset) == ("gzsl", 0.1, "released/gzsl")
    assert (czsl.settings.task, czsl.settings.lambda_cal, czsl.preset) == ("czsl", 0.3, "released/czsl")


def made_up(weights: str) -> tuple[Facts, list[RowResult]]:
    """Rows with known figures."""
    chance = {"acc": 2.0, "U": 1.0, "S": 1.0, "H": 1.0}
    facts = Facts("x", "toy", "f" * 32, weights, 224, 0, False, "test", chance, (0, 1))
    rows = reproduction_rows("toy", ["msdn"], {})
    base = {"U": 41.0, "S": 60.0, "H": 48.5, "AUSUC": 20.0}
    gzsl, czsl = (
        RowResult(row, ({"acc": acc, **base},) * 2) for row, acc in zip(rows, (10.0, 49.0), strict=True)
    )
    return facts, [gzsl, czsl]


def test_another_image_size_than_the_authors_is_said(toy_figures: None) -> None:
    facts, rows = made_up("imagenet")
    (note,) = [line for line in reproduction_notes(facts, rows) if "pixels" in line]
    assert note.startswith("msdn: the authors' script reads images of 448 pixels, these features are of 224")
    as_published = dataclasses.replace(facts, image_size=448)
    assert not any("pixels" in line for line in reproduction_notes(as_published, rows))


def test_the_model_is_one_with_published_figures() -> None:
    assert [default_models(name) for name in ("cub", "sun", "awa2", "plumage")] == [("msdn",)] * 4
    assert default_models("flo") == ("msdn++",)


@pytest.mark.parametrize("weights", ["imagenet", "file", "imported", "random"])
def test_differences_only_where_figures_can_be_compared(toy_figures: None, weights: str) -> None:
    facts, rows = made_up(weights)
    assert model_figures("msdn", rows)["acc"].mean == 49.0
    console = result_console()
    with console.capture() as capture:
        console.print(draw(reproduction_table(facts, rows), console))
    table = cells_of(capture.get())
    assert table["msdn"] == ["49.0 ± 0.0", "41.0 ± 0.0", "60.0 ± 0.0", "48.5 ± 0.0", "20.0 ± 0.0", "2"]
    expected = None if weights == "random" else ["-1.0", "+1.0", "+0.0", "+0.5", "–", ""]
    assert table.get("difference") == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("toi",), 2, "unknown dataset 'toi'. Did you mean 'toy'?"),
        (("toy", "--models", "msdn,msnd"), 2, "unknown model 'msnd'. Did you mean 'msdn'?"),
        (("toy", "--weights", "random"), 1, "dataset 'toy' is not in"),
        (("toy", "--weights", "random", "--image-size", "100"), 2, "'100' is not one of"),
        (("toy", "--seeds", "x"), 2, "'x' is neither a seed nor a range"),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    home: Home, features: Path, arguments: tuple[str, ...], code: int, message: str, run_msdn: Msdn
) -> None:
    result = run_msdn("reproduce", *arguments)
    assert result.exit_code == code and message in result.stderr and result.stdout == ""
    assert not home.studies.exists()


def test_missing_weights_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_figures: None, run_msdn: Msdn
) -> None:
    write_toy_dataset(tmp_path / "home/data")
    result = run_msdn("reproduce", "toy", "--weights", tmp_path / "none.pth")
    assert result.exit_code == 1 and "none.pth" in result.stderr


def test_groups_and_failures_are_shown(
    features: Path, monkeypatch: pytest.MonkeyPatch, run_msdn: Msdn
) -> None:
    cache = ("--cache", features)
    monkeypatch.setitem(presets._read("dedn")["released"], "toy", table_of(epochs=2, batch_size=8))
    fast = table_of(epochs=2, batch_size=8, learning_rate=1e30)
    monkeypatch.setitem(presets._read("msdn")["released"], "toy", fast)
    shown = run_msdn(*REPRODUCE, *cache, "--models", "dedn,msdn")
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.count("attribute groups: ") == 1
    table = cells_of(shown.stdout)
    assert table["msdn"] == ["–"] * 5 + ["0 of 2"] and table["dedn"][5] == "2"
    assert "failed: msdn, seed 1: epoch 1: " in shown.stdout
    assert "\npreset: released/gzsl, released/czsl; nothing changed\n" in shown.stdout
