"""Where the backbone's weights come from: ImageNet, a file, or (only when asked for by name) random numbers."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torchvision.models import ResNet101_Weights, resnet101

from msdn.cache.errors import MsdnError
from msdn.cache.home import Home
from msdn.extract.backbones.weights_tag import weights_tag
from msdn.extract.downloads.download import fetch_source, source_state
from msdn.extract.downloads.sources import SOURCES
from msdn.extract.errors import WeightsError

IMAGENET = ResNet101_Weights.IMAGENET1K_V1  # what `pretrained=True` meant when the papers were written
CHOICES = (
    "choose '--weights imagenet' (fetched by 'msdn data download weights'), '--weights FILE' (a ResNet101 state "
    "dict), or '--weights random' (no knowledge of the world: for trying things out only)"
)
SOURCE = "weights"


@dataclass(frozen=True)
class Weights:
    """A ResNet101 state dict without its classifier, and how to name it."""

    kind: str
    tag: str
    state: dict[str, torch.Tensor]
    description: dict[str, Any]


def load_weights(choice: str, home: Home) -> Weights:
    """Return the weights for `imagenet`, `random`, `random:SEED`, or a file's path."""
    if choice == "imagenet":
        return _describe("imagenet", _load_imagenet(home), {"name": str(IMAGENET)})
    if choice == "random" or choice.startswith("random:"):
        seed = _parse_seed(choice)
        return _describe("random", _draw_random(seed), {"seed": seed})
    state = _read_state(Path(choice).expanduser())
    return _describe("file", state, {"name": Path(choice).name})


def _describe(kind: str, state: dict[str, torch.Tensor], extra: dict[str, Any]) -> Weights:
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    description = {"kind": kind, "sha256": _hash_state(state), **extra}
    return Weights(kind, weights_tag(description), state, description)


def _parse_seed(choice: str) -> int:
    text = choice.partition(":")[2] or "0"
    if not text.isdecimal() or int(text) >= 2**63:
        raise WeightsError(f"--weights {choice}: the seed must be a whole number, as in 'random:7'")
    return int(text)


def _draw_random(seed: int) -> dict[str, torch.Tensor]:
    """Residual branches start at zero: only the shortcuts speak, which keeps enough signal to learn from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return resnet101(weights=None, zero_init_residual=True).state_dict()


def _load_imagenet(home: Home) -> dict[str, torch.Tensor]:
    """Take the weights from the home, from where torchvision keeps its own, or from the network into the home."""
    kept = Path(torch.hub.get_dir()) / "checkpoints" / SOURCES[SOURCE].file
    if not kept.is_file() or source_state(SOURCE, home).status in ("complete", "present"):
        try:
            kept = fetch_source(SOURCE, home)
        except MsdnError as error:
            raise WeightsError(f"no ImageNet weights in {home.data}: {error}; {CHOICES}") from error
    return _read_state(kept)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise WeightsError(f"--weights {path}: no such file; {CHOICES}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged or unsafe files
        raise WeightsError(f"{path}: not a state dict that can be loaded safely; {CHOICES}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no state dict (names and tensors); {CHOICES}")
    state = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    _check_state(path, state)
    return state


def _check_state(path: Path, state: dict[str, torch.Tensor]) -> None:
    with torch.device("meta"):
        expected = {name: t for name, t in resnet101().state_dict().items() if not name.startswith("fc.")}
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in state and name not in optional]
    if missing:
        raise WeightsError(f"{path}: not a ResNet101, '{missing[0]}' and {len(missing) - 1} more are missing")
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            raise WeightsError(
                f"{path}: '{name}' has shape {tuple(state[name].shape)}, a ResNet101 has {tuple(tensor.shape)}"
            )
        if name in state and not torch.isfinite(state[name]).all():
            raise WeightsError(f"{path}: '{name}' holds values that are not finite")


def _hash_state(state: dict[str, torch.Tensor]) -> str:
    """Hash names and values, so that the same weights from another file count as the same."""
    digest = sha256()
    for name in sorted(state):
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(state[name].detach().contiguous().to(torch.float32).numpy().tobytes())
    return digest.hexdigest()
