"""`msdn explain`: attributes, scores and maps against what the model gives; pictures, names of files, mistakes."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from toy_cache import make_annotations
from toy_dataset import TOY, write_toy_dataset
from toy_extraction import SETTINGS

from msdn.app.explain.explainer import Explainer, Explanation, Look, Reason
from msdn.app.explain.figure import draw_explanation
from msdn.app.predict.predictor import Answer, Predictor
from msdn.cache import FeatureCache, Home
from msdn.extract.backbones.places import Places
from msdn.extract.datasets import registry
from msdn.extract.pipeline.extraction import extract
from msdn.train.loop.training import train_model
from msdn.train.models.parts.base import ZslModel, build_model
from msdn.train.models.parts.problem import AttributeGroup, problem_of
from msdn.train.models.registry import find_model, model_names, settings_of

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
BRANCHES = {"msdn": ["av", "va"], "msdn++": ["av", "va"], "dazle": ["av"], "dedn": ["coarse", "fine"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with the toy dataset, its features of a ResNet18, and a run of MSDN and of the baseline."""
    home = Home(tmp_path_factory.mktemp("made") / "home")
    write_toy_dataset(home.data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "toy", TOY)
        extract(replace(SETTINGS, backbone="resnet18"), home)
    with FeatureCache(next(home.features.glob("*.h5"))) as cache:
        for model in ("baseline", "msdn"):
            train_model(cache, settings_of(model, epochs=3, batch_size=8, learning_rate=1e-3), home.runs)
    return home


@pytest.fixture
def images(made: Home) -> list[Path]:
    return sorted((made.data / "TOY/images").rglob("*.jpg"))[:2]


def read(done: Result, code: int = 0) -> list[dict]:
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_models_attend_as_their_records_say(make_cache: Callable[..., Path]) -> None:
    cache = FeatureCache(make_cache())
    regions = torch.rand(2, 9, 16)
    for name in model_names():
        problem = problem_of(cache, (AttributeGroup("all", np.arange(7)),))
        model = build_model(problem, settings_of(name)).eval()
        assert (
            find_model(name).attends
            == (type(model).attention is not ZslModel.attention)
            == (name in BRANCHES)
        )
        if find_model(name).attends:
            maps, scores = model.attention(regions), model.attribute_scores(regions)
            assert list(maps) == list(scores) == BRANCHES[name]
            assert {tuple(one.shape) for one in maps.values()} == {(2, 9, 7)}
            assert all((one >= 0).all() for one in maps.values())
            assert {tuple(one.shape) for one in scores.values()} == {(2, 7)}


@pytest.mark.parametrize("model", BRANCHES)
def test_reasons_follow_a_loop(model: str, make_cache: Callable[..., Path], home: Home) -> None:
    annotations = make_annotations(n_classes=9, per_class=4)
    cache = FeatureCache(make_cache(annotations=annotations))
    plain = settings_of(model, epochs=3, batch_size=8, learning_rate=1e-2)
    predictor = Predictor(train_model(cache, plain, home.runs), home)
    features = cache.read_rows(np.array([20]))[0]
    one = Explainer(predictor, top=4).explain("x.jpg", features, np.zeros((90, 90, 3), np.uint8))
    with torch.inference_mode():
        regions = predictor.prepare(features[None])
        maps = predictor.model.attention(regions)
        scores = predictor.model.attribute_scores(regions)
        said = predictor.model.class_scores(predictor.model(regions))[0, 9:]
    best = annotations.class_names.index(next(predictor.predict_rows(cache, np.array([20]))).answer)
    assert one.answer is not None and one.answer.name == annotations.class_names[best] and one.is_best
    normal = annotations.attributes / np.linalg.norm(annotations.attributes, axis=1, keepdims=True)
    above = normal[best] - normal.mean(axis=0)
    own = [k for k in range(7) if above[k] > 0]
    ranked = sorted(own, key=lambda k: -float(said[k]) * above[k])[:4]
    assert [reason.attribute for reason in one.reasons] == [annotations.attribute_names[k] for k in ranked]
    for k, reason in zip(ranked, one.reasons, strict=True):
        assert reason.score == pytest.approx(float(said[k]), abs=1e-5)
        assert reason.share == pytest.approx(float(said[k]) * above[k], abs=1e-5)
        for look, branch in zip(reason.looks, BRANCHES[model], strict=True):
            assert look.branch == branch and look.score == pytest.approx(
                float(scores[branch][0, k]), abs=1e-6
            )
            for r in range(9):
                assert look.attention[r // 3, r % 3] == pytest.approx(float(maps[branch][0, r, k]))
            peak = int(maps[branch][0, :, k].argmax())
            assert look.peak == (14 + 30 * (peak // 3), 14 + 30 * (peak % 3))


def test_a_picture_and_a_table_for_each_image(
    made: Home, images: list[Path], run_msdn: Msdn, tmp_path: Path
) -> None:
    out = tmp_path / "pictures"
    words = ("explain", *images, "--model", "msdn", "--top", 3, "--out", out)
    shown = run_msdn(*words, other=made.root)
    assert shown.exit_code == 0, shown.output
    found = read(run_msdn(*words, "--json", other=made.root))
    for one, image in zip(found, images, strict=True):
        assert one["image"] == str(image) and Path(one["picture"]).name == f"{image.stem}-2.png"
        with Image.open(out / f"{image.stem}.png") as first, Image.open(one["picture"]) as second:
            assert first.width > 3 * 150 and np.array_equal(np.asarray(first), np.asarray(second))
        assert len(one["attributes"]) <= 3
        for attribute in one["attributes"]:
            peaks = [f"{look['peak']['x']},{look['peak']['y']}" for look in attribute["branches"].values()]
            scores = [f"{look['score']:.3f}" for look in attribute["branches"].values()]
            cells = [
                attribute["name"],
                f"{attribute['score']:.3f}",
                *(c for p in zip(scores, peaks, strict=True) for c in p),
            ]
            lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines()]
            assert cells in lines
            assert {look["peak"]["x"] % 32 for look in attribute["branches"].values()} == {
                0
            }  # a ResNet's regions


def test_rows_of_a_cache_are_explained_as_their_files(
    made: Home, run_msdn: Msdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    cache = next(made.features.glob("*.h5"))
    with FeatureCache(cache) as opened:
        files = [made.data / "TOY/images" / opened.annotations.image_paths[row] for row in (4, 17)]
    words = ("--model", "msdn", "--json", "--out", tmp_path)
    rows = read(run_msdn("explain", "--cache", cache, "--rows", "4,17", *words, other=made.root))
    by_file = read(run_msdn("explain", *files, *words, other=made.root))
    for one, other in zip(rows, by_file, strict=True):
        assert one["image"] == other["image"] and one["class"]["name"] == other["class"]["name"]
        for first, second in zip(one["attributes"], other["attributes"], strict=True):
            assert first["name"] == second["name"] and first["share"] == pytest.approx(
                second["share"], abs=2e-3
            )


def test_the_images_of_own_data_are_in_their_folder(home: Home) -> None:
    assert registry.find_image_folder("birds", {"folder": "/data/birds"}, home) == Path("/data/birds/images")
    assert registry.find_image_folder("plumage", {}, home) == home.data / "plumage/images"


def test_a_class_and_attributes_are_chosen_by_name(
    made: Home, images: list[Path], run_msdn: Msdn, tmp_path: Path
) -> None:
    words = ("explain", images[0], "--model", "msdn", "--out", tmp_path, "--json")
    plain = read(run_msdn(*words, other=made.root))[0]
    with FeatureCache(next(made.features.glob("*.h5"))) as cache:
        classes, attributes = cache.annotations.class_names, cache.annotations.attribute_names
    other = next(name for name in classes if name != plain["class"]["name"])
    names = [attributes[3], attributes[0]]
    chosen = read(
        run_msdn(
            *words, "--class", other, "--attributes", names[0], "--attributes", names[1], other=made.root
        )
    )[0]
    assert plain["class"]["best"] and not chosen["class"]["best"] and chosen["class"]["name"] == other
    assert [one["name"] for one in chosen["attributes"]] == names
    for option in ("--class", "--attributes"):
        done = run_msdn(*words, option, "no such name", other=made.root)
        assert done.exit_code == 2 and "'no such name'" in done.output


def test_a_model_that_does_not_attend_is_refused(
    made: Home, images: list[Path], run_msdn: Msdn, tmp_path: Path
) -> None:
    done = run_msdn("explain", images[0], "--model", "baseline", "--out", tmp_path, other=made.root)
    assert done.exit_code == 1 and not list(tmp_path.glob("*.png"))
    assert all(name in done.output for name in ("'baseline'", *BRANCHES))


def test_bad_files_do_not_stop_the_rest(
    made: Home, images: list[Path], run_msdn: Msdn, tmp_path: Path
) -> None:
    missing, broken = tmp_path / "none.jpg", tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    words = ("explain", missing, images[0], broken, "--model", "msdn", "--out", tmp_path / "out")
    done = run_msdn(*words, other=made.root)
    assert done.exit_code == 1
    assert (
        f"{missing}: no such file" in done.stderr
        and str(broken) in done.stderr
        and "2 of 3 images" in done.stderr
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{images[0].stem}.png"]


def test_nothing_is_overwritten(made: Home, images: list[Path], run_msdn: Msdn, tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    file.write_bytes(b"kept")
    words = ("explain", images[0], "--model", "msdn", "--out", file)
    done = run_msdn(*words, other=made.root)
    assert done.exit_code == 1 and str(file) in done.output and file.read_bytes() == b"kept"
    done = run_msdn("explain", *images, "--model", "msdn", "--out", tmp_path / "two.png", other=made.root)
    assert done.exit_code == 2 and "2 pictures" in done.output
    file.unlink()
    assert run_msdn(*words, other=made.root).exit_code == 0 and file.read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_the_extra_is_named(
    made: Home, images: list[Path], run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "msdn.app.explain.command.find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    done = run_msdn("explain", images[0], other=made.root)
    assert done.exit_code == 1 and "'.[viz]'" in done.output and "matplotlib" in done.output


@pytest.mark.parametrize(
    "name", ["$x_{", "a\x1b[31m", "<b>", "鳥", "ein Vögelchen mit einem sehr langen Namen " * 4]
)
def test_every_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    attention = np.eye(7)
    one = Explanation(
        name,
        np.zeros((64, 64, 3), np.uint8),
        Answer(name, 1.0, "unseen"),
        Places(0, 9),
        reasons=(
            Reason(name, 1.0, 0.5, (Look("av", 1.0, attention, (0, 0)), Look("va", 2.0, attention, (9, 9)))),
        ),
    )
    draw_explanation(one, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.height > 300
