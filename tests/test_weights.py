"""Weights: found, refused with a sentence, never unpickled unsafely, never random unasked."""

import functools
import hashlib
import http.server
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import DenseNet, VisionTransformer, resnet18

from msdn.cache.home import Home
from msdn.extract.backbones import Backbone, weights
from msdn.extract.backbones.registry import find_backbone
from msdn.extract.backbones.weights import Weights, load_network
from msdn.extract.downloads.sources import PLANS, SOURCES, Source
from msdn.extract.errors import DownloadError, ExtractError, WeightsError

HOME = Home(Path("unused"))
RESNET = find_backbone("resnet18")
SOURCE = "weights-resnet18"
FILE = RESNET.weights_url.rpartition("/")[2]


def load_weights(choice: str, home: Home, backbone: Backbone = RESNET) -> Weights:
    return load_network(backbone, choice, 64, home)[1]


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


@pytest.fixture(scope="module")
def state() -> dict:
    return {k: v for k, v in resnet18().state_dict().items() if not k.startswith("fc.")}


def save(path: Path, value: object) -> str:
    torch.save(value, path)
    return str(path)


def test_a_file_in_any_usual_wrapping_is_the_same_weights(tmp_path: Path, state: dict) -> None:
    plain = load_weights(save(tmp_path / "a.pth", state), HOME)
    wrapped = load_weights(
        save(tmp_path / "b.pth", {"state_dict": {f"module.{k}": v for k, v in state.items()}}), HOME
    )
    assert plain.kind == "file" and plain.tag.startswith("file_")
    assert plain.description["sha256"] == wrapped.description["sha256"]


def test_files_of_another_network_are_refused(tmp_path: Path, state: dict) -> None:
    def refuse(value: object, message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            load_weights(save(tmp_path / "x.pth", value), HOME)

    refuse([1, 2], "holds no state dict")
    refuse({"a": torch.zeros(1)}, "not a resnet18, 'conv1.weight' and 99 more are missing")
    refuse(
        state | {"conv1.weight": torch.zeros(2)},
        r"'conv1.weight' has shape \(2,\), a resnet18 has \(64, 3, 7, 7\)",
    )
    refuse(state | {"bn1.bias": torch.full((64,), torch.nan)}, "'bn1.bias' holds values that are not finite")
    with pytest.raises(WeightsError, match="no such file; choose '--weights imagenet'"):
        load_weights(str(tmp_path / "none.pth"), HOME)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="not a state dict that can be loaded safely"):
        load_weights(str(tmp_path / "text.pth"), HOME)


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb.pth").write_bytes(pickle.dumps({"conv1.weight": Bomb()}))
    for path in ("bomb.pth", save(tmp_path / "bomb2.pth", {"conv1.weight": Bomb()})):
        with pytest.raises(WeightsError, match="not a state dict that can be loaded safely"):
            load_weights(path, HOME)
    assert not Path("exploded").exists()


def test_random_weights_follow_their_seed_and_leave_torch_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (
        load_weights("random", HOME),
        load_weights("random:0", HOME),
        load_weights("random:7", HOME),
    )
    assert torch.equal(before, torch.get_rng_state())
    assert first.description == again.description and first.tag == "random"
    assert other.description["sha256"] != first.description["sha256"] and other.tag == "random7"
    with pytest.raises(WeightsError, match="the seed must be a whole number"):
        load_weights("random:x", HOME)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A web server on localhost; yields the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield SimpleNamespace(folder=folder, url=f"http://127.0.0.1:{httpd.server_port}")
        httpd.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home without weights, on a machine where torchvision has none either."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return Home(tmp_path / "home")


def serve_as_imagenet(monkeypatch: pytest.MonkeyPatch, url: str, digest: str) -> None:
    source = Source(FILE, (url,), (f"weights/{FILE}",), checksum=("sha256", digest))
    monkeypatch.setitem(SOURCES, SOURCE, source)
    monkeypatch.setitem(PLANS, SOURCE, (SOURCE,))


def test_imagenet_weights_are_fetched_checked_and_kept(server, state: dict, home: Home, monkeypatch) -> None:
    served = server.folder / "weights"
    save(served, state)
    digest = hashlib.sha256(served.read_bytes()).hexdigest()[:8]
    serve_as_imagenet(monkeypatch, f"{server.url}/{served.name}", digest)
    fetched = load_weights("imagenet", home)
    assert fetched.kind == fetched.tag == "imagenet"
    assert (home.data / f"weights/{FILE}").is_file()
    served.unlink()
    assert load_weights("imagenet", home).description == fetched.description


def test_imagenet_weights_that_torchvision_has_are_used(state: dict, home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "torch/hub/checkpoints" / FILE
    kept.parent.mkdir(parents=True)
    save(kept, state)
    assert load_weights("imagenet", home).kind == "imagenet"
    assert not home.root.exists()


@pytest.mark.parametrize("file", ["tampered", "none"])
def test_wrong_or_missing_imagenet_weights_name_the_choices(
    server, file: str, home: Home, monkeypatch
) -> None:
    (server.folder / "tampered").write_bytes(b"tampered")
    serve_as_imagenet(monkeypatch, f"{server.url}/{file}", "00000000")
    with pytest.raises(WeightsError, match=r"(?s)no weights of resnet18 in .*'--weights random'"):
        load_weights("imagenet", home)
    assert not (home.data / f"weights/{FILE}").exists()


def test_the_file_of_any_torchvision_network_is_known_by_its_address(home: Home, monkeypatch) -> None:
    monkeypatch.setattr(weights, "SOURCES", known := dict(SOURCES))
    monkeypatch.setattr(weights, "PLANS", {})
    asked = []

    def fetch(name: str, _home: Home) -> Path:
        asked.append(known[name])
        raise DownloadError("no network here")

    monkeypatch.setattr(weights, "fetch_source", fetch)
    monkeypatch.setattr(weights, "find_kept", lambda *_: None)
    for name in ("resnet101", "convnext_tiny"):
        with pytest.raises(WeightsError, match=rf"(?s){name}.*no network here.*--weights FILE"):
            load_weights("imagenet", home, find_backbone(name))
    assert asked[0] == SOURCES["weights"]
    assert asked[1].file == "convnext_tiny-983f1562.pth" and asked[1].checksum == ("sha256", "983f1562")
    assert asked[1].proof == ("weights/convnext_tiny-983f1562.pth",)


def test_old_densenet_files_fit() -> None:
    network = DenseNet(4, (2, 1), 8)
    state = network.state_dict()
    old = {
        re.sub(r"(layer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", name): value for name, value in state.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert find_backbone("densenet121").adapt(network, old).keys() == state.keys()


def test_a_vits_positions_are_resampled_for_another_size() -> None:
    def build(image_size: int) -> VisionTransformer:
        return VisionTransformer(image_size, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)

    state = build(16).state_dict()
    adapted = find_backbone("vit_b_32").adapt(build(32), state)
    assert adapted["encoder.pos_embedding"].shape == (1, 1 + 16, 8)
    torch.testing.assert_close(adapted["encoder.pos_embedding"][:, 0], state["encoder.pos_embedding"][:, 0])


def test_timm_networks_take_files_of_both_kinds_at_another_size(tmp_path: Path) -> None:
    entry = find_backbone("timm:test_vit")
    whole = timm.create_model("test_vit")
    state = whole.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    for path in (save(tmp_path / "w.pth", state), str(tmp_path / "w.safetensors")):
        network, found = load_network(entry, path, 64, HOME)
        assert found.kind == "file"
        torch.testing.assert_close(network.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])
        assert network.pos_embed.shape[1] == 1 + 16
    del state["norm.weight"]
    with pytest.raises(WeightsError, match=r"cut.pth.*timm:test_vit, 'norm.weight'"):
        load_network(entry, save(tmp_path / "cut.pth", state), 160, HOME)
    state = whole.state_dict() | {"norm.weight": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"(?s)bent.pth.*norm.weight"):
        load_network(entry, save(tmp_path / "bent.pth", state), 160, HOME)


def test_timms_own_weights_without_a_network_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("cannot reach\nthe hub")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(WeightsError, match=r"^timm:test_vit: .*cannot reach the hub.*--weights FILE"):
        load_weights("imagenet", HOME, find_backbone("timm:test_vit"))


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ExtractError, match=r"pip install -e '\.\[timm\]'"):
        find_backbone("timm:test_vit")


def test_a_network_without_weights_of_its_own_says_so() -> None:
    entry = Backbone(build=lambda: nn.Conv2d(3, 4, 8), name="mine")
    with pytest.raises(WeightsError, match=r"mine .*weights_url.*--weights FILE"):
        load_weights("imagenet", HOME, entry)
