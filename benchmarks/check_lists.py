"""Compares what the project reads of CUB, SUN or AWA2 with SciPy's reading of the same .mat files.

Only `open_dataset`, which is tested here, comes from the project; a cache is read with plain h5py.

    python benchmarks/check_lists.py HOME DATASET [CACHE]
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import h5py
import numpy as np
from scipy.io import loadmat

from msdn.cache.home import Home
from msdn.extract.datasets.registry import open_dataset

IMAGES = {"CUB": "CUB_200_2011/images", "SUN": "SUN/images", "AWA2": "Animals_with_Attributes2/JPEGImages"}
SPLITS = ("trainval", "test_seen", "test_unseen")


def main() -> None:
    """Print one line for each thing compared; end with 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("dataset", choices=IMAGES)
    parser.add_argument("cache", nargs="?", default="none", help="a cache of the dataset, or none")
    options = parser.parse_args()
    expected = read_lists(options.home / "data", options.dataset)
    is_right = compare("open_dataset", lambda: read_opened(options.home, options.dataset), expected)
    if options.cache != "none":
        is_right &= compare(options.cache, lambda: read_cache(options.cache), expected)
    folder = options.home / "data" / IMAGES[options.dataset]
    missing = sum(not (folder / path).is_file() for path in expected["paths"])
    print(f"images not in {folder}: {missing}")
    raise SystemExit(0 if is_right else 1)


def read_lists(data: Path, dataset: str) -> dict[str, Any]:
    """Read both .mat files with SciPy."""
    folder = data / "xlsa17/data" / dataset
    images, classes = loadmat(folder / "res101.mat"), loadmat(folder / "att_splits.mat")
    listed = [str(cell[0][0]).split("/") for cell in images["image_files"]]
    root = IMAGES[dataset].rpartition("/")[2]
    cuts = [len(parts) - parts[::-1].index(root) for parts in listed]
    return {
        "paths": ["/".join(parts[cut:]) for parts, cut in zip(listed, cuts, strict=True)],
        "labels": images["labels"].astype(int)[:, 0] - 1,
        "classes": [str(cell[0][0]) for cell in classes["allclasses_names"]],
        "attributes": classes["original_att"].T,
        **{name: np.sort(classes[f"{name}_loc"].astype(int).ravel() - 1) for name in SPLITS},
    }


def read_opened(home: Path, dataset: str) -> dict[str, Any]:
    """Read the dataset as the project does."""
    found = open_dataset(dataset.lower(), Home(home)).annotations
    return {
        "paths": list(found.image_paths),
        "labels": found.labels,
        "classes": list(found.class_names),
        "attributes": found.attributes,
        **found.splits,
    }


def read_cache(path: str) -> dict[str, Any]:
    """Read a cache's own copy of the annotations."""
    with h5py.File(path, "r") as file:
        print(f"{path}: features {file['features'].shape} {file['features'].dtype}")
        print(
            f"{path}: row states (0 to do, 1 done, 2 masked) {np.bincount(file['row_states'][:], minlength=3)}"
        )
        return {
            "paths": list(file["image_paths"].asstr()[:]),
            "labels": file["labels"][:],
            "classes": list(file["class_names"].asstr()[:]),
            "attributes": file["attributes"][:],
            **{name: rows[:] for name, rows in file["splits"].items()},
        }


def compare(title: str, read: Callable[[], dict[str, Any]], expected: Mapping[str, Any]) -> bool:
    """Print what agrees with the lists and how long reading took; return whether all does."""
    start = perf_counter()
    found = read()
    seconds = perf_counter() - start
    results = [(name, len(found[name]), np.array_equal(found[name], expected[name])) for name in expected]
    results.extend(check_division(found))
    for name, count, is_equal in results:
        print(f"{title}: {name:<12} {count:>6}  {'agrees' if is_equal else 'DIFFERS'}")
    print(f"{title}: read in {seconds:.2f} s")
    return all(is_equal for *_, is_equal in results)


def check_division(found: Mapping[str, Any]) -> Iterator[tuple[str, int, bool]]:
    """Train and val must make up trainval, and share no class."""
    train, val = found["train"], found["val"]
    both = np.sort(np.concatenate([train, val]))
    yield "train + val", len(both), np.array_equal(both, found["trainval"])
    shared = np.intersect1d(found["labels"][train], found["labels"][val])
    yield "train, val: shared classes", len(shared), not len(shared)


if __name__ == "__main__":
    main()
