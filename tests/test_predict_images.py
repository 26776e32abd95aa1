"""`msdn predict` on image files: the features of the run's cache again, anywhere; bad files; foreign backbones."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import Result
from toy_dataset import TOY, write_toy_dataset
from toy_extraction import SETTINGS

from msdn.cache import FeatureCache, Home
from msdn.extract.datasets import registry
from msdn.extract.pipeline.extraction import extract
from msdn.train.loop.training import train_model
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

Msdn = Callable[..., Result]
TOLERANCE = 2e-3  # of scores of some units: features are rounded to float16, and blocks differ
BACKBONE = """\
from torch import nn
from msdn.extract.backbones import Backbone

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(7))

BACKBONE = Backbone(build=build, layer="2")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with the toy dataset and its features of a ResNet18."""
    home = Home(tmp_path_factory.mktemp("made") / "home")
    write_toy_dataset(home.data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "toy", TOY)
        extract(replace(SETTINGS, backbone="resnet18"), home)
    with FeatureCache(next(home.features.glob("*.h5"))) as cache:
        train_model(cache, settings_of("msdn", epochs=3, batch_size=8, learning_rate=1e-3), home.runs)
    return home


def read(done: Result, code: int = 0) -> list[dict]:
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def assert_alike(first: list[dict], second: list[dict], tolerance: float = TOLERANCE) -> None:
    for one, other in zip(first, second, strict=True):
        assert one["answer"] == other["answer"]
        scores = ({answer["name"]: answer["score"] for answer in found["classes"]} for found in (one, other))
        assert next(scores) == pytest.approx(next(scores), abs=tolerance)


def test_files_are_predicted_as_the_rows_they_became(made: Home, run_msdn: Msdn) -> None:
    cache = next(made.features.glob("*.h5"))
    by_rows = read(run_msdn("predict", "--cache", cache, "--json", "--top", 9, other=made.root))
    files = [made.data / "TOY/images" / one["image"] for one in by_rows]
    by_files = read(run_msdn("predict", *files, "--json", "--top", 9, other=made.root))
    assert [Path(one["image"]) for one in by_files] == files
    assert_alike(by_files, by_rows)
    alone = read(run_msdn("predict", files[5], "--json", "--top", 9, other=made.root))
    assert_alike(alone, by_rows[5:6])


def test_a_run_that_was_moved_predicts_the_same(made: Home, run_msdn: Msdn, tmp_path: Path) -> None:
    images = made.data / "TOY/images"
    run = next(made.runs.iterdir())
    before = read(run_msdn("predict", images, "--json", other=made.root))
    moved = tmp_path / "elsewhere" / "runs" / "mine"
    shutil.copytree(run, moved)
    after = read(run_msdn("predict", images, "--json", other=moved.parents[1]))
    assert after == before and len(after) == 30
    assert read(run_msdn("predict", images, "--json", "--run", moved, other=tmp_path / "nowhere")) == before


def test_bad_files_do_not_stop_the_rest(made: Home, run_msdn: Msdn, tmp_path: Path) -> None:
    good = sorted((made.data / "TOY/images").rglob("*.jpg"))[:2]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(good[0].read_bytes()[:300])
    words = ("predict", good[0], broken, tmp_path / "none.jpg", good[1])
    found = read(run_msdn(*words, "--json", other=made.root), code=1)
    assert [sorted(one)[:2] for one in found[1:3]] == [["error", "image"]] * 2
    assert [one["answer"] for one in (found[0], found[3])] == [
        one["answer"] for one in read(run_msdn("predict", *good, "--json", other=made.root))
    ]
    shown = run_msdn(*words, other=made.root)
    assert shown.exit_code == 1 and str(broken) in shown.stderr and "2 of 4" in shown.stderr
    strict = run_msdn(*words, "--strict", "--csv", tmp_path / "out.csv", other=made.root)
    assert strict.exit_code == 1 and str(broken) in strict.stderr
    assert not list(tmp_path.glob("out*")), "a CSV that is not whole is not there"
    stopped = run_msdn(*words, "--strict", "--json", other=made.root)
    assert stopped.exit_code == 1 and isinstance(json.loads(stopped.stdout), list)
    nowhere = run_msdn("predict", good[0], "--csv", tmp_path / "none" / "out.csv", other=made.root)
    assert nowhere.exit_code == 1 and str(tmp_path / "none") in nowhere.stderr


def test_one_image_is_shown_with_its_reasons(made: Home, run_msdn: Msdn) -> None:
    image = next((made.data / "TOY/images").rglob("*.jpg"))
    done = run_msdn("predict", image, other=made.root)
    for word in ("seen", "unseen", "spoke for it", "random weights", "margin 1"):
        assert word in done.stdout


def test_own_backbones_and_weights_are_given_again(made: Home, run_msdn: Msdn, tmp_path: Path) -> None:
    home, backbone, weights = Home(tmp_path / "home"), tmp_path / "tiny.py", tmp_path / "tiny.pth"
    backbone.write_text(BACKBONE)
    write_toy_dataset(home.data)
    namespace: dict = {}
    exec(BACKBONE, namespace)
    torch.save(namespace["build"]().state_dict(), weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "toy", TOY)
        extract(replace(SETTINGS, backbone=str(backbone), weights=str(weights)), home)
    with FeatureCache(next(home.features.glob("*.h5"))) as cache:
        run: Run = train_model(cache, settings_of("baseline", epochs=1, batch_size=8), home.runs)
    image = next((home.data / "TOY/images").rglob("*.jpg"))

    def refused(*more: object) -> str:
        done = run_msdn("predict", "--run", run.path, image, *more, other=tmp_path / "empty")
        assert done.exit_code == 1 and not done.stdout
        return done.stderr

    assert "--backbone FILE.py" in refused() and "tiny" in refused()
    assert "--weights FILE" in refused("--backbone", backbone)
    other = tmp_path / "other.py"
    other.write_text(BACKBONE + "# changed\n")
    assert str(other) in refused("--backbone", other, "--weights", weights)
    foreign = tmp_path / "foreign.pth"
    torch.save(namespace["build"]().state_dict(), foreign)
    assert "sha256" in refused("--backbone", backbone, "--weights", foreign)
    words = ("--run", run.path, image, "--backbone", backbone, "--weights", weights)
    assert read(run_msdn("predict", *words, "--json", other=tmp_path / "empty"))[0]["classes"]
    assert "resnet18" in run_msdn("predict", image, "--backbone", backbone, other=made.root).stderr
