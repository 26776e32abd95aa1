"""`msdn data status`: what is here, what is missing, and never a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import Result
from toy_cache import PROVENANCE, make_annotations

from msdn.app.status import Entry, collect_status
from msdn.cache.home import Home
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.structure import create_structure
from msdn.extract.downloads.download import Receipt, measure_proof, write_receipt
from msdn.extract.downloads.sources import SOURCES


@pytest.fixture(autouse=True)
def no_torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def put(path: Path, content: bytes = b"12345") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_cub(home: Home) -> None:
    put(home.data / "CUB_200_2011/images/001.Albatross/a.jpg")
    for file in ("res101.mat", "att_splits.mat"):
        put(home.data / "xlsa17/data/CUB" / file)


def sign(home: Home, name: str) -> None:
    proof = measure_proof(SOURCES[name], home.data)
    write_receipt(home, name, Receipt("url", 1, "0", None, "today", 1, 700, proof))


def find(home: Home, kind: str, name: str) -> Entry:
    return next(entry for entry in collect_status(home) if (entry.kind, entry.name) == (kind, name))


def test_an_empty_home_names_a_command_for_everything_missing(
    home: Home, run_msdn: Callable[..., Result]
) -> None:
    entries = collect_status(home)
    assert {entry.status for entry in entries} == {"missing"}
    commands = {(entry.kind, entry.name): entry.command for entry in entries}
    assert commands["dataset", "sun"] == f"msdn data download sun --home {home.root}"
    assert commands["dataset", "plumage"] == f"msdn demo --home {home.root}"
    assert commands["download", "weights"] == f"msdn data download weights --home {home.root}"
    result = run_msdn("data", "status")
    assert result.exit_code == 0, result.output
    assert "msdn data download glove" in result.stdout
    assert not home.root.exists()


def test_a_dataset_placed_by_hand_counts_with_its_own_lists_only(home: Home) -> None:
    put_cub(home)
    cub = find(home, "dataset", "cub")
    assert (cub.status, cub.is_verified, cub.bytes, cub.command) == ("present", False, 15, None)
    lists = find(home, "download", "xlsa17")
    assert (lists.status, lists.note, lists.bytes) == ("present", "lists of cub only", 10)
    assert find(home, "dataset", "sun").status == "missing"


def test_a_fetched_dataset_is_verified_until_its_lists_change(home: Home) -> None:
    put_cub(home)
    for path in SOURCES["xlsa17"].proof:
        put(home.data / path)
    for name in ("cub-images", "xlsa17"):
        sign(home, name)
    cub = find(home, "dataset", "cub")
    assert (cub.status, cub.is_verified, cub.bytes) == ("complete", True, 710)
    assert find(home, "dataset", "sun").status == "missing"
    put(home.data / "xlsa17/data/CUB/att_splits.mat", b"another")
    cub = find(home, "dataset", "cub")
    assert (cub.status, cub.is_verified) == ("present", False)


@pytest.mark.parametrize("begun", ["downloads/CUB_200_2011.tgz.partial", "CUB_200_2011/images/a.jpg"])
def test_a_begun_dataset_is_partial(home: Home, begun: str) -> None:
    put(home.data / begun)
    cub = find(home, "dataset", "cub")
    assert (cub.status, cub.bytes, cub.command) == (
        "partial",
        5,
        f"msdn data download cub --home {home.root}",
    )


def test_weights_in_the_cache_of_torch_count(home: Home, tmp_path: Path) -> None:
    put(tmp_path / "torch/hub/checkpoints/resnet101-63fe2227.pth")
    weights = find(home, "download", "weights")
    assert (weights.status, weights.bytes, weights.note) == ("present", 5, "in torch's own cache")


def test_vectors_are_compared_with_the_names(home: Home) -> None:
    path = home.data / "vectors/cub.npz"
    put(path)
    damaged = find(home, "vectors", "cub")
    assert damaged.status == "damaged" and "attribute vectors cannot be read" in damaged.note
    np.savez(path, vectors=np.ones((2, 3), np.float32))
    assert find(home, "vectors", "cub").status == "present"
    put(home.data / "CUB_200_2011/attributes/attributes.txt", b"1 has_bill::long\n2 has_bill::short\n")
    vectors = find(home, "vectors", "cub")
    assert (vectors.status, vectors.is_verified, vectors.note) == ("complete", True, "2 x 3 numbers")
    path.unlink()
    there = f" --home {home.root}"
    build = f"msdn data vectors cub{there}"
    assert find(home, "vectors", "cub").command == f"msdn data download glove{there} && {build}"
    put(home.data / "glove/glove.6B.300d.txt")
    assert find(home, "vectors", "cub").command == build


def test_caches_are_listed_whole_begun_and_damaged(
    home: Home, make_cache: Callable[..., Path], run_msdn: Callable[..., Result]
) -> None:
    make_cache(home.features / "toy-224-a.h5", masked={3: "no image"})
    begun = home.features / "toy-224-b.h5.partial"
    create_structure(
        begun,
        make_annotations(),
        [MapSpec(MAIN, 3, 3, 4, np.dtype(np.float16), signed=False)],
        PROVENANCE,
        {},
    )
    whole = make_cache(home.features / "toy-224-c.h5")
    whole.write_bytes(whole.read_bytes()[:-5000])
    put(home.features / "toy-224-d.h5")
    with h5py.File(make_cache(home.features / "toy-224-e.h5"), "r+") as file:
        del file["class_names"]
        file["class_names"] = "not a list"
    caches = [entry for entry in collect_status(home) if entry.kind == "cache"]
    assert [entry.status for entry in caches] == ["complete", "partial", "damaged", "damaged", "damaged"]
    assert caches[0].note.startswith("30 images, 1 masked; check every row with: msdn cache verify ")
    assert caches[1].note == "30 of 30 images to go; repeat the command that started it"
    result = run_msdn("data", "status")
    assert result.exit_code == 0, result.output
    assert "toy-224-d.h5: not an HDF5 file, expected a cache" in result.stdout


def test_json_holds_what_the_lines_say(home: Home, run_msdn: Callable[..., Result]) -> None:
    put_cub(home)
    report = json.loads(run_msdn("data", "status", "--json").stdout)
    assert report["home"] == str(home.root)
    (cub,) = (entry for entry in report["entries"] if (entry["kind"], entry["name"]) == ("dataset", "cub"))
    assert (cub["status"], cub["is_verified"]) == ("present", False)
    assert cub["path"] == str(home.data / "CUB_200_2011/images")


def test_status_loads_no_torch(home: Home) -> None:
    code = (
        "import sys\nfrom msdn.cli import main\n"
        f"main(['data', 'status', '--home', {str(home.root)!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
