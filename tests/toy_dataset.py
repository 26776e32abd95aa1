"""A dataset of a few tiny pictures in the layout of CUB, and a way to run `msdn` on it in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from toy_cache import make_annotations

from msdn.cache.annotations import Annotations
from msdn.extract.datasets import registry
from msdn.extract.datasets.spec import DatasetSpec

TOY = DatasetSpec(
    name="toy",
    images="TOY/images",
    annotations="xlsa17/data/TOY",
    attribute_names=("TOY/attributes.txt",),
    attribute_vectors="TOY/vectors.npz",
)
PROGRAM = "import toy_dataset; toy_dataset.register(); from msdn.cli import main; main(prog_name='msdn')"


def register() -> None:
    """Make `--dataset toy` known."""
    registry.DATASETS["toy"] = TOY


def run_msdn(*arguments: str | Path, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `msdn` with the toy dataset known, from another folder, and return what it said."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=toy_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def toy_environment() -> dict[str, str]:
    """An environment in which the toy dataset can be imported and output is plain."""
    places = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places), "COLUMNS": "200", "TERM": "dumb"}


def write_toy_dataset(
    data: Path, size: int = 64, annotations: Annotations | None = None, **shape: int
) -> None:
    """Write images and annotation files; every class has its own colour."""
    annotations = annotations or make_annotations(**shape)
    rng = np.random.RandomState(1)
    for label, path in zip(annotations.labels, annotations.image_paths, strict=True):
        colour = np.random.RandomState(label).randint(0, 190, 3)
        pixels = rng.randint(0, 60, (size, size + 8, 3)) + colour
        target = data / "TOY/images" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(target, quality=90)
    write_toy_annotations(data, annotations)


def write_toy_annotations(data: Path, annotations) -> None:
    """Write res101.mat, att_splits.mat and attributes.txt with the quirks of the published ones."""
    folder = data / "xlsa17/data/TOY"
    for made in (folder, data / "TOY"):
        made.mkdir(parents=True, exist_ok=True)
    files = [f"/BS/someone/data/TOY/images//{path}" for path in annotations.image_paths]
    scipy.io.savemat(
        folder / "res101.mat",
        {"labels": (annotations.labels + 1).astype(np.uint8)[:, None], "image_files": _cells(files)},
    )
    columns = {f"{name}_loc": rows[:, None] + 1.0 for name, rows in annotations.splits.items()}
    attributes = annotations.attributes.T
    scipy.io.savemat(
        folder / "att_splits.mat",
        {
            "att": attributes / np.linalg.norm(attributes, axis=0),
            "original_att": attributes,
            "allclasses_names": _cells(annotations.class_names),
            **columns,
        },
    )
    np.savez(data / "TOY/vectors.npz", vectors=annotations.attribute_vectors)
    lines = [f"{k + 1} {name}" for k, name in enumerate(annotations.attribute_names)]
    (data / "TOY/attributes.txt").write_text("\n".join(lines) + "\n")


def _cells(texts) -> np.ndarray:
    cells = np.empty((len(texts), 1), object)
    for row, text in enumerate(texts):
        cells[row, 0] = text
    return cells
