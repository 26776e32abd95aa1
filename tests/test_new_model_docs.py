"""docs/new-model.md, followed to the letter in a copy of the package: its model trains, resumes and evaluates."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy_cache import make_annotations

from msdn.train.models.presets import preset_settings

ROOT = Path(__file__).parent.parent
MODEL, TEST = "train/models/peak.py", "tests/test_models_peak.py"
REGISTRY, SETTINGS, PRESETS = "train/models/registry.py", "train/settings.py", "train/presets.py"
ABOVE = {  # the lines that the page's lines go above, and their indentation
    REGISTRY: ('        ModelEntry(\n            name="baseline"', " " * 8),
    SETTINGS: ("\n    def __post_init__(self)", " " * 4),
    PRESETS: ('    "msdn": _MSDN,\n', " " * 4),
}
STEPS = '''
"""Runs each list of arguments as `msdn`, "interrupted" ones stopped in the second epoch."""
import json, sys
from unittest import mock
from click.testing import CliRunner
import torch
import msdn
from msdn.cli import main
from msdn.train.loop.training import Trainer

torch.set_num_threads(1)
train_epoch = Trainer.train_epoch
for arguments in json.loads(sys.argv[1]):
    epochs = iter((False, arguments[0] == "interrupted", False, False))
    def stop(self, epoch):
        if next(epochs, False):
            raise KeyboardInterrupt
        return train_epoch(self, epoch)
    with mock.patch.object(Trainer, "train_epoch", stop):
        done = CliRunner().invoke(main, [word for word in arguments if word != "interrupted"], catch_exceptions=False)
    print(json.dumps([msdn.__file__, done.exit_code, done.stdout, done.stderr]))
'''


def page_blocks() -> dict[str, str]:
    """The page's code by the file that it belongs to; its commands under 'sh'."""
    page = (ROOT / "docs/new-model.md").read_text(encoding="utf-8")
    blocks: dict[str, str] = {}
    named: list[str] = []
    for words, language, code in re.findall(r"(.*?)```(\w+)\n(.*?)```", page, re.DOTALL):
        named += re.findall(r"`((?:train|tests)/[\w/]+\.py)`", words)
        blocks["sh" if language == "sh" else [name for name in named if name not in blocks][-1]] = code
    return blocks


def follow(package: Path, *files: str) -> None:
    """Do what the page says for these files."""
    for name, code in page_blocks().items():
        if name not in files:
            continue
        place = package / name
        if name not in ABOVE:
            assert not place.exists(), f"{name} is in the package already: the page needs another example"
            place.write_text(code, encoding="utf-8")
            continue
        anchor, indentation = ABOVE[name]
        text = place.read_text(encoding="utf-8")
        assert text.count(anchor) == 1
        place.write_text(text.replace(anchor, textwrap.indent(code, indentation) + anchor), encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to be changed."""
    copy = tmp_path / "copy" / "msdn"
    for part in ("app", "cache", "extract", "train"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    for file in ("__init__.py", "__main__.py", "cli.py", "pyproject.toml", "tests/naive_branches.py"):
        shutil.copy(ROOT / file, copy / file)
    return copy


def run_python(package: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(package.parent),
        "MSDN_HOME": str(package.parents[1] / "home"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=package, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def run_msdn(package: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command, in one process that imports the copy."""
    done = run_python(package, "-c", STEPS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {result[0] for result in results} == {str(package / "__init__.py")}
    return [tuple(result[1:]) for result in results]


def page_commands() -> list[list[str]]:
    return [shlex.split(line) for line in page_blocks()["sh"].splitlines()]


@pytest.fixture
def plumage(make_cache: Callable[..., Path], tmp_path: Path) -> None:
    """A toy cache in the place of Plumage's."""
    annotations = replace(make_annotations(per_class=20), dataset="plumage")
    make_cache(tmp_path / "home/features/plumage-224-random.h5", annotations=annotations)


def test_the_page_has_a_place_for_every_block() -> None:
    assert list(page_blocks()) == [MODEL, REGISTRY, SETTINGS, PRESETS, "sh", TEST]


@pytest.mark.usefixtures("plumage")
def test_the_model_trains_resumes_and_evaluates(package: Path) -> None:
    follow(package, MODEL, REGISTRY, SETTINGS, PRESETS)
    (_, *train), (_, *evaluate), _ = page_commands()
    train = [*train, "--epochs", "3", "--json"]
    results = run_msdn(
        package, train, [*evaluate, "--json"], ["interrupted", *train], ["train", "--resume", "--json"]
    )
    assert [code for code, _, _ in results] == [0, 0, 130, 0], results
    trained, figures, resumed = (json.loads(results[step][1]) for step in (0, 1, 3))
    assert trained["model"] == "peak" and trained["last"]["ce"] < math.log(6), "worse than equal scores"
    assert figures["run"] == trained["run"] and all(
        0 <= figures[name] <= 100 for name in ("U", "S", "H", "acc")
    )
    assert figures["settings"]["region_drop"] == 0.3
    assert figures["settings"]["learning_rate"] == preset_settings("baseline", "plumage").learning_rate
    assert "epoch 1/3" in results[2][2] and "epoch 2/3" not in results[2][2]
    assert resumed["run"] != trained["run"] and resumed["last"]["loss"] == trained["last"]["loss"]


def test_the_pages_own_test_passes(package: Path) -> None:
    follow(package, MODEL, SETTINGS, TEST)
    program, *arguments = page_commands()[-1]
    assert program == "python"
    done = run_python(package, *arguments, "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_without_its_registration_the_model_is_unknown(package: Path) -> None:
    follow(package, MODEL, SETTINGS)
    done = run_python(package, "-m", "msdn", *page_commands()[0][1:])
    assert done.returncode == 2
    assert "unknown model 'peak'" in done.stderr and "baseline" in done.stderr
