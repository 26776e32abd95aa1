"""docs/new-model.md, followed to the letter outside the package: its model trains, resumes, evaluates and compares."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy_cache import make_annotations

from msdn.train.models.presets import preset_settings

ROOT = Path(__file__).parent.parent
STEPS = '''
"""Runs each list of arguments as `msdn`, "interrupted" ones stopped in the second epoch."""
import json, sys
from unittest import mock
from click.testing import CliRunner
import torch
from msdn.cli import main
from msdn.train.loop.trainer import Trainer

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
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
'''


def page_blocks() -> dict[str, str]:
    """The page's code by the file that it belongs to; its commands under 'sh'."""
    page = (ROOT / "docs/new-model.md").read_text(encoding="utf-8")
    blocks: dict[str, str] = {}
    for words, language, code in re.findall(r"(.*?)```(\w+)\n(.*?)```", page, re.DOTALL):
        named = re.findall(r"## \d\. .*`([\w.]+)`", words)
        blocks["sh" if language == "sh" else named[-1]] = code
    return blocks


@pytest.fixture
def desk(tmp_path: Path, make_cache: Callable[..., Path]) -> Path:
    """A folder with the page's files, and a home beside it with a toy cache in the place of Plumage's."""
    folder = tmp_path / "desk"
    folder.mkdir()
    for name, code in page_blocks().items():
        if name != "sh":
            (folder / name).write_text(code, encoding="utf-8")
    annotations = replace(make_annotations(per_class=20), dataset="plumage")
    make_cache(tmp_path / "home/features/plumage-224-random.h5", annotations=annotations)
    return folder


def run_python(desk: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "MSDN_HOME": str(desk.parent / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=desk, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def run_msdn(desk: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command, in one process of its own."""
    done = run_python(desk, "-c", STEPS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def page_commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for line in page_blocks()["sh"].splitlines()]


def test_the_page_has_every_block() -> None:
    assert list(page_blocks()) == ["peak.py", "sh", "peak.toml", "test_peak.py"]


def test_the_model_trains_resumes_evaluates_and_compares(desk: Path) -> None:
    train, evaluate, compare = page_commands()
    train = [*train, "--epochs", "3", "--json"]
    first = run_msdn(desk, train, ["interrupted", *train])
    later = run_msdn(desk, [*evaluate, "--json"], ["train", "--resume", "--json"], [*compare, "--json"])
    assert [code for code, _, _ in first + later] == [0, 130, 0, 0, 0], first + later
    trained, figures, resumed, compared = (json.loads(out) for _, out, _ in (first[0], *later))
    assert trained["model"] == "peak" and trained["last"]["ce"] < math.log(6), "worse than equal scores"
    assert figures["run"] == trained["run"]
    assert all(0 <= figures[name] <= 100 for name in ("U", "S", "H", "acc"))
    assert figures["settings"]["region_drop"] == 0.3
    assert figures["settings"]["learning_rate"] == preset_settings("baseline", "plumage").learning_rate
    assert "epoch 1/3" in first[1][2] and "epoch 2/3" not in first[1][2]
    assert resumed["run"] != trained["run"] and resumed["last"]["loss"] == trained["last"]["loss"]
    assert "peak" in json.dumps(compared)


def test_the_pages_own_test_passes(desk: Path) -> None:
    done = run_python(desk, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_peak.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_model_that_changed_or_is_gone_is_said_and_never_run(desk: Path) -> None:
    train, evaluate, _ = page_commands()
    assert run_msdn(desk, [*train, "--epochs", "1"])[0][0] == 0
    file = desk / "peak.py"
    file.write_text("raise SystemExit('it ran')\n" + file.read_text())
    ((code, _, said),) = run_msdn(desk, evaluate)
    assert code != 0 and "peak.py" in said and "changed" in said and "it ran" not in said
    file.unlink()
    ((code, _, said),) = run_msdn(desk, evaluate)
    assert code != 0 and "peak.py" in said and "missing" in said


def test_a_strangers_run_does_not_bring_its_code(desk: Path) -> None:
    train, evaluate, _ = page_commands()
    assert run_msdn(desk, [*train, "--epochs", "1"])[0][0] == 0
    (desk.parent / "home/models.json").unlink()  # as in a home that never saw this model
    ((code, _, said),) = run_msdn(desk, evaluate)
    assert code != 0 and "peak" in said


def test_a_file_that_holds_no_model_is_named(desk: Path) -> None:
    bad = {
        "syntax.py": ("1 +", "SyntaxError"),
        "library.py": ("import nowhere", "nowhere"),
        "empty.py": ("x = 1", "MODEL"),
        "gone.py": (None, "no such file"),
        "taken.py": (page_blocks()["peak.py"].replace('name="peak"', 'name="msdn"'), "'msdn'"),
    }
    for name, (code, _) in bad.items():
        if code is not None:
            (desk / name).write_text(code)
    results = run_msdn(desk, *(["train", "--dataset", "plumage", "--model", f"./{name}"] for name in bad))
    for (name, (_, fact)), (exit_code, _, said) in zip(bad.items(), results, strict=True):
        assert exit_code == 2 and name in said and fact in said, said


def test_a_preset_that_is_none_is_named(desk: Path) -> None:
    bad = {
        "number": ("[released.plumage]\nregion_drop = 0.1\n", "region_drop is 0.1"),
        "unknown": ("[released.plumage]\nregion_dorp = { value = 0.1, source = 'x' }\n", "'region_drop'"),
        "table": ("released = 3\n", "'released' is 3"),
        "like": ("like = 'msdn'\n", "like is 'msdn'"),
    }
    for name, (preset, _) in bad.items():
        (desk / f"{name}.py").write_text(page_blocks()["peak.py"].replace('name="peak"', f'name="{name}"'))
        (desk / f"{name}.toml").write_text(preset)
    results = run_msdn(desk, *(["train", "--dataset", "plumage", "--model", f"./{name}.py"] for name in bad))
    for (name, (_, fact)), (exit_code, _, said) in zip(bad.items(), results, strict=True):
        assert exit_code == 2 and f"{name}.toml" in said and fact in said, said


def test_a_folder_is_a_model_too(desk: Path) -> None:
    (desk / "peaks").mkdir()
    shutil.copy(desk / "peak.py", desk / "peaks/__init__.py")
    shutil.copy(desk / "peak.toml", desk / "peaks/presets.toml")
    train = ["train", "--dataset", "plumage", "--model", "./peaks", "--epochs", "1", "--json"]
    ((code, out, said),) = run_msdn(desk, train)
    assert code == 0, said
    assert json.loads(out)["model"] == "peak"
