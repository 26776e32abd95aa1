"""Weights: found, refused with a sentence, never unpickled unsafely, never random unasked."""

import functools
import hashlib
import http.server
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision.models import resnet101

from msdn.extract import weights as module
from msdn.extract.errors import WeightsError
from msdn.extract.weights import load_weights


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
    plain = load_weights(save(tmp_path / "a.pth", state))
    wrapped = load_weights(
        save(tmp_path / "b.pth", {"state_dict": {f"module.{k}": v for k, v in state.items()}})
    )
    assert plain.kind == "file" and plain.tag.startswith("file_")
    assert plain.description["sha256"] == wrapped.description["sha256"]


def test_files_that_are_no_resnet101_are_refused(tmp_path: Path, state: dict) -> None:
    def refuse(value: object, message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            load_weights(save(tmp_path / "x.pth", value))

    refuse([1, 2], "holds no state dict")
    refuse({"a": torch.zeros(1)}, "not a ResNet101, 'conv1.weight' and 519 more are missing")
    refuse(
        state | {"conv1.weight": torch.zeros(2)},
        r"'conv1.weight' has shape \(2,\), a ResNet101 has \(64, 3, 7, 7\)",
    )
    refuse(state | {"bn1.bias": torch.full((64,), torch.nan)}, "'bn1.bias' holds values that are not finite")
    with pytest.raises(WeightsError, match="no such file; choose '--weights imagenet'"):
        load_weights(str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="not a state dict that can be loaded safely"):
        load_weights(str(tmp_path / "text.pth"))


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb.pth").write_bytes(pickle.dumps({"conv1.weight": Bomb()}))
    for path in ("bomb.pth", save(tmp_path / "bomb2.pth", {"conv1.weight": Bomb()})):
        with pytest.raises(WeightsError, match="not a state dict that can be loaded safely"):
            load_weights(path)
    assert not Path("exploded").exists()


def test_random_weights_follow_their_seed_and_leave_torch_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = load_weights("random"), load_weights("random:0"), load_weights("random:7")
    assert torch.equal(before, torch.get_rng_state())
    assert first.description == again.description and first.tag == "random"
    assert other.description["sha256"] != first.description["sha256"] and other.tag == "random7"
    with pytest.raises(WeightsError, match="the seed must be a whole number"):
        load_weights("random:x")


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


def serve_as_imagenet(monkeypatch, tmp_path: Path, url: str) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(module, "IMAGENET", SimpleNamespace(url=url))


def test_imagenet_weights_are_fetched_checked_and_kept(
    server, state: dict, tmp_path: Path, monkeypatch
) -> None:
    save(server.folder / "tmp", state)
    digest = hashlib.sha256((server.folder / "tmp").read_bytes()).hexdigest()[:8]
    served = (server.folder / "tmp").rename(server.folder / f"resnet101-{digest}.pth")
    serve_as_imagenet(monkeypatch, tmp_path, f"{server.url}/{served.name}")
    fetched = load_weights("imagenet")
    assert fetched.kind == fetched.tag == "imagenet"
    served.unlink()
    assert load_weights("imagenet").description == fetched.description  # from torchvision's cache


@pytest.mark.parametrize("file", ["resnet101-00000000.pth", "none-00000000.pth"])
def test_wrong_or_missing_imagenet_weights_name_the_choices(
    server, file: str, tmp_path: Path, monkeypatch
) -> None:
    (server.folder / "resnet101-00000000.pth").write_bytes(b"tampered")
    serve_as_imagenet(monkeypatch, tmp_path, f"{server.url}/{file}")
    with pytest.raises(WeightsError, match=r"neither in .* nor to be had from http.*'--weights random'"):
        load_weights("imagenet")


def test_no_network_names_the_choices(tmp_path: Path, monkeypatch) -> None:
    serve_as_imagenet(monkeypatch, tmp_path, "http://127.0.0.1:9/resnet101-00000000.pth")
    with pytest.raises(WeightsError, match=r"ImageNet weights are neither in .*choose '--weights imagenet'"):
        load_weights("imagenet")
