"""Small JPEGs at every path that the Proposed Splits list, so that all steps can be tried without the photos.

All images of a class are the same picture in the class's colour: any figure learnt from them means nothing.

    python benchmarks/stand_in_images.py LISTS_FOLDER HOME DATASET...

LISTS_FOLDER holds `xlsa17/data/{CUB,SUN,AWA2}/{res101,att_splits}.mat`.
"""

import argparse
import colorsys
import io
import shutil
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from msdn.cache.home import Home
from msdn.extract.datasets.registry import find_spec, open_dataset
from msdn.extract.datasets.spec import Dataset

SIDE = 64
LISTS = ("res101.mat", "att_splits.mat")


def main() -> None:
    """Copy the lists and write the pictures of each dataset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists_folder", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("datasets", nargs="+", choices=("CUB", "SUN", "AWA2"), metavar="DATASET")
    options = parser.parse_args()
    home = Home(options.home)
    for name in options.datasets:
        start = perf_counter()
        spec = find_spec(name.lower())
        copy_lists(options.lists_folder / spec.annotations, home.data / spec.annotations)
        (home.data / spec.images).mkdir(parents=True, exist_ok=True)
        count = write_pictures(open_dataset(spec.name, home))
        print(f"{name}: {count} pictures in {home.data / spec.images}, {perf_counter() - start:.1f} s")


def copy_lists(source: Path, goal: Path) -> None:
    """Copy both lists of a dataset."""
    goal.mkdir(parents=True, exist_ok=True)
    for name in LISTS:
        shutil.copyfile(source / name, goal / name)


def write_pictures(dataset: Dataset) -> int:
    """Write a picture at every listed path; return how many."""
    annotations = dataset.annotations
    pictures = [draw_picture(number) for number in range(len(annotations.class_names))]
    paths = [dataset.image_path(row) for row in range(len(annotations.image_paths))]
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, label in zip(paths, annotations.labels, strict=True):
        path.write_bytes(pictures[label])
    return len(paths)


def draw_picture(number: int) -> bytes:
    """Return a JPEG in a colour, and with stripes, of the class's own."""
    colour = np.array(colorsys.hsv_to_rgb(number * 0.618 % 1, 0.7, 0.9))
    stripes = 0.75 + 0.25 * np.sin(np.arange(SIDE) * (0.2 + number % 11 / 10))
    pixels = np.broadcast_to(255 * stripes[:, None, None] * colour, (SIDE, SIDE, 3))
    packed = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(packed, "JPEG")
    return packed.getvalue()


if __name__ == "__main__":
    main()
