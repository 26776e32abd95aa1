"""Where a backbone's weights come from: its own, a file, or (only when asked for by name) random numbers."""

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from msdn.cache.errors import MsdnError
from msdn.cache.files import sha256_of
from msdn.cache.home import Home
from msdn.cache.zips import check_stored
from msdn.extract.backbones.entry import Backbone, weights_tag
from msdn.extract.backbones.registry import build_network
from msdn.extract.backbones.torchvision_networks import drop_silent_branches, own_weights, silence_residuals
from msdn.extract.downloads.download import fetch_source, source_state, warn_of_change
from msdn.extract.downloads.sources import PLANS, SOURCES, Source
from msdn.extract.errors import WeightsError
from msdn.machine import how_to_install

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


@dataclass(frozen=True)
class Weights:
    """What a network's weights are, and how to name them."""

    kind: str
    description: dict[str, Any]

    @property
    def tag(self) -> str:
        """Their part of a cache's name."""
        return weights_tag(self.description)


def load_network(backbone: Backbone, choice: str, image_size: int, home: Home) -> tuple[nn.Module, Weights]:
    """Return the frozen network with the weights `imagenet` (its own), `random`, `random:SEED`, or a file's."""
    facts: dict[str, Any]
    seed = _parse_seed(choice) if choice == "random" or choice.startswith("random:") else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if choice == "imagenet":
            network = _load_own(backbone, image_size, home)
            facts = {"kind": "imagenet", **_name_own(backbone), "pretrained_on": backbone.pretrained_on}
        elif choice == "random" or choice.startswith("random:"):
            network = build_network(backbone, image_size)
            silence_residuals(network)
            facts = {"kind": "random", "seed": seed}
        else:
            path = Path(choice).expanduser()
            network = _load_state(backbone, image_size, read_state(path, backbone), path)
            facts = {"kind": "file", "name": path.name}
    network.requires_grad_(False).eval()
    weights = Weights(facts["kind"], {**facts, "sha256": _hash(network, backbone)})
    drop_silent_branches(network)
    return network, weights


def find_kept(backbone: Backbone, home: Home) -> Path | None:
    """The file of a backbone's own weights where it is here: in the home, or where torchvision keeps its own."""
    if not backbone.weights_url:
        return None
    file = backbone.weights_url.rpartition("/")[2]
    places = (home.data / "weights" / file, Path(torch.hub.get_dir()) / "checkpoints" / file)
    return next((path for path in places if path.is_file()), None)


def _choices(backbone: Backbone) -> str:
    return f"choose '--weights imagenet' (its own, fetched once), {_others(backbone)}"


def _others(backbone: Backbone) -> str:
    """The weights that need no download."""
    return (
        f"'--weights FILE' (a state dict of {backbone.name}), or '--weights random' (never trained: only for trying "
        "things out)"
    )


def _parse_seed(choice: str) -> int:
    text = choice.partition(":")[2] or "0"
    if not text.isdecimal() or int(text) >= 2**63:
        raise WeightsError(f"--weights {choice}: the seed must be a whole number, as in 'random:7'")
    return int(text)


def _name_own(backbone: Backbone) -> dict[str, str]:
    if backbone.library == "torchvision":
        return {"name": str(own_weights(backbone.name))}
    return {"name": backbone.weights_url.rpartition("/")[2] or f"{backbone.library}'s own"}


def _load_own(backbone: Backbone, image_size: int, home: Home) -> nn.Module:
    if backbone.load is not None:
        return backbone.load(image_size, None)
    if not backbone.weights_url:
        raise WeightsError(
            f"{backbone.name} has no weights of its own (weights_url); choose '--weights FILE' or '--weights random'"
        )
    path = _fetch_own(backbone, home)
    warn_of_change(path, sha256_of(path), home)
    return _load_state(backbone, image_size, read_state(path, backbone), path)


def _fetch_own(backbone: Backbone, home: Home) -> Path:
    """Take the file from the home, from where torchvision keeps its own, or from the network into the home."""
    source = _know_source(backbone)
    kept = find_kept(backbone, home)
    if kept is not None and source_state(source, home).status not in ("complete", "present"):
        return kept
    try:
        return fetch_source(source, home)
    except MsdnError as error:
        raise WeightsError(
            f"no weights of {backbone.name} in {home.data}: {error}; put {SOURCES[source].file} into "
            f"{home.data / 'weights'}, or choose {_others(backbone)}"
        ) from error


def _know_source(backbone: Backbone) -> str:
    """Make the file at `weights_url` known to the downloads, and return its name there."""
    file = backbone.weights_url.rpartition("/")[2]
    for name, source in SOURCES.items():
        if source.file == file:
            return name
    digest, name = HASH_IN_NAME.search(file), f"weights-{backbone.name}"
    SOURCES[name] = Source(
        file=file,
        mirrors=(backbone.weights_url,),
        proof=(f"weights/{file}",),
        checksum=("sha256", digest[1]) if digest else None,
        licence=SOURCES["weights"].licence if backbone.library == "torchvision" else Source.licence,
    )
    PLANS[name] = (name,)
    return name


def read_state(path: Path, backbone: Backbone) -> dict[str, torch.Tensor]:
    """Read a state dict without running anything a file may hold."""
    if not path.is_file():
        raise WeightsError(f"--weights {path}: no such file; {_choices(backbone)}")
    try:
        state = _read(path)
    except MsdnError:
        raise
    except Exception as error:  # torch raises many kinds on damaged or unsafe files
        raise WeightsError(
            f"{path}: not a state dict that can be loaded safely; {_choices(backbone)}"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no state dict (names and tensors); {_choices(backbone)}")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _read(path: Path) -> Any:
    if path.suffix != ".safetensors":
        check_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise WeightsError(
            f"{path}: reading safetensors needs the package safetensors; {how_to_install('timm')}"
        ) from error
    return load_file(path)


def _load_state(backbone: Backbone, image_size: int, state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    if backbone.load is not None:
        try:
            network = backbone.load(image_size, state)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
    else:
        network = build_network(backbone, image_size)
        state = backbone.adapt(network, state) if backbone.adapt else state
        _check_state(path, backbone, network, state)
        network.load_state_dict(_wanted(state, backbone), strict=False)
    for name, tensor in _wanted(network.state_dict(), backbone).items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: '{name}' holds values that are not finite")
    return network


def _wanted(state: dict[str, torch.Tensor], backbone: Backbone) -> dict[str, torch.Tensor]:
    """All but the classifier, and but counters that decide nothing."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(backbone.classifier) and not name.endswith("num_batches_tracked")
    }


def _check_state(path: Path, backbone: Backbone, network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    expected = _wanted(network.state_dict(), backbone)
    missing = [name for name in expected if name not in state]
    if missing:
        raise WeightsError(
            f"{path}: not a {backbone.name}, '{missing[0]}' and {len(missing) - 1} more are missing"
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise WeightsError(
                f"{path}: '{name}' has shape {tuple(state[name].shape)}, a {backbone.name} has {tuple(tensor.shape)}"
            )


def _hash(network: nn.Module, backbone: Backbone) -> str:
    """Hash names and values, so that the same weights from another file count as the same."""
    digest = sha256()
    state = _wanted(network.state_dict(), backbone)
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().contiguous().to(torch.float32).numpy().tobytes())
    return digest.hexdigest()
