"""What `msdn cache export` wrote comes back under the right name, and nothing made up in it is believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from toy_cache import PROVENANCE, make_annotations
from toy_dataset import TOY, write_toy_dataset
from toy_published import run, write_foreign

from msdn.cache import FeatureCache, layout
from msdn.extract.datasets import registry

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setenv("MSDN_HOME", str(tmp_path / "other"))
    return tmp_path / "other"


@pytest.fixture
def export(make_cache: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that exports a cache and changes what the file says of itself."""

    def write(provenance: dict[str, Any] | None = None, **attributes: str) -> Path:
        out = tmp_path / "out.hdf5"
        path = make_cache(tmp_path / "cache.h5", provenance=PROVENANCE)
        assert run("cache", "export", path, out, "--force").exit_code == 0
        with h5py.File(out, "r+") as file:
            if provenance is not None:
                file["msdn"].attrs["provenance"] = json.dumps(PROVENANCE | provenance)
            file["msdn"].attrs.update(attributes)
        return out

    return write


@pytest.mark.parametrize(
    "weights, tag",
    [
        ({"kind": "random", "seed": 0}, "random"),
        ({"kind": "random", "seed": 7}, "random7"),
        ({"kind": "file", "sha256": DIGEST, "name": "w.pth"}, "file_01234567"),
        ({"kind": "file", "sha256": DIGEST[::-1], "name": "w.pth"}, "file_fedcba98"),
        ({"kind": "imagenet"}, "imagenet"),
        ({"kind": "imported", "name": "x.hdf5"}, "imported"),
    ],
)
def test_an_imported_export_is_named_as_its_extraction_was(
    export: Callable[..., Path], home: Path, weights: dict, tag: str
) -> None:
    result = run("cache", "import", export({"weights": weights}), "--dataset", "toy")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(home / f"features/toy-224-{tag}.h5")


def test_an_export_with_names_needs_no_dataset(export: Callable[..., Path], tmp_path: Path) -> None:
    result = run("cache", "import", export(), "--dataset", tmp_path / "not here/toy")
    assert result.exit_code == 0, result.output
    with FeatureCache(result.stdout.strip()) as cache:
        assert cache.annotations.image_paths == make_annotations().image_paths


@pytest.mark.parametrize(
    "provenance, message",
    [
        ({"dataset": "cub"}, "says 'cub' for 'dataset', expected 'toy'"),
        ({"dataset": None}, "lacks 'dataset', expected 'toy'"),
        ({"image_size": None}, "lacks 'image_size', expected a whole number of pixels"),
        ({"image_size": "../../x"}, "says '../../x' for 'image_size', expected a whole number"),
        ({"image_size": 224.5}, "says 224.5 for 'image_size'"),
        ({"image_size": True}, "says True for 'image_size'"),
        ({"image_size": 0}, "says 0 for 'image_size'"),
        ({"exported_map": "../x"}, "says '../x' for 'exported_map', expected a map's name"),
        ({"annotations": 3}, "says 3 for 'annotations'"),
        ({"weights": None}, "lacks 'weights', expected their description"),
        ({"weights": "imagenet"}, "says 'imagenet' for 'weights'"),
        ({"weights": {}}, "lacks 'weights kind', expected one of imagenet, file, random, imported"),
        ({"weights": {"kind": "../x"}}, "says '../x' for 'weights kind'"),
        ({"weights": {"kind": ["file"]}}, "says ['file'] for 'weights kind'"),
        ({"weights": {"kind": "random"}}, "lacks 'weights seed', expected a whole number"),
        ({"weights": {"kind": "random", "seed": "/7"}}, "says '/7' for 'weights seed'"),
        ({"weights": {"kind": "random", "seed": -1}}, "says -1 for 'weights seed'"),
        ({"weights": {"kind": "file"}}, "lacks 'weights sha256', expected 64 hexadecimal digits"),
        ({"weights": {"kind": "file", "sha256": "../../../x"}}, "says '../../../x' for 'weights sha256'"),
    ],
)
def test_crafted_provenance_is_refused(
    export: Callable[..., Path], home: Path, provenance: dict, message: str
) -> None:
    result = run("cache", "import", export(provenance), "--dataset", "toy")
    assert result.exit_code == 1 and f"out.hdf5: its provenance {message}" in result.stderr, result.output
    assert "check that 'msdn cache export' wrote the file" in result.stderr
    assert not home.exists()


@pytest.mark.parametrize("text", ["[1]", "5", "null", "{", '{"a": 1', "[" * 60_000])
def test_provenance_that_is_no_table_is_damage(export: Callable[..., Path], text: str) -> None:
    source = export(provenance=None)
    with h5py.File(source, "r+") as file:
        del file["msdn"].attrs["provenance"]
        file["msdn"].attrs.create("provenance", text)
    result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 1 and "out.hdf5: damaged, or not a published" in result.stderr, result.output


@pytest.mark.parametrize("masked, row", [({"30": "x"}, 30), ({"4": "x", "-1": "y"}, -1)])
def test_masked_rows_out_of_range_are_refused(export: Callable[..., Path], masked: dict, row: int) -> None:
    result = run("cache", "import", export(masked=json.dumps(masked)), "--dataset", "toy")
    message = f"out.hdf5: its lists name row {row}, but rows run from 0 to 29"
    assert result.exit_code == 1 and message in result.stderr, result.output


@pytest.mark.parametrize("masked", ["[]", '{"x": "y"}', '{"99999999999999999999": "x"}'])
def test_masked_rows_that_are_no_rows_are_damage(export: Callable[..., Path], masked: str) -> None:
    result = run("cache", "import", export(masked=masked), "--dataset", "toy")
    assert result.exit_code == 1 and "out.hdf5: damaged, or not a published" in result.stderr, result.output


@pytest.mark.parametrize(
    "rows, message",
    [([77], "its lists name row 77"), ([0.5], "'splits/val' holds values that are not whole")],
)
def test_splits_of_our_own_are_checked_too(export: Callable[..., Path], rows: list, message: str) -> None:
    source = export()
    with h5py.File(source, "r+") as file:
        del file["msdn/splits/val"]
        file["msdn/splits/val"] = rows
    result = run("cache", "import", source, "--dataset", "toy")
    assert result.exit_code == 1 and f"out.hdf5: {message}" in result.stderr, result.output


@pytest.fixture
def unnamed(tmp_path: Path) -> tuple[Path, Path]:
    """A cache imported without names, and its export."""
    result = run("cache", "import", write_foreign(tmp_path / "f.hdf5"), "--dataset", "toy")
    path, out = Path(result.stdout.strip()), tmp_path / "unnamed.hdf5"
    assert run("cache", "export", path, out).exit_code == 0
    return path, out


def test_an_export_without_names_stays_one(unnamed: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = unnamed
    result = run("cache", "import", out, "--dataset", "toy", "--out", tmp_path / "again.h5")
    assert result.exit_code == 0 and "classes and images have numbers only" in result.stderr, result.output
    with FeatureCache(path) as before, FeatureCache(tmp_path / "again.h5") as after:
        assert after.fingerprint == before.fingerprint
        assert after.provenance == before.provenance
        assert after.provenance[layout.UNNAMED_IMAGES] is True


def test_an_export_without_names_takes_those_of_the_lists(
    unnamed: tuple[Path, Path], tmp_path: Path, home: Path
) -> None:
    write_toy_dataset(home / "data")
    named = tmp_path / "named.h5"
    result = run("cache", "import", unnamed[1], "--dataset", "toy", "--out", named)
    assert result.exit_code == 0 and "numbered" not in result.stderr, result.output
    with FeatureCache(named) as cache:
        assert cache.annotations.image_paths == make_annotations().image_paths
        assert cache.annotations.attribute_names == make_annotations().attribute_names
        assert layout.UNNAMED_IMAGES not in cache.provenance
        assert {"features", "lists"} <= set(cache.provenance["annotations"])
    assert run("cache", "annotate", named, "--dataset", "toy").exit_code == 0
