"""docs/new-backbone.md, executed: its file extracts, is named in what it made, and its commands are understood."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_extraction import SETTINGS, StoppedError, interrupt_after, make_home

from msdn.cache import FeatureCache
from msdn.cache.home import Home
from msdn.cli import main
from msdn.extract.backbones.registry import build_network, find_backbone
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.command import extract as extract_command
from msdn.extract.pipeline.extraction import extract

PAGE = (Path(__file__).parent.parent / "docs/new-backbone.md").read_text()
V1 = """
import torchvision
def build():
    network = torchvision.models.resnet18()
    network.layer4[0].conv1.stride = (1, 1)
    return network
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return make_home(tmp_path, monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The page's file."""
    path = tmp_path / "four.py"
    path.write_text(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1])
    return path


def test_the_pages_file_extracts(home: Home, file: Path) -> None:
    entry = find_backbone(str(file))
    network = build_network(entry, 64)
    torch.save(network.state_dict(), home.root / "weights.pth")
    settings = replace(SETTINGS, backbone=str(file), weights=str(home.root / "weights.pth"))
    done = extract(replace(settings, also=("global",)), home)
    with FeatureCache(done.path) as cache:
        assert cache.shape == (30, 4, 4, 128) and cache.signed is False
        assert np.isfinite(cache.read_rows(np.arange(30))).all()
        said = cache.provenance["backbone"]
        assert said["name"] == "four" and said["library"] == "file" and len(said["sha256"]) == 64
        assert cache.provenance["image_size"] == 64 and "bicubic" in cache.provenance["transform"]
    assert f"four_{said['sha256'][:8]}" in done.path.name
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(1))
    file.write_text(file.read_text() + "\n# edited\n")
    with pytest.raises(ExtractError, match=r"backbone sha256 was .*--restart"):
        extract(replace(settings, out=done.path, also=("global",)), home)


def test_the_pages_commands_are_understood() -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert program == "msdn"
        if command == "extract":
            extract_command.make_context("extract", arguments)


def test_backbones_shows_a_file(file: Path) -> None:
    shown = CliRunner().invoke(main, ["backbones", str(file)])
    assert shown.exit_code == 0, shown.output
    for part in ("four", "bicubic", "4x4", "128"):
        assert part in shown.stdout


def test_build_alone_will_do_for_torchvisions_make(tmp_path: Path) -> None:
    (tmp_path / "v1.py").write_text(V1)
    entry = find_backbone(str(tmp_path / "v1.py"))
    assert (entry.name, entry.layer, entry.preparation.size) == ("v1", "layer4", 224)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("x = 1", ["neither a function build() nor BACKBONE"]),
        ("import nothing_of_that_name", ["cannot be run: ModuleNotFoundError", "nothing_of_that_name"]),
        ("def build():\n    return 3", ["build() returned int"]),
        (
            "from torch import nn\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 3))",
            ["layer='NAME'", "0"],
        ),
    ],
)
def test_a_file_that_is_no_backbone_says_what_to_add(tmp_path: Path, content: str, parts: list[str]) -> None:
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(ExtractError) as caught:
        find_backbone(str(tmp_path / "bad.py"))
    assert all(part in str(caught.value) for part in ["bad", *parts]), caught.value
