"""How well a run recognises classes it never saw, compared with the same classes when it knew their attributes.

Plumage becomes own data three times: (a) as it is, (b) with two unseen classes left out everywhere, (c) with the rows
of the two in attributes.csv, but without their photos. MSDN is trained on each by Plumage's preset. Then the images of
the two classes are predicted: in (b) they come as new classes from a CSV. In (a) the two are also dropped and added
again, which must give the same scores. The backbone has random weights.

    python benchmarks/new_classes.py [--seeds 0-2] [--home msdn-home]
"""

import argparse
import csv
import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

import numpy as np

from msdn.app.predict.classes import Wanted, choose_candidates
from msdn.app.predict.predictor import Predictor
from msdn.cache import FeatureCache, Home
from msdn.cache.annotations import SPLIT_NAMES, Annotations
from msdn.extract.datasets.registry import open_dataset
from msdn.extract.datasets.spec import Dataset
from msdn.extract.pipeline.extraction import extract
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.train.loop.training import train_model
from msdn.train.measure.summary import parse_seeds
from msdn.train.models.presets import preset_settings
from msdn.train.runs.basis import load_basis
from msdn.train.runs.run import Run

NEW = 2  # classes
WHOLE, ABSENT, PHOTOLESS = "known", "absent", "without photos"
SPLITS = ("train", "val", "test_seen", "test_unseen")


def main() -> None:
    """Make the three datasets, train on each, and predict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("0-2"))
    parser.add_argument(
        "--epochs", type=int, help="this many epochs instead of the preset's, to try the script out"
    )
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    options = parser.parse_args()
    plumage = open_dataset("plumage", Home(options.home))
    a = plumage.annotations
    left_out = a.unseen_classes[:: max(1, len(a.unseen_classes) // NEW)][:NEW]
    print("left out: " + ", ".join(a.class_names[c] for c in left_out))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        home = Home(root / "home")
        new = write_attributes(root / "new.csv", a, left_out)
        caches = {}
        for name, absent, bare in ((WHOLE, [], []), (ABSENT, left_out, []), (PHOTOLESS, [], left_out)):
            own = write_folder(root / name.replace(" ", "_"), plumage, absent, bare)
            caches[name] = extract(
                ExtractSettings(str(own), weights="random", precision="float32"), home
            ).path
        rows = np.flatnonzero(np.isin(a.labels, left_out))
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in caches}
        for seed in options.seeds:
            for name, path in caches.items():
                run = train(path, seed, options.epochs, home)
                wanted = Wanted(file=new) if name == ABSENT else Wanted()
                with FeatureCache(caches[WHOLE]) as images:
                    of_two = [images.annotations.image_paths.index(a.image_paths[row]) for row in rows]
                    figures[name].append(accuracies(run, home, images, np.array(of_two), wanted))
                    if name == WHOLE:
                        check_same_scores(run, home, images, np.array(of_two), new, left_out, a)
                print(f"seed {seed}, {name}: " + show(figures[name][-1]), flush=True)
    print(f"mean of {len(options.seeds)} seeds, {len(rows)} images of {NEW} classes:")
    for name, values in figures.items():
        print(f"  {name:<15} " + show([mean(column) for column in zip(*values, strict=True)]))
    chance = [100 / len(a.class_names), 100 / len(a.unseen_classes)]
    print(f"  {'chance':<15} " + show(chance))


def write_folder(folder: Path, dataset: Dataset, absent: Iterable[int], bare: Iterable[int]) -> Path:
    """Plumage as own data; `absent` classes are not in it, `bare` ones have a row in attributes.csv and no photo."""
    a = dataset.annotations
    kept = np.setdiff1d(np.arange(len(a.class_names)), absent)
    pictured = np.setdiff1d(kept, bare)
    (folder / "images").mkdir(parents=True)
    for c in pictured:
        name = a.class_names[c]
        (folder / "images" / name).symlink_to(
            (dataset.image_folder / name).resolve(), target_is_directory=True
        )
    write_attributes(folder / "attributes.csv", a, kept)
    np.savez(folder / "vectors.npz", vectors=a.attribute_vectors, names=np.array(a.attribute_names))
    split_of = {row: name for name in SPLITS if name in SPLIT_NAMES for row in a.splits[name].tolist()}
    with (folder / "splits.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "split"])
        for row in np.flatnonzero(np.isin(a.labels, pictured)).tolist():
            lines.writerow([a.image_paths[row], split_of[row]])
    return folder


def write_attributes(path: Path, a: Annotations, classes: Iterable[int]) -> Path:
    """A table of some classes, as attributes.csv has it."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["class", *a.attribute_names])
        lines.writerows([a.class_names[c], *map(repr, a.attributes[c].tolist())] for c in classes)
    return path


def train(path: Path, seed: int, epochs: int | None, home: Home) -> Run:
    """MSDN by Plumage's preset."""
    settings = dataclasses.replace(preset_settings("msdn", "plumage"), seed=seed)
    with FeatureCache(path) as cache:
        return train_model(cache, dataclasses.replace(settings, epochs=epochs or settings.epochs), home.runs)


def accuracies(
    run: Run, home: Home, images: FeatureCache, rows: np.ndarray, wanted: Wanted
) -> tuple[float, float]:
    """Percent right of the images, among all classes, and among those without training images."""
    basis = load_basis(run)
    found = []
    for one in (wanted, dataclasses.replace(wanted, among=("unseen",))):
        predictor = Predictor(run, home, candidates=choose_candidates(basis, one))
        names = [images.annotations.class_names[label] for label in images.annotations.labels[rows]]
        answers = [prediction.answer for prediction in predictor.predict_rows(images, rows)]
        found.append(100 * float(np.mean([x == y for x, y in zip(answers, names, strict=True)])))
    return found[0], found[1]


def check_same_scores(
    run: Run,
    home: Home,
    images: FeatureCache,
    rows: np.ndarray,
    new: Path,
    left_out: np.ndarray,
    a: Annotations,
) -> None:
    """Classes that are dropped and added again by CSV have to score as before."""
    names = tuple(a.class_names[c] for c in left_out)
    scores = []
    for wanted in (Wanted(), Wanted(drop=names, file=new)):
        candidates = choose_candidates(load_basis(run), wanted)
        predictor = Predictor(run, home, candidates=candidates, top=len(candidates.names))
        found = predictor.predict_rows(images, rows)
        scores.append([{answer.name: answer.score for answer in one.classes} for one in found])
    if scores[0] != scores[1]:
        raise SystemExit("dropping classes and adding them again changed scores")
    print(f"dropped and added again: all {len(scores[0]) * len(scores[0][0])} scores are identical")


def show(figures: Iterable[float]) -> str:
    """Both accuracies."""
    among_all, among_unseen = figures
    return f"among all classes {among_all:.1f} %, among unseen ones {among_unseen:.1f} %"


if __name__ == "__main__":
    main()
