"""docs/new-dataset.md, followed to the letter in a copy of the package: its benchmark downloads, checks, extracts."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flaky_server import FlakyServer
from toy_cache import make_annotations
from toy_dataset import write_toy_dataset
from toy_source import make_tar, make_zip

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/new-dataset.md").read_text(encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the page's file in it."""
    copy = tmp_path / "copy" / "msdn"
    for part in ("app", "cache", "extract", "train"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.glob("*.py"):
        shutil.copy(file, copy)
    (name,) = re.findall(r"^## The file: `(.+)`$", PAGE, re.MULTILINE)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert not (copy / name).exists(), "the page needs another example"
    (copy / name).write_text(code, encoding="utf-8")
    return copy


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A web server with both archives of the dataset, small."""
    write_toy_dataset(tmp_path / "published")
    folder = tmp_path / "published" / "TOY"
    images = {f"moths/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.jpg")}
    names = {"moths/attributes.txt": (folder / "attributes.txt").read_bytes()}
    lists = (tmp_path / "published/xlsa17/data/TOY").iterdir()
    with FlakyServer() as server:
        server.serve("/moths.tgz", make_tar(images | names))
        server.serve(
            "/moths_splits.zip", make_zip({f"splits/{path.name}": path.read_bytes() for path in lists})
        )
        yield server.address


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that holds what several datasets share."""
    words = {word for name in make_annotations().attribute_names for word in re.findall(r"\w+", name)}
    glove = "".join(f"{word} {number} 1\n" for number, word in enumerate(sorted(words)))
    files = {"glove/glove.6B.300d.txt": glove, "weights/resnet101-63fe2227.pth": "no weights, never read"}
    for name, text in files.items():
        (tmp_path / "home/data" / name).parent.mkdir(parents=True)
        (tmp_path / "home/data" / name).write_text(text)
    return tmp_path / "home"


def run(package: Path, home: Path, line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "msdn"
    done = subprocess.run(
        [sys.executable, "-m", "msdn", *arguments, "--home", str(home)],
        cwd=package.parents[1],
        env=os.environ | {"PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1", "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_benchmark_of_the_page_works(package: Path, home: Path, mirror: str) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    download, check, extract = block.splitlines()
    assert "moths" in run(package, home, "msdn data status")
    downloaded = run(package, home, f"{download} --mirror {mirror}")
    assert "moths-images: complete" in downloaded and "moths-lists: complete" in downloaded
    assert f"word vectors of moths: {home}/data/vectors/moths.npz" in downloaded
    checked = run(package, home, check)
    assert re.search(r"dataset +moths\n", checked) and "7 of 2 numbers" in checked
    assert extract.rpartition(" --weights")[0] in checked, "the check names the next command"
    cache = run(package, home, f"{extract} --device cpu").strip()
    assert Path(cache).parent == home / "features" and Path(cache).name.startswith("moths-")
