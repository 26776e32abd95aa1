"""`msdn report`: its numbers are the run's, names stay text, and what is missing is said."""

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from toy_report import NAMES, Seen, make_report_home, train, written
from toy_results import FIGURES, make_run

from msdn.app.report.html import element
from msdn.app.report.overview import summary
from msdn.app.report.report import write_report
from msdn.app.report.subjects import Subject
from msdn.cache import FeatureCache, Home
from msdn.cache.records import write_sealed
from msdn.train.errors import RunError
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.measure.show import percent
from msdn.train.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
Made = tuple[Home, FeatureCache, Run]
SECTIONS = {
    *("summary", "curve", "training", "classes", "confusion", "confidence"),
    *("pictures", "attention", "protocol"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Made:
    home, cache = make_report_home(tmp_path_factory.mktemp("made"))
    return home, cache, train(home, cache)


@pytest.fixture(scope="module")
def page(made: Made) -> str:
    home, _, run = made
    return write_report(home, [run.path]).page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def seen(page: str) -> Seen:
    return Seen(page)


@pytest.fixture(scope="module")
def result(made: Made, page: str) -> dict[str, Any]:
    """What the evaluation kept."""
    return json.loads(made[2].results.read_text())


def data_of(seen: Seen, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(seen.by_id[f"data-{name}"])))


def records_of(run: Run, phase: str | None) -> list[dict[str, Any]]:
    records = map(json.loads, run.metrics.read_text().splitlines())
    return [one for one in records if one.get("phase") == phase]


def test_every_section_is_there_with_its_charts(seen: Seen) -> None:
    ids = {given.get("id") for tag, given in seen.tags if tag == "section"}
    assert ids == SECTIONS
    links = {given["href"] for tag, given in seen.tags if tag == "a"}
    assert links == {f"#{name}" for name in SECTIONS}
    charts = {name.removeprefix("data-") for name in seen.by_id if name.startswith("data-")}
    pictures = {f"tsne-{kind}-{part}" for kind in ("seen", "unseen") for part in ("av", "va", "all")}
    others = {"loss-validation", "loss-None", "accuracy-validation", "confusion", "reliability", "coverage"}
    assert charts == pictures | {name.replace("None", "final") for name in others} | {
        *("seen-unseen", "margin", "attention")
    }
    drawn = [given for tag, given in seen.tags if tag == "svg" and given.get("role") == "img"]
    assert len(drawn) == len(charts) - 1  # the attention is images
    for one in drawn:
        title, description = str(one["aria-labelledby"]).split()
        assert seen.by_id[title] and seen.by_id[description]
    images = [given for tag, given in seen.tags if tag == "img"]
    assert len(images) >= 7 and all(given["alt"] for given in images)
    names = [given["id"] for _, given in seen.tags if given.get("id")]
    assert len(set(names)) == len(names), "no two elements of a page have the same id"


def test_the_page_asks_nobody_for_anything(page: str, seen: Seen) -> None:
    assert "script" not in {tag for tag, _ in seen.tags}
    addresses = [
        value
        for _, given in seen.tags
        for key, value in given.items()
        if key in ("src", "href", "xlink:href", "action", "data") and value
    ]
    assert addresses and all(one.startswith(("data:", "#")) for one in addresses)
    assert not [key for _, given in seen.tags for key in given if key.startswith("on")]
    assert "url(http" not in page and "@import" not in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_the_summary_is_what_evaluate_says(made: Made, seen: Seen, result: dict[str, Any]) -> None:
    (table,) = seen.tables["summary"]
    assert table[0] == ["mean of classes, %", "acc", "U", "S", "H", "AUSUC"]
    rows = {row[0]: row[1:] for row in table[1:]}
    figures = [result[name] for name in table[0][1:]]
    assert rows["msdn"] == [percent(value) for value in figures]
    assert rows["chance"] == [percent(result["chance"][name]) for name in ("acc", "U", "S", "H")] + [""]
    exact = seen.figures["summary"]
    assert exact[:4] == [result[name] for name in ("H", "U", "S", "acc")] and exact[-5:] == figures
    with FeatureCache(made[1].path) as cache:
        measured = evaluate_run(made[2], cache)
    assert {name: measured[name] for name in ("acc", "U", "S", "H")} == {
        name: result[name] for name in ("acc", "U", "S", "H")
    }


def test_the_classes_are_those_of_the_results(seen: Seen, result: dict[str, Any]) -> None:
    rows = [row for table in seen.tables["classes"] for row in table[1:]]
    shares = result["per_class"]["gzsl"]
    assert seen.figures["classes"] == sorted(shares.values())
    assert {row[0]: row[1] for row in rows} == {written(name): percent(v) for name, v in shares.items()}
    numbers = {name: n for n, name in enumerate(result["class_names"])}
    back = {written(name): name for name in numbers}
    for name, _, taken_for, kind, images in rows:
        own = numbers[back[name]]
        counts = {guess: n for true, guess, n in result["confusion"]["gzsl"] if true == own}
        assert int(images) == sum(counts.values())
        assert kind == ("unseen" if back[name] in result["per_class"]["czsl"] else "seen")
        mistakes = {guess: n for guess, n in counts.items() if guess != own}
        if not mistakes:
            assert taken_for == "–"
            continue
        most = max(mistakes.values())
        first = min(guess for guess, n in mistakes.items() if n == most)
        assert taken_for == f"{written(result['class_names'][first])} ({most} of {images})"


def test_the_curves_are_those_of_the_run(made: Made, seen: Seen, result: dict[str, Any]) -> None:
    for phase, name in (("validation", "validation"), (None, "final")):
        lines, records = data_of(seen, f"loss-{name}"), records_of(made[2], phase)
        assert len(lines) == len(records) == 4 or phase is None
        for line, record in zip(lines, records, strict=True):
            assert {key: float(value) for key, value in line.items()} == {k: record[k] for k in line}
    accuracy = data_of(seen, "accuracy-validation")
    for line, record in zip(accuracy, records_of(made[2], "validation"), strict=True):
        assert [float(line[f]) for f in ("H", "U", "S", "acc")] == [
            record[f"val_{f}"] for f in ("H", "U", "S", "acc")
        ]
    curve = data_of(seen, "seen-unseen")
    u, s = (np.array([float(line[name]) for line in curve]) for name in ("U", "S"))
    assert np.trapezoid(s, u) / 100 == pytest.approx(result["AUSUC"])
    points = [(float(line["U"]), float(line["S"])) for line in curve]
    assert (result["U"], result["S"]) in [(pytest.approx(a), pytest.approx(b)) for a, b in points]


def test_the_confusion_is_that_of_the_results(seen: Seen, result: dict[str, Any]) -> None:
    numbers = {written(name): n for n, name in enumerate(result["class_names"])}
    found = [
        [numbers[line["class"]], numbers[line["taken_for"]], int(line["images"])]
        for line in data_of(seen, "confusion")
    ]
    assert found == result["confusion"]["czsl"]


def test_the_confidence_is_that_of_the_predictions(
    made: Made, seen: Seen, tmp_path: Path, result: dict[str, Any]
) -> None:
    lines = data_of(seen, "coverage")
    everything = [line for line in lines if line["images"] == "all"]
    confusion = result["confusion"]["gzsl"]
    right = sum(n for true, guess, n in confusion if true == guess) / sum(n for *_, n in confusion)
    assert float(everything[-1]["coverage"]) == 1 and float(everything[-1]["right"]) == pytest.approx(right)
    bins = data_of(seen, "reliability")
    assert sum(int(one["images"]) for one in bins) == sum(n for *_, n in confusion)
    total = sum(int(one["images"]) * float(one["right"]) for one in bins)
    assert total == pytest.approx(sum(n for true, guess, n in confusion if true == guess))


def test_the_pictures_show_test_images(made: Made, seen: Seen) -> None:
    annotations = made[1].annotations
    rows = {path: row for row, path in enumerate(annotations.image_paths)}
    for kind in ("seen", "unseen"):
        for part in ("av", "va", "all"):
            lines = data_of(seen, f"tsne-{kind}-{part}")
            shown = [rows[line["image"]] for line in lines]
            assert sorted(shown) == made[1].rows(f"test_{kind}").tolist()
            assert all(
                line["class"] == written(annotations.class_names[annotations.labels[row]])
                for line, row in zip(lines, shown, strict=True)
            )
            assert len({(line["x"], line["y"]) for line in lines}) == len(lines)


def test_names_stay_text(page: str, seen: Seen) -> None:
    shown = {text for _, text in seen.texts}
    for name in NAMES.values():
        assert written(name) in shown, name
    inside_charts = {text for tag, text in seen.texts if tag == "text"}
    assert "<script>alert(1)</script>" in inside_charts  # as an axis of the confusion
    assert "<b>[red]part " in "".join(text for _, text in seen.texts)
    assert "<script" not in page and "<b>" not in page and "\x1b" not in page
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "b", "iframe", "object"})
    assert not [given for tag, given in seen.tags if tag == "img" and given.get("src") == "x"]


def test_the_same_run_makes_the_same_bytes(made: Made, page: str, tmp_path: Path) -> None:
    home, _, run = made
    again = write_report(home, [run.path], out=tmp_path / "again.html").page
    assert again.read_text(encoding="utf-8") == page
    assert len(page) < 5e6


def test_the_command_says_where_and_writes_pictures(
    made: Made, run_msdn: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _, run = made
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    out = tmp_path / "a folder" / "r.html"
    out.parent.mkdir()
    done = run_msdn(
        "report", run.path.name, "--out", out, "--png", tmp_path / "png", "--open", other=home.root
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}\n" and opened == [out.resolve().as_uri()]
    pictures = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert "seen-unseen.png" in pictures and "tsne-unseen-all.png" in pictures and len(pictures) == 14
    assert (tmp_path / "png/loss-final.png").read_bytes().startswith(b"\x89PNG")
    again = run_msdn("report", "--out", out, other=home.root)  # the latest run, and a report may be replaced
    assert again.exit_code == 0, again.output


def test_a_file_that_is_no_report_is_left_alone(made: Made, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.html"
    thesis.write_text("three years of work")
    with pytest.raises(
        RunError, match=r"thesis\.html: exists already and is not a report; choose another --out"
    ):
        write_report(made[0], [made[2].path], out=thesis)
    assert thesis.read_text() == "three years of work"


def test_without_the_features_the_rest_is_there(
    made: Made, home: Home, result: dict[str, Any], run_msdn: Callable[..., Result]
) -> None:
    shutil.copytree(made[2].path, home.runs / made[2].path.name)
    away = made[1].path.with_suffix(".away")
    made[1].path.rename(away)
    try:
        done = run_msdn("report", made[2].path.name)
        seen = Seen(Path(done.stdout.strip()).read_text(encoding="utf-8"))
    finally:
        away.rename(made[1].path)
    assert (
        "leaves out what needs the features" in done.stderr and "give their file with --cache" in done.stderr
    )
    assert "leaves out" not in run_msdn("report", made[2].path).stderr
    rows = {row[0]: row[1:] for row in seen.tables["summary"][0]}
    assert rows["msdn"][0] == percent(result["acc"])
    assert {"data-loss-final", "data-confusion"} <= seen.by_id.keys() and "classes" in seen.tables
    for section in ("curve", "confidence", "pictures", "attention"):
        assert "give their file with --cache" in seen.by_id[section]
    assert "data-seen-unseen" not in seen.by_id


def test_without_features_and_figures_it_says_what_to_do(made: Made, tmp_path: Path) -> None:
    home = Home(tmp_path / "elsewhere")
    shutil.copytree(made[2].path, home.runs / "r")
    (home.runs / "r/results.json").unlink()
    (home.runs / "r/metrics.jsonl").unlink()
    away = made[1].path.with_suffix(".away")
    made[1].path.rename(away)
    try:
        seen = Seen(write_report(home, [Path("r")]).page.read_text(encoding="utf-8"))
    finally:
        away.rename(made[1].path)
    for section in ("summary", "classes", "confusion"):
        assert "give their file with --cache" in seen.by_id[section], section
    assert "metrics.jsonl is missing" in seen.by_id["training"]
    assert seen.tables.keys() == {"protocol"}


@pytest.mark.parametrize("counts_differ", [False, True])
def test_the_papers_figures_stand_beside_a_dataset_of_its_counts(home: Home, counts_differ: bool) -> None:
    chance = {"acc": 2.0, "U": 0.5, "S": 0.5, "H": 0.5}
    run = make_run(home, dataset="cub", counts_differ=counts_differ)
    one = Subject(run, 0, "msdn", FIGURES | {"chance": chance}, None, None, "")
    seen = Seen(element("section", *summary([one]), id="summary"))
    rows = {row[0]: row[1:] for row in seen.tables["summary"][0]}
    assert rows["msdn"] == [percent(value) for value in FIGURES.values()]
    paper = rows.get("msdn, the paper (chosen on the test set)")
    assert paper == (None if counts_differ else ["76.1", "68.7", "67.5", "68.1", ""])
    assert ("MSDN (CVPR 2022), Table 1" in seen.by_id["summary"]) != counts_differ
    assert ("sizes are not those of cub" in seen.by_id["summary"]) == counts_differ


def test_a_search_of_the_learning_rate_is_drawn_apart(tmp_path: Path) -> None:
    home, cache = make_report_home(tmp_path, images=False)
    run = train(home, cache, search_lr=True, epochs=2)
    records = records_of(run, "validation")
    seen = Seen(write_report(home, [run.path]).page.read_text(encoding="utf-8"))
    lines = data_of(seen, "search")
    assert [(float(line["learning_rate"]), float(line["H"])) for line in lines] == sorted(
        [(one["learning_rate"], one["val_H"]) for one in records], key=lambda one: one[0]
    )
    loss = data_of(seen, "loss-validation")
    chosen = [one["loss"] for one in records if one["learning_rate"] == run.chosen["learning_rate"]]
    assert [float(line["loss"]) for line in loss] == chosen and "learning_rate" not in loss[0]


def test_missing_images_are_named(tmp_path: Path) -> None:
    home, cache = make_report_home(tmp_path, images=False)
    run = train(home, cache, epochs=1)
    seen = Seen(write_report(home, [run.path]).page.read_text(encoding="utf-8"))
    assert re.search(
        r"own/images/class_\d+/\d+\.jpg: no such file; if the images are there", seen.by_id["attention"]
    )
    assert "data-seen-unseen" in seen.by_id


def test_a_baseline_chosen_on_nothing_says_so(tmp_path: Path) -> None:
    home, cache = make_report_home(tmp_path, images=False)
    run = train(home, cache, "baseline", select="last")
    seen = Seen(write_report(home, [run.path]).page.read_text(encoding="utf-8"))
    assert "--select val" in seen.by_id["confidence"] and "--select val" in seen.by_id["training"]
    assert "'baseline' has no attention" in seen.by_id["attention"]
    assert "data-tsne-unseen-all" in seen.by_id


def test_runs_stand_side_by_side(made: Made, tmp_path: Path) -> None:
    home, cache, first = made
    second = train(home, cache, seed=1)
    other = train(home, cache, "baseline")
    seen = Seen(
        write_report(home, [first.path, second.path, other.path], out=tmp_path / "r.html").page.read_text(
            "utf-8"
        )
    )
    (table,) = seen.tables["summary"]
    names = [row[0] for row in table]
    assert names[2:] == ["msdn, seed 0", "msdn, seed 1", "baseline", "msdn, mean ± std of 2 seeds"]
    figures = [json.loads(one.results.read_text())["H"] for one in (first, second, other)]
    assert [row[4] for row in table[2:5]] == [percent(h) for h in figures]
    assert table[5][4] == f"{percent(np.mean(figures[:2]))} ± {np.std(figures[:2], ddof=1):.1f}"
    assert {line["run"] for line in data_of(seen, "seen-unseen")} == set(names[2:5])
    assert {f"data-confusion-{n}" for n in (1, 2, 3)} <= seen.by_id.keys()
    assert len(seen.tables["protocol"][0][0]) == 4


def test_sweeps_of_the_home_are_drawn(made: Made, tmp_path: Path, run_msdn: Callable[..., Result]) -> None:
    home, _, run = made
    words = ["--over", "lambda_cal", "--values", "0.1,0.4", "--seeds", "0-1", "--epochs", "2", "--jobs", "1"]
    done = run_msdn("sweep", "--dataset", "toy", *words, "--select", "val", other=home.root)
    assert done.exit_code == 0, done.output
    (file,) = home.studies.glob("*.json")
    write_sealed(home.studies / "broken.json", {"best": None, "study": 1})
    study = json.loads(file.read_text())
    seen = Seen(write_report(home, [run.path], out=tmp_path / "r.html").page.read_text(encoding="utf-8"))
    lines = data_of(seen, "sweep-1-lambda_cal")
    assert [line["lambda_cal"] for line in lines] == ["0.1", "0.4"]
    for line, row in zip(lines, study["rows"], strict=True):
        summary = row["summary"]["H"]
        assert (float(line["H"]), float(line["H_std"])) == (summary["mean"], summary["std"])
    assert "validation classes" in seen.by_id["sweeps"]
    shutil.rmtree(home.studies)


def test_without_matplotlib_one_sentence_names_the_extra(
    made: Made, run_msdn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run_msdn("report", made[2].path, other=made[0].root)
    assert done.exit_code == 1 and "matplotlib" in done.stderr and "'.[viz]'" in done.stderr
