"""Rows of attributes.csv without photos: classes to be predicted, which no label, split, weight or figure knows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from own_data import ATTRIBUTES, write_folder, write_image
from toy_cache import make_annotations, write_cache

from msdn.app.predict.predictor import Predictor
from msdn.cache import FeatureCache, Home
from msdn.cache.annotations import SPLIT_NAMES, Annotations
from msdn.cli import main
from msdn.extract.own.folder import find_mistakes, open_own_dataset
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run, load_model
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.registry import settings_of
from msdn.train.runs.basis import load_basis


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "birds")
    lines = ATTRIBUTES.splitlines(keepends=True)
    (folder / "attributes.csv").write_text("".join([lines[0], "dodo,1,0.5,0,0.25\n", *lines[1:]]))
    return folder


def test_a_row_without_a_folder_is_a_class_without_photos(folder: Path) -> None:
    a = open_own_dataset(folder).annotations
    assert a.class_names == ("dodo", "crane", "heron", "robin", "wren")
    assert a.classes_without_images.tolist() == [0] and 0 not in a.labels
    assert 0 not in a.seen_classes and 0 not in a.unseen_classes
    (folder / "images/dodo").mkdir()
    assert open_own_dataset(folder).annotations.classes_without_images.tolist() == [0]


def test_it_changes_no_split(folder: Path) -> None:
    with_it = open_own_dataset(folder).annotations
    (folder / "attributes.csv").write_text(ATTRIBUTES)
    without = open_own_dataset(folder).annotations
    assert with_it.image_paths == without.image_paths
    for name in SPLIT_NAMES:
        np.testing.assert_array_equal(with_it.splits[name], without.splits[name])


@pytest.mark.parametrize("named", ["", "dodo,seen\n", "dodo,unseen\n"])
def test_splits_csv_may_name_it_or_not(folder: Path, named: str) -> None:
    (folder / "splits.csv").write_text(
        f"class,split\n{named}crane,unseen\nheron,seen\nrobin,seen\nwren,seen\n"
    )
    a = open_own_dataset(folder).annotations
    assert [a.class_names[label] for label in a.unseen_classes] == ["crane"]


def test_it_alone_is_no_unseen_class(folder: Path) -> None:
    text = "class,split\ndodo,unseen\ncrane,seen\nheron,seen\nrobin,seen\nwren,seen\n"
    (folder / "splits.csv").write_text(text)
    (mistake,) = find_mistakes(folder)
    assert mistake.file.name == "splits.csv" and "no class is unseen" in mistake.message


def test_the_check_counts_and_names_it(folder: Path) -> None:
    with (folder / "attributes.csv").open("a") as file:
        file.write("auk,0.2,1,1,0\n")
    shown = CliRunner().invoke(main, ["data", "check", str(folder)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "6: 3 seen, 1 unseen" in shown.stdout and "2 without photos (dodo, auk)" in shown.stdout


def test_a_folder_of_nearly_its_name_stays_a_mistake(folder: Path) -> None:
    write_image(folder / "images/dodoo/1.png")
    by_row, by_folder = find_mistakes(folder)
    assert by_row.file.name == "attributes.csv" and "'dodo'" in by_row.message and "'dodoo'" in by_row.message
    assert by_folder.file.name == "dodoo"


def add_class(a: Annotations) -> Annotations:
    """The same with a class without images in front of all others."""
    row = np.linspace(1, 100, a.attributes.shape[1])[None]
    names = ("bare", *a.class_names)
    return replace(a, labels=a.labels + 1, class_names=names, attributes=np.concatenate([row, a.attributes]))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("select", ["last", "val"])
def test_weights_and_figures_are_those_without_it(tmp_path: Path, select: str) -> None:
    features = np.random.RandomState(0).uniform(0, 1, (30, 3, 3, 16)).astype(np.float16)
    found = []
    for name, change in (("without", lambda a: a), ("with", add_class)):
        path = write_cache(tmp_path / name / "toy.h5", change(make_annotations()), features)
        settings = settings_of(epochs=2, batch_size=4, select=select)
        with FeatureCache(path) as cache:
            run = train_model(cache, settings, tmp_path / name)
            found.append((load_model(run, problem_of(cache)).state_dict(), evaluate_run(run, cache)))
            assert load_basis(run).class_names == cache.annotations.class_names
    (weights, figures), (with_weights, with_figures) = found
    assert all(torch.equal(weights[name], with_weights[name]) for name in weights)
    for name in ("U", "S", "H", "AUSUC", "acc", "chance", "per_class", "confusion", "class_names"):
        assert figures[name] == with_figures[name]


@pytest.mark.usefixtures("one_thread")
def test_it_is_predicted(tmp_path: Path) -> None:
    """Its images are of a class of their own, and the training knows nothing of it."""
    a = add_class(make_annotations())
    features = np.random.RandomState(0).uniform(0, 1, (30, 3, 3, 16)).astype(np.float16)
    home = Home(tmp_path)
    with FeatureCache(write_cache(home.features / "toy-224-random.h5", a, features)) as cache:
        run = train_model(cache, settings_of("baseline", epochs=2, batch_size=8), home.runs)
        predictor = Predictor(run, home, top=7)
        assert predictor.candidates.kinds[0] == "unseen" and predictor.candidates.names[0] == "bare"
        for one in predictor.predict_rows(cache, np.arange(3)):
            assert "bare" in [answer.name for answer in one.classes]
