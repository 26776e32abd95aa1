"""`msdn doctor`: each line and the exit code, on machines that are well and that are not."""

import json
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from click.testing import CliRunner, Result

from msdn.app.doctor import examine_gpus, examine_home, examine_python, examine_torch
from msdn.cache.home import Home
from msdn.cli import main


@pytest.fixture(autouse=True)
def plain_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 10**9))


def test_a_fresh_machine_is_well_and_hears_what_to_do(home: Home, run_msdn: Callable[..., Result]) -> None:
    result = run_msdn("doctor")
    assert result.exit_code == 0, result.output
    assert f"ok       torch {torch.__version__}, torchvision {torchvision.__version__}" in result.stdout
    assert "ok       torch can use no GPU here; the CPU is used" in result.stdout
    assert "todo     weights missing: for real features: msdn data download weights" in result.stdout
    assert "todo     there is no dataset here" in result.stdout
    assert "problem" not in result.stdout
    assert not home.root.exists()


def test_caches_have_their_lines(
    home: Home, make_cache: Callable[..., Path], run_msdn: Callable[..., Result]
) -> None:
    make_cache(home.features / "toy-224-a.h5")
    assert run_msdn("doctor").exit_code == 0
    (home.features / "toy-224-b.h5").write_bytes(b"junk")
    result = run_msdn("doctor")
    assert result.exit_code == 1
    assert "ok       cache toy-224-a.h5\n" in result.stdout
    assert "problem  cache toy-224-b.h5 damaged: " in result.stdout
    report = json.loads(run_msdn("doctor", "--json").stdout)
    assert report["ok"] is False
    assert report["findings"][-1]["mark"] == "problem"


def test_weights_data_and_a_begun_download(home: Home, run_msdn: Callable[..., Result]) -> None:
    for place in (
        "weights/resnet101-63fe2227.pth",
        "FLO/jpg/image_00001.jpg",
        "xlsa17/data/FLO/res101.mat",
        "xlsa17/data/FLO/att_splits.mat",
        "downloads/CUB_200_2011.tgz.partial",
    ):
        (home.data / place).parent.mkdir(parents=True, exist_ok=True)
        (home.data / place).write_bytes(b"content")
    lines = run_msdn("doctor").stdout
    assert "ok       datasets here: flo" in lines
    assert f"ok       weights {home.data}" in lines
    assert "todo     dataset cub not complete: msdn data download cub" in lines


def test_old_python_is_a_problem() -> None:
    assert examine_python((3, 11, 0)).mark == "ok"
    finding = examine_python((3, 10, 18))
    assert finding.mark == "problem" and "3.10.18" in finding.what and "3.11" in finding.advice


def test_a_missing_torchvision_is_a_sentence(
    run_msdn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    result = run_msdn("doctor")
    assert result.exit_code == 1
    assert "problem  torch and torchvision do not work together" in result.stdout
    assert "GPU" not in result.stdout


def test_missing_operators_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(torchvision.ops, "nms", refuse)
    finding = examine_torch()
    assert finding.mark == "problem"
    assert "(operator torchvision::nms does not exist)" in finding.what


@pytest.mark.parametrize("requirement", ["torch==2.0.1", "torch (==2.0.1)"])
def test_the_wrong_pair_is_a_problem(monkeypatch: pytest.MonkeyPatch, requirement: str) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ["numpy", requirement])
    finding = examine_torch()
    assert finding.mark == "problem"
    assert finding.what.endswith("which was built for torch 2.0.1")


def test_gpus_are_tried_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Toy")

    def ones(_: int, device: str) -> torch.Tensor:
        if device == "cuda:1":
            raise RuntimeError("no kernel image")
        return torch.zeros(1)

    monkeypatch.setattr(torch, "ones", ones)
    good, bad = examine_gpus()
    assert (good.mark, good.what) == ("ok", "GPU 0: Toy, 5.0 of 8.0 GB free")
    assert (bad.mark, bad.what) == ("problem", "GPU 1 cannot be used (no kernel image)")


def test_a_full_disk_is_a_problem(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9 - 1))
    room, writing = examine_home(home)
    assert (room.mark, writing.mark) == ("problem", "ok")
    assert "free some space" in room.advice


def test_a_place_that_cannot_be_written_is_a_problem(home: Home) -> None:
    home.root.write_text("a file in the way")
    result = CliRunner().invoke(main, ["doctor", "--home", str(home.root / "below")])
    assert result.exit_code == 1
    assert "cannot write there (Not a directory)" in result.stdout
