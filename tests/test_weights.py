"""Weights: found, refused with a sentence, never unpickled unsafely, never random unasked."""

import functools
import hashlib
import http.server
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision.models import resnet101

from msdn.cache.home import Home
from msdn.extract.backbones.weights import load_weights
from msdn.extract.downloads.sources import SOURCES
from msdn.extract.errors import WeightsError

HOME = Home(Path("unused"))


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


@pytest.fixture(scope="module")
def state() -> dict:
    return {k: v for k, v in resnet101().state_dict().items() if not k.startswith("fc.")}


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


def test_files_that_are_no_resnet101_are_refused(tmp_path: Path, state: dict) -> None:
    def refuse(value: object, message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            load_weights(save(tmp_path / "x.pth", value), HOME)

    refuse([1, 2], "holds no state dict")
    refuse({"a": torch.zeros(1)}, "not a ResNet101, 'conv1.weight' and 519 more are missing")
    refuse(
        state | {"conv1.weight": torch.zeros(2)},
        r"'conv1.weight' has shape \(2,\), a ResNet101 has \(64, 3, 7, 7\)",
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
    source = replace(SOURCES["weights"], mirrors=(url,), checksum=("sha256", digest))
    monkeypatch.setitem(SOURCES, "weights", source)


def test_imagenet_weights_are_fetched_checked_and_kept(server, state: dict, home: Home, monkeypatch) -> None:
    served = server.folder / "weights"
    save(served, state)
    digest = hashlib.sha256(served.read_bytes()).hexdigest()[:8]
    serve_as_imagenet(monkeypatch, f"{server.url}/{served.name}", digest)
    fetched = load_weights("imagenet", home)
    assert fetched.kind == fetched.tag == "imagenet"
    assert (home.data / SOURCES["weights"].proof[0]).is_file()
    served.unlink()
    assert load_weights("imagenet", home).description == fetched.description


def test_imagenet_weights_that_torchvision_has_are_used(state: dict, home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "torch/hub/checkpoints" / SOURCES["weights"].file
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
    with pytest.raises(WeightsError, match=r"(?s)no ImageNet weights in .*'--weights random'"):
        load_weights("imagenet", home)
    assert not (home.data / SOURCES["weights"].proof[0]).exists()
