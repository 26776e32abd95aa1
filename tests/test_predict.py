"""`msdn predict` on rows of a cache: candidates, new classes, reasons, confidence; every score against a loop."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from scipy.special import softmax
from toy_cache import make_annotations
from toy_runs import split_annotations, write_split_cache

from msdn.app.predict import showing
from msdn.app.predict.classes import Wanted, choose_candidates
from msdn.app.predict.predictor import Predictor
from msdn.cache import FeatureCache, Home
from msdn.train.loop.training import train_model
from msdn.train.measure.metrics import Scored, ScoredImages, fit_temperature
from msdn.train.models.registry import settings_of
from msdn.train.runs.basis import load_basis
from msdn.train.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
MODELS = ("msdn", "msdn++", "dedn", "dazle", "baseline")


@pytest.fixture
def cache(make_cache: Callable[..., Path]) -> FeatureCache:
    return FeatureCache(make_cache(annotations=make_annotations(n_classes=9, per_class=4)))


def train(cache: FeatureCache, model: str = "baseline", **settings: object) -> Run:
    plain = settings_of(model, epochs=3, batch_size=8, learning_rate=1e-2, **settings)
    return train_model(cache, plain, cache.path.parents[1] / "runs")


@pytest.fixture
def run(cache: FeatureCache) -> Run:
    return train(cache)


def predictions(done: Result) -> dict[str, dict]:
    assert done.exit_code == 0, done.output
    return {one["image"]: one for one in json.loads(done.stdout)}


def scores_of(done: Result) -> dict[str, dict[str, float]]:
    """By image and class."""
    return {
        image: {answer["name"]: answer["score"] for answer in one["classes"]}
        for image, one in predictions(done).items()
    }


def write_classes(path: Path, run: Run, rows: dict[str, np.ndarray], leave_out: int | None = None) -> Path:
    """A CSV of classes and the run's attributes, but for one."""
    names = [*load_basis(run).attribute_names]
    kept = [k for k in range(len(names)) if k != leave_out]
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["class", *(names[k] for k in kept)])
        lines.writerows([name, *(repr(float(values[k])) for k in kept)] for name, values in rows.items())
    return path


@pytest.mark.parametrize("model", MODELS)
def test_scores_and_reasons_follow_a_loop(model: str, cache: FeatureCache, home: Home) -> None:
    run = train(cache, model)
    rows = np.array([0, 7, 20, 35])
    predictor = Predictor(run, home, top=9, margin=0.25)
    found = list(predictor.predict_rows(cache, rows))
    annotations = cache.annotations
    regions = predictor.prepare(cache.read_rows(rows))
    with torch.inference_mode():
        every = predictor.model.class_scores(predictor.model(regions)).numpy()
    normal = annotations.attributes / np.linalg.norm(annotations.attributes, axis=1, keepdims=True)
    for one, scores in zip(found, every, strict=True):
        said = scores[9:]  # of each attribute
        expected = {
            name: float(said @ normal[c]) + (-0.25 if c in annotations.seen_classes else 0.25)
            for c, name in enumerate(annotations.class_names)
        }
        assert {answer.name: answer.score for answer in one.classes} == pytest.approx(expected, abs=2e-5)
        best = annotations.class_names.index(one.classes[0].name)
        assert [a.score for a in one.classes] == sorted((a.score for a in one.classes), reverse=True)
        shares = {
            name: said[k] * (normal[best, k] - normal[:, k].mean())
            for k, name in enumerate(annotations.attribute_names)
        }
        assert [name for name, _ in one.spoke_for] == [
            name for name in sorted(shares, key=lambda n: -shares[n])[:3] if shares[name] > 0
        ]
        assert dict(one.spoke_against) == pytest.approx(
            {name: shares[name] for name in sorted(shares, key=lambda n: shares[n])[:3] if shares[name] < 0},
            abs=1e-5,
        )


def test_answers_are_those_that_evaluation_counts(cache: FeatureCache, run: Run, run_msdn: Msdn) -> None:
    figures = json.loads(run_msdn("evaluate", "--run", run.path, "--json").stdout)
    for split, name in (("test_unseen", "U"), ("test_seen", "S")):
        found = predictions(run_msdn("predict", "--cache", cache.path, "--rows", split, "--json"))
        hits: dict[str, list[bool]] = {}
        for image, one in found.items():
            hits.setdefault(image.split("/")[0], []).append(one["answer"] == image.split("/")[0])
        assert figures[name] == pytest.approx(100 * np.mean([np.mean(h) for h in hits.values()]))


@pytest.mark.parametrize("model", MODELS)
def test_a_class_left_out_and_added_again_scores_the_same(
    model: str, cache: FeatureCache, run_msdn: Msdn, tmp_path: Path
) -> None:
    run = train(cache, model)
    names, attributes = cache.annotations.class_names, cache.annotations.attributes
    added = write_classes(tmp_path / "new.csv", run, {names[c]: attributes[c] for c in (6, 8)})
    common = ("predict", "--cache", cache.path, "--top", 20, "--json")
    before = scores_of(run_msdn(*common))
    after = scores_of(run_msdn(*common, "--drop", names[6], "--drop", names[8], "--classes", added))
    assert after == before and len(before) == len(cache.annotations.labels)
    copied = write_classes(tmp_path / "copy.csv", run, {"a copy": attributes[7]})
    both = scores_of(run_msdn(*common, "--classes", copied))
    assert all(one["a copy"] == one[names[7]] for one in both.values())


def test_kinds_are_named_and_chosen(cache: FeatureCache, run: Run, run_msdn: Msdn, tmp_path: Path) -> None:
    names = cache.annotations.class_names
    new = write_classes(tmp_path / "new.csv", run, {"newcomer": cache.annotations.attributes[0] + 1})
    common = ("predict", "--cache", cache.path, "--rows", "0-1", "--top", 20, "--json")

    def kinds(*more: object) -> dict[str, str]:
        one = next(iter(predictions(run_msdn(*common, *more)).values()))
        return {answer["name"]: answer["kind"] for answer in one["classes"]}

    known = {name: "seen" if c < 6 else "unseen" for c, name in enumerate(names)}
    assert kinds() == known
    assert kinds("--classes", new) == known | {"newcomer": "new"}
    assert kinds("--classes", new, "--only") == {"newcomer": "new"}
    assert set(kinds("--among", "unseen")) == set(names[6:]) and set(kinds("--among", "seen")) == set(
        names[:6]
    )
    assert (
        kinds("--like", names[0], "--set", "part 0 color: red=3")[f"{names[0]} with part 0 color: red=3"]
        == "new"
    )


def test_a_class_made_from_another_one(cache: FeatureCache, run: Run) -> None:
    basis, name = load_basis(run), cache.annotations.class_names[2]
    wanted = Wanted(like=name, changes={"part 3 color: red": 55.5}, name="mine")
    expected = cache.annotations.attributes[2].copy()
    expected[3] = 55.5
    chosen = choose_candidates(basis, wanted)
    assert chosen.names[-1] == "mine" and np.array_equal(chosen.attributes[-1], expected)


def test_missing_attributes_take_the_mean_when_told(
    cache: FeatureCache, run: Run, run_msdn: Msdn, tmp_path: Path
) -> None:
    attributes = cache.annotations.attributes
    lacking = write_classes(tmp_path / "lacking.csv", run, {"new": attributes[1]}, leave_out=4)
    refused = run_msdn("predict", "--cache", cache.path, "--classes", lacking)
    assert (
        refused.exit_code == 1 and "part 4 color: red" in refused.stderr and "--fill mean" in refused.stderr
    )
    chosen = choose_candidates(load_basis(run), Wanted(file=lacking, fill="mean"))
    expected = attributes[1].copy()
    expected[4] = attributes[:, 4].mean()
    np.testing.assert_allclose(chosen.attributes[-1], expected, rtol=1e-12)


def test_bad_requests_end_in_a_sentence(
    cache: FeatureCache, run: Run, run_msdn: Msdn, tmp_path: Path
) -> None:
    names, attributes = cache.annotations.class_names, cache.annotations.attributes
    taken = write_classes(tmp_path / "taken.csv", run, {names[0]: attributes[0]})
    typo = tmp_path / "typo.csv"
    typo.write_text("class,part 0 colour: red\nnew,1\n")
    rows = ("--cache", cache.path)
    for arguments, code, words in (
        ((), 2, "images or folders"),
        ((tmp_path, *rows), 2, "images or folders"),
        ((tmp_path,), 1, "holds no image"),
        ((*rows, "--rows", "0-999"), 2, "0 to 35"),
        ((*rows, "--rows", "0-99999999999999"), 2, "0 to 35"),
        ((*rows, "--rows", "9-0"), 2, "test_unseen"),
        ((*rows, "--rows", "tests"), 2, "test_unseen"),
        ((*rows, "--only"), 2, "--classes"),
        ((*rows, "--like", names[0]), 2, "--set"),
        ((*rows, "--set", "a=1"), 2, "--like"),
        ((*rows, "--like", names[0], "--set", "part 0 color: red=blue"), 2, "ATTRIBUTE=NUMBER"),
        ((*rows, "--like", "class_1o", "--set", "part 0 color: red=1"), 2, "class_1"),
        ((*rows, "--like", names[0], "--set", "part 0 colour: red=1"), 2, "part 0 color: red"),
        ((*rows, "--drop", "clas_4"), 2, "class_4"),
        ((*rows, "--classes", taken), 1, names[0]),
        ((*rows, "--classes", typo), 1, "part 0 color: red"),
        ((*rows, "--classes", tmp_path / "none.csv"), 1, "none.csv"),
        ((*rows, "--margin", "nan"), 2, "finite"),
        ((*rows, "--reject", "0.5"), 1, "--select val"),
        (("photo.jpg",), 1, "imported"),
    ):
        done = run_msdn("predict", *arguments)
        assert done.exit_code == code and words in done.stderr, (arguments, done.stderr)


def test_rejection_and_confidence(tmp_path: Path, home: Home, run_msdn: Msdn) -> None:
    path = write_split_cache(home.features / "toy-224-random.h5", split_annotations())
    with FeatureCache(path) as cache:
        run = train(cache, select="val")
    temperature = run.chosen["val_temperature"]
    done = predictions(run_msdn("predict", "--cache", path, "--top", 20, "--json"))
    for one in done.values():
        scores = np.array([answer["score"] for answer in one["classes"]])
        assert one["confidence"] == pytest.approx(softmax(scores / temperature).max())
    levels = sorted(one["confidence"] for one in done.values())
    level = levels[len(levels) // 2]
    rejected = predictions(run_msdn("predict", "--cache", path, "--reject", level, "--json"))
    for image, one in rejected.items():
        is_sure = done[image]["confidence"] >= level
        assert (one["answer"] == "none of these") != is_sure
        assert one["classes"][0] == done[image]["classes"][0]


def test_the_temperature_makes_validation_images_most_probable() -> None:
    rng = np.random.RandomState(3)
    labels = rng.randint(0, 4, 400)
    scores = rng.standard_normal((400, 4)) + 2.0 * np.eye(4)[labels]
    unseen, seen = (ScoredImages(scores[i::2], labels[i::2]) for i in (0, 1))
    scored = Scored(unseen, seen, np.array([0, 1]), np.array([2, 3]))
    margins = np.array([-0.3, -0.3, 0.3, 0.3])
    ours = fit_temperature(scored, 0.3)

    def surprise(temperature: float) -> float:
        probable = softmax((scores + margins) / temperature, axis=1)[np.arange(400), labels]
        return float(-np.log(probable).mean())

    grid = np.geomspace(0.05, 20, 4000)
    assert ours == pytest.approx(grid[np.argmin([surprise(t) for t in grid])], rel=5e-3)


def test_a_csv_holds_every_image_and_is_never_overwritten(
    cache: FeatureCache, run: Run, run_msdn: Msdn, tmp_path: Path
) -> None:
    out = tmp_path / "answers.csv"
    found = predictions(run_msdn("predict", "--cache", cache.path, "--json", "--csv", out, "--top", 2))
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert [line["image"] for line in lines] == list(found)
    for line in lines:
        answers = found[line["image"]]["classes"]
        assert [line["class_1"], line["class_2"]] == [answer["name"] for answer in answers]
        assert float(line["score_1"]) == pytest.approx(answers[0]["score"], rel=1e-5)
    again = run_msdn("predict", "--cache", cache.path, "--csv", out)
    assert again.exit_code == 1 and str(out) in again.stderr and len(list(tmp_path.glob("answers*"))) == 1


def test_a_damaged_or_missing_basis_is_named(cache: FeatureCache, run: Run, run_msdn: Msdn) -> None:
    file = run.path / "basis.npz"
    content = file.read_bytes()
    for damaged in (content[:-1], content[:100] + b"x" + content[101:], b""):
        file.write_bytes(damaged)
        done = run_msdn("predict", "--cache", cache.path)
        assert done.exit_code == 1 and str(file) in done.stderr and "damaged" in done.stderr
    file.unlink()
    done = run_msdn("predict", "--cache", cache.path)
    assert done.exit_code == 1 and "no such file" in done.stderr


def test_masked_rows_are_named_and_no_failure(make_cache: Callable[..., Path], run_msdn: Msdn) -> None:
    path = make_cache(masked={3: "cannot be decoded"}, n_classes=9, per_class=4)
    with FeatureCache(path) as cache:
        train(cache)
    done = run_msdn("predict", "--cache", path, "--rows", "2-4", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and [("masked" in one) for one in found] == [False, True, False]
    assert found[1] == {"image": "class_0/3.jpg", "masked": "cannot be decoded"}
    shown = run_msdn("predict", "--cache", path, "--rows", "2-4", "--strict")
    assert shown.exit_code == 0 and "1 masked image left out" in shown.stderr


def test_yes_and_no_are_taken_as_in_attributes_csv(make_cache: Callable[..., Path], run_msdn: Msdn) -> None:
    a = make_annotations(n_classes=9, per_class=4)
    binary = np.where(a.attributes > np.median(a.attributes), 1.0, 0.0)
    binary[:, 0] = 1.0
    path = make_cache(annotations=replace(a, attributes=binary))
    with FeatureCache(path) as cache:
        train(cache)
    like = (
        "predict",
        "--cache",
        path,
        "--rows",
        "0",
        "--json",
        "--like",
        a.class_names[0],
        "--as",
        "mine",
        "--set",
    )
    found = [run_msdn(*like, f"part 2 color: red={value}", "--only") for value in ("yes", "1", "No", "0")]
    assert [one.exit_code for one in found] == [0] * 4, found[0].output
    assert found[0].stdout == found[1].stdout and found[2].stdout == found[3].stdout
    assert found[0].stdout != found[2].stdout
    bad = run_msdn(*like, "part 2 color: red=maybe")
    assert bad.exit_code == 2 and "such as 'part 0 color: red=1'" in bad.stderr


def test_yes_is_no_value_where_attributes_go_up_to_100(cache: FeatureCache, run: Run, run_msdn: Msdn) -> None:
    name, most = cache.annotations.class_names[0], cache.annotations.attributes[:, 0].max()
    done = run_msdn("predict", "--cache", cache.path, "--like", name, "--set", "part 0 color: red=yes")
    assert done.exit_code == 2 and f"part 0 color: red={most:g}" in done.stderr


def test_in_a_file_every_image_has_its_row(cache: FeatureCache, run: Run, run_msdn: Msdn) -> None:
    rows = ",".join(str(n) for n in range(36))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(showing, "SHOWN", 3)
        done = run_msdn("predict", "--cache", cache.path, "--rows", rows)
    assert all(path in done.stdout for path in cache.annotations.image_paths)


def test_a_cache_of_other_features_is_refused(
    cache: FeatureCache, run: Run, make_cache: Callable[..., Path], run_msdn: Msdn, tmp_path: Path
) -> None:
    other = make_cache(path=tmp_path / "other.h5", seed=5)
    done = run_msdn("predict", "--run", run.path, "--cache", other)
    assert done.exit_code == 1 and "imported" in done.stderr
