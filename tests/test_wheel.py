"""The wheel in a fresh environment, with a backbone file and a model folder outside the package: the whole way."""

import json
import subprocess
from pathlib import Path

import pytest
from fresh_install import copy_sources, make_python, outside, pip
from own_data import image_splits, write_folder

BACKBONE = '''
"""Three convolutions: the colours of 32 x 32 pixels."""

import torch
from torch import nn

from msdn.extract.backbones import Backbone


def build():
    body = nn.Sequential(nn.Conv2d(3, 12, 8, 8), nn.ReLU(), nn.Conv2d(12, 24, 4, 4), nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5))


BACKBONE = Backbone(build=build, layer="0", pretrained_on="nothing")
'''
MODEL = '''
"""Mean region, mapped to the attributes."""

import torch
from torch import nn

from msdn.train.models.model import Model
from msdn.train.models.parts.classes import class_space_of
from msdn.train.models.parts.settings import LossSettings
from msdn.train.models.parts.single import SingleScoreModel


class Means(SingleScoreModel):
    def __init__(self, problem, settings):
        forms = {"cross_entropy": settings.cross_entropy, "calibration": settings.calibration}
        super().__init__(class_space_of(problem, settings), lambda_cal=settings.lambda_cal, **forms)
        self.layer = nn.Linear(problem.channels, problem.attributes.shape[1])

    def forward(self, regions):
        return self.classes(self.layer(regions.mean(dim=1)))


MODEL = Model(name="means", summary="a mean region", settings=LossSettings, build=Means)
'''


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's Python: the wheel installed there, libraries from this environment."""
    folder = tmp_path_factory.mktemp("fresh")
    source = copy_sources(folder / "source")
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (wheel,) = folder.glob("msdn-*.whl")
    python = make_python(folder / "env")
    pip("--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    return python


def test_from_images_to_a_comparison_with_both_of_ones_own(python: Path, tmp_path: Path) -> None:
    (tmp_path / "colours.py").write_text(BACKBONE)
    (tmp_path / "means").mkdir()
    (tmp_path / "means/__init__.py").write_text(MODEL)
    write_folder(tmp_path / "birds")
    (tmp_path / "birds/splits.csv").write_text(image_splits())

    def msdn(*arguments: str) -> str:
        done = subprocess.run(
            [python, "-m", "msdn", *arguments],
            cwd=tmp_path,
            env={**outside(), "MSDN_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import msdn; print(msdn.__file__)"],
        cwd=tmp_path,
        env=outside(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(python.parents[1]) in where.stdout, "the wheel, not this checkout"
    cache = Path(
        msdn(
            "extract",
            "--dataset",
            "./birds",
            "--backbone",
            "./colours.py",
            "--weights",
            "random",
            "--image-size",
            "64",
        )
        .strip()
        .splitlines()[-1]
    )
    assert "colours" in cache.name
    shape = "2x2 regions x 24 channels"
    assert shape in msdn("cache", "info", str(tmp_path / cache))
    train = (
        "train",
        "--dataset",
        "./birds",
        "--model",
        "./means",
        "--epochs",
        "2",
        "--batch-size",
        "4",
        "--json",
    )
    run = json.loads(msdn(*train))
    assert run["model"] == "means"
    figures = json.loads(msdn("evaluate", "--model", "means", "--json"))
    assert figures["run"] == run["run"] and 0 <= figures["acc"] <= 100
    assert "means" in msdn("compare")
    page = Path(tmp_path, msdn("report", run["run"]).strip())
    assert "prefers-color-scheme" in page.read_text(encoding="utf-8"), "the style is in the wheel"
