"""How a network computes: decided once for a cache, the same at every start, and close to the network as it was."""

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_extraction import SETTINGS, StoppedError, interrupt_after, make_home, notes_of

from msdn import machine
from msdn.cache import FeatureCache
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.cache.partial import partial_path
from msdn.extract.backbones import Backbone, Preparation, frozen
from msdn.extract.backbones.entry import Plan, make_plan
from msdn.extract.backbones.folding import fold_batch_norms
from msdn.extract.backbones.frozen import CompileError, FrozenNetwork, pays_to_compile
from msdn.extract.backbones.network import mean_and_std, normalise, read_maps
from msdn.extract.backbones.registry import build_network, find_backbone
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline import extraction
from msdn.extract.pipeline.extraction import extract
from msdn.extract.pipeline.progress import Progress
from msdn.extract.pipeline.reading import Block
from msdn.extract.pipeline.repeating import Repeater
from msdn.extract.pipeline.writing import compute_ahead

CPU = torch.device("cpu")
TINY = """\
from torch import nn
from msdn.extract.backbones import Backbone, Preparation

def build():
    first = nn.Conv2d(3, 8, 7, stride=8, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())

BACKBONE = Backbone(build=build, layer="3", preparation=Preparation(64))
"""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    home = make_home(tmp_path, monkeypatch)
    (home.root / "tiny.py").write_text(TINY)
    yield home
    torch.compiler.reset()


def unsettle(network: nn.Module) -> nn.Module:
    """Give every batch norm something to do."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.4, 0.6)
            module.bias.data.uniform_(-0.1, 0.1)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network.requires_grad_(False).eval()


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def maps_of(network: nn.Module, plan: Plan) -> torch.Tensor:
    size = plan.preparation.size
    images = torch.randint(0, 256, (2, size, size, 3), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        pixels = normalise(images.to(torch.uint8), *mean_and_std(plan.preparation, CPU))
        return read_maps(network, plan, pixels)["regions"]


@pytest.mark.parametrize(
    "name, left",
    [
        ("resnet18", 0),
        ("mobilenet_v2", 0),
        ("efficientnet_b0", 0),
        ("densenet121", 62),  # norms of what several convolutions gave: they come before the next one
        ("timm:efficientnet_lite0", 0),
        ("vit_b_16", 0),
    ],
)
def test_any_networks_batch_norm_is_folded_where_it_can_be(name: str, left: int) -> None:
    plan = make_plan(find_backbone(name), 64, "", ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = unsettle(build_network(plan.backbone, 64))
    before = copy.deepcopy(network)
    had = count_norms(network)
    assert fold_batch_norms(network, plan) == (had > 0)
    assert count_norms(network) <= left + behind_the_map(name)
    expected = maps_of(before, plan)
    torch.testing.assert_close(
        maps_of(network, plan), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )


def behind_the_map(name: str) -> int:
    """Norms that no map depends on, which a pass never reaches."""
    return 1 if name.startswith("timm:") else 0


class Twice(nn.Module):
    """Its convolution's output goes two ways, so that a fold would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        given = self.conv(pixels)
        return self.end(given + self.norm(given))


def test_what_a_fold_would_change_is_not_folded() -> None:
    entry = Backbone(build=Twice, layer="end", preparation=Preparation(16))
    plan, network = Plan(entry, entry.preparation), unsettle(Twice())
    expected = maps_of(network, plan)
    frozen_network = FrozenNetwork(network, plan, CPU, "float32")
    assert frozen_network.describe()["batch_norm"] == "separate"
    assert torch.equal(maps_of(network, plan), expected)
    inner = replace(plan, maps=make_plan(entry, None, "conv", ()).maps)
    assert not fold_batch_norms(network, inner), "a convolution's own output is what was asked for"


def recipe_of(path: Path) -> dict:
    return read_header(path).provenance


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_the_precision_is_chosen_once_and_said(
    home: Home, monkeypatch: pytest.MonkeyPatch, fast: str
) -> None:
    settings = replace(SETTINGS, precision="auto", backbone=str(home.root / "tiny.py"))
    monkeypatch.setattr(extraction, "fastest_precision", lambda _device: fast)
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(1))
    monkeypatch.setattr(extraction, "fastest_precision", lambda _device: pytest.fail("decided again"))
    path = extract(settings, home).path
    assert recipe_of(path)["precision"] == fast
    assert extract(settings, home).was_complete
    assert extract(replace(settings, precision=fast), home).was_complete
    other = "float32" if fast == "bfloat16" else "bfloat16"
    with pytest.raises(ExtractError, match=f"precision was {fast}, now {other}"):
        extract(replace(settings, precision=other), home)
    monkeypatch.setattr(extraction, "fastest_precision", lambda _device: fast)
    assert f"computing in {fast}" in notes_of(replace(settings, restart=True), home)[1]


def test_this_machine_is_asked_for_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, avx, expected in ((True, True, "AMX"), (False, True, "BF16"), (False, False, "")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx, raising=False)
        assert machine.bfloat16_units() == expected
        assert machine.fastest_precision(CPU) == ("bfloat16" if expected else "float32")


def test_compiling_is_decided_by_the_whole_datasets_size() -> None:
    cuda = torch.device("cuda")
    assert not pays_to_compile(1000, 224, CPU) and pays_to_compile(10_000, 224, CPU)
    assert pays_to_compile(1000, 448, CPU), "four times the work"
    assert not pays_to_compile(10_000, 224, cuda) and pays_to_compile(1_000_000, 224, cuda)


def test_a_compiled_extraction_goes_on_compiled_to_the_same_bytes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, backbone=str(home.root / "tiny.py"), compile="yes")
    whole = extract(replace(settings, out=home.root / "whole.h5"), home).path
    pieces = replace(settings, out=home.root / "pieces.h5", compile="auto")
    monkeypatch.setattr(extraction, "pays_to_compile", lambda images, *_: images == 30)
    with pytest.raises(StoppedError):
        extract(pieces, home, interrupt_after(2))
    monkeypatch.setattr(extraction, "pays_to_compile", lambda *_: pytest.fail("decided again"))
    torch.compiler.reset()
    path = extract(pieces, home).path
    assert path.read_bytes() == whole.read_bytes()
    recipe = recipe_of(path)
    assert recipe["compiled"] is True and recipe["batch_norm"] == "folded" and recipe["versions"]["compiler"]
    with FeatureCache(path) as cache:
        plain = extract(replace(settings, out=home.root / "plain.h5", compile="no"), home).path
        with FeatureCache(plain) as other:
            np.testing.assert_allclose(
                cache.read_rows([3, 29]), other.read_rows([3, 29]), rtol=2e-3, atol=1e-3
            )
        repeater = Repeater(
            recipe,
            cache.backbone_state,
            home,
            CPU,
            map="regions",
            dtype=cache.dtype,
            backbone=settings.backbone,
        )
        image = home.data / "TOY/images" / cache.annotations.image_paths[0]
        again = next(iter(repeater.compute([image], 1))).features
        np.testing.assert_allclose(again.reshape(16, 8), cache.read_rows([0])[0], rtol=2e-3, atol=1e-3)


class Remembering:
    """Stands for a GPU: says when a block is started, and when it is waited for."""

    in_flight = 2

    def __init__(self) -> None:
        self.events: list[str] = []

    def start(self, images: np.ndarray) -> "Remembering.Later":
        number = int(images[0, 0, 0, 0])
        self.events.append(f"start {number}")
        return Remembering.Later(number, self.events)

    @dataclass
    class Later:
        number: int
        events: list[str]

        def wait(self) -> int:
            self.events.append(f"wait {self.number}")
            return self.number


def test_a_gpu_always_has_the_next_block_before_one_is_waited_for() -> None:
    blocks = [Block(np.full((1, 1, 1, 3), n, np.uint8), rows=[n], positions=[0]) for n in range(5)]
    blocks[3].rows = []  # nothing in it can be used
    network, progress = Remembering(), Progress(5, 0)
    found = list(compute_ahead(blocks, network, progress))
    assert [computed for _, computed in found] == [0, 1, 2, None, 4]
    assert [block for block, _ in found] == blocks
    assert network.events[:6] == ["start 0", "start 1", "start 2", "wait 0", "wait 1", "start 4"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_gives_the_cpus_maps_and_mixes_no_blocks(compiled: bool) -> None:
    plan = make_plan(find_backbone("resnet18"), 64, "", ())
    network = unsettle(build_network(plan.backbone, 64))
    blocks = np.random.RandomState(0).randint(0, 256, (20, 8, 64, 64, 3), np.uint8)
    with frozen.fixed_arithmetic():
        slow = FrozenNetwork(copy.deepcopy(network), plan, CPU, "float32")
        quick = FrozenNetwork(network, plan, torch.device("cuda"), "float32")
        if compiled:
            quick.compile(8)
        one_by_one = [quick.compute(block) for block in blocks]
        together = [computing.wait() for computing in [quick.start(block) for block in blocks]]
        for block, alone, beside in zip(blocks, one_by_one, together, strict=True):
            np.testing.assert_array_equal(alone.maps["regions"], beside.maps["regions"])
            np.testing.assert_array_equal(alone.peaks["regions"], beside.peaks["regions"])
            expected = slow.compute(block)
            np.testing.assert_allclose(alone.maps["regions"], expected.maps["regions"], rtol=1e-3, atol=1e-4)


def fail_to_compile(network: FrozenNetwork, _rows: int) -> None:
    raise CompileError("no compiler here")


def test_where_nothing_compiles_it_goes_on_without(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, backbone=str(home.root / "tiny.py"))
    monkeypatch.setattr(extraction, "pays_to_compile", lambda *_: True)
    monkeypatch.setattr(FrozenNetwork, "compile", fail_to_compile)
    done, notes = notes_of(settings, home)
    assert recipe_of(done.path)["compiled"] is False and "no compiler here" in notes
    with pytest.raises(ExtractError, match="--compile yes: no compiler here"):
        extract(replace(settings, compile="yes", restart=True), home)


def test_a_resume_where_nothing_compiles_is_told_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, backbone=str(home.root / "tiny.py"), out=home.root / "a.h5")
    with monkeypatch.context() as patched, pytest.raises(StoppedError):
        patched.setattr(FrozenNetwork, "compile", lambda network, _rows: setattr(network, "compiled", True))
        extract(replace(settings, compile="yes"), home, interrupt_after(1))
    before = partial_path(settings.out).read_bytes()
    monkeypatch.setattr(frozen, "describe_compiler", lambda _device: "")
    with pytest.raises(ExtractError, match=r"a.h5.partial .*C\+\+ compiler.*--restart --compile no"):
        extract(settings, home)
    assert partial_path(settings.out).read_bytes() == before
    assert recipe_of(extract(replace(settings, restart=True, compile="no"), home).path)["compiled"] is False


@pytest.mark.slow
def test_compiling_anew_gives_the_same_bytes(home: Home, tmp_path: Path) -> None:
    """Once with what an earlier compilation left, and once with nothing."""
    found = set()
    for start, cache in enumerate(("first", "first", "second")):
        out = tmp_path / f"{start}.h5"
        command = [
            sys.executable,
            "-m",
            "msdn",
            "extract",
            "--dataset",
            "plumage",
            "--weights",
            "random",
            "--device",
        ]
        command += [
            "cpu",
            "--backbone",
            "resnet18",
            "--image-size",
            "64",
            "--compile",
            "yes",
            "--out",
            str(out),
        ]
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / cache)}
        subprocess.run([*command, "--home", str(home.root)], env=environment, check=True, capture_output=True)
        found.add(out.read_bytes())
    assert len(found) == 1
