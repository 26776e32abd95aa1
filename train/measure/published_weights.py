"""Checkpoints of the published MSDN: recognised by their keys, compared with a cache, loaded into our model."""

import dataclasses
import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdn.cache import FeatureCache
from msdn.train.errors import CheckpointError
from msdn.train.models.msdn import MsdnSettings
from msdn.train.models.msdn.network import Msdn, build_msdn
from msdn.train.models.parts.classes import ClassSpace
from msdn.train.models.parts.problem import problem_of

# The release's names of the parameters, ours, and whether theirs is the transpose of ours.
PARAMETERS = {
    "V": ("word_vectors", False),
    "W_1": ("av_score", False),
    "W_2": ("av_attention", False),
    "W_1_1": ("va_score", True),
    "W_2_1": ("va_attention", False),
}
_READ = ("att", "mask_bias", "bias", *PARAMETERS)
_UNUSED = ("W_3", "W_3_1", "weight_ce", "prob_prune")  # stored, but no score of the release depends on them
_BACKBONE = "resnet101."
_WRAPPERS = ("state_dict", "model")
_TOLERANCE = 1e-3  # half precision rounds numbers up to 1 by a quarter of that at most


@dataclass(frozen=True)
class Released:
    """A published checkpoint, ready to be measured on the cache it was loaded for.

    Attributes:
        model: our MSDN with its weights.
        margin: the size of its margin between unseen and seen classes; 1 as published.
        sha256: of the file.
        backbone_tensors: how many tensors of a backbone it holds; they were left out.
    """

    model: Msdn
    margin: float
    sha256: str
    backbone_tensors: int


def load_released(path: Path, cache: FeatureCache, settings: MsdnSettings) -> Released:
    """Load a published checkpoint for the classes and features of a cache; no code in the file is run.

    Raises a `CheckpointError` if it is none, or does not belong to the cache's attributes or splits.
    """
    content = path.read_bytes()
    state = _read_state(path, content)
    _check_keys(path, state)
    tensors = {name: _as_numbers(path, name, state[name]) for name in _READ}
    _check_shapes(path, tensors, cache)
    model = _fill_model(tensors, cache, settings)
    _check_attributes(path, tensors["att"], model.classes, cache)
    return Released(
        model,
        _find_margin(path, tensors, model.classes, cache),
        sha256(content).hexdigest(),
        sum(name.startswith(_BACKBONE) for name in state),
    )


def _read_state(path: Path, content: bytes) -> dict[str, Any]:
    """The state dict, out of its wrapper and without the prefix of `DataParallel`."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damaged bytes lead to
        raise CheckpointError(
            f"{path}: not a readable file of weights (cut short, or it holds more than tensors and plain values); "
            "get it again"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, expected a state dict of MSDN")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _check_keys(path: Path, state: dict[str, Any]) -> None:
    missing = [name for name in _READ if name not in state]
    if missing:
        raise CheckpointError(
            f"{path}: no checkpoint of the published MSDN, it lacks {', '.join(missing)}; "
            "a run of 'msdn train' is evaluated with --run"
        )
    strange = [name for name in state if name not in (*_READ, *_UNUSED) and not name.startswith(_BACKBONE)]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise CheckpointError(
            f"{path}: no checkpoint of the published MSDN, which has no {', '.join(strange[:3])}{more}; "
            "give one with the released parameters only"
        )


def _as_numbers(path: Path, name: str, value: Any) -> Tensor:
    """A tensor in float32, from whatever precision it is stored in."""
    known = (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and (value.is_floating_point() or value.dtype == torch.int64)
    )
    if not known:
        raise CheckpointError(f"{path}: {name} is not a table of numbers; get the file again")
    numbers: Tensor = value.detach().float()
    if not torch.isfinite(numbers).all():
        raise CheckpointError(f"{path}: {name} holds numbers that are not finite; get the file again")
    return numbers


def _check_shapes(path: Path, tensors: dict[str, Tensor], cache: FeatureCache) -> None:
    c, k = cache.annotations.attributes.shape
    f = cache.shape[3]
    d = tensors["V"].shape[-1] if tensors["V"].dim() else 0
    expected = {"att": (c, k), "mask_bias": (1, c), "V": (k, d), "W_1_1": (f, d)}
    expected |= dict.fromkeys(("W_1", "W_2", "W_2_1"), (d, f))
    if tensors["bias"].numel() != 1:  # one number as published, of whatever shape
        expected["bias"] = (1, c)
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{path}: {name} is {list(tensors[name].shape)}, expected {list(shape)} for {cache.path} "
                f"({c} classes, {k} attributes, {f} channels); give the cache of the dataset it was trained on"
            )


def _check_attributes(path: Path, attributes: Tensor, classes: ClassSpace, cache: FeatureCache) -> None:
    differences = (attributes - classes.attributes).abs().amax(dim=1)  # [C]
    wrong = torch.nonzero(differences > _TOLERANCE).flatten().tolist()
    if wrong:
        raise CheckpointError(
            f"{path}: its attributes differ from those of {cache.path} in {len(wrong)} of {len(attributes)} "
            f"classes, first '{cache.annotations.class_names[wrong[0]]}' (by up to {float(differences.max()):.2g}); "
            "is the order of classes or attributes another one, or the dataset?"
        )


def _find_margin(path: Path, tensors: dict[str, Tensor], classes: ClassSpace, cache: FeatureCache) -> float:
    """The size of the margins, which have to be negative on the cache's seen classes and positive on all others."""
    margins = (tensors["mask_bias"] * tensors["bias"]).flatten()  # [C]
    size = float(margins.abs().max()) or 1.0
    expected = torch.where(classes.seen, -size, size)
    wrong = torch.nonzero(~torch.isclose(margins, expected)).flatten().tolist()
    if wrong:
        first = wrong[0]
        raise CheckpointError(
            f"{path}: its margin of class '{cache.annotations.class_names[first]}' is {float(margins[first]):+g}, "
            f"expected {float(expected[first]):+g}, for in {cache.path} the class is "
            f"{'seen' if classes.seen[first] else 'not seen'} ({len(wrong)} of {len(margins)} classes differ); "
            "give a cache with the splits it was trained on"
        )
    return size


def _fill_model(tensors: dict[str, Tensor], cache: FeatureCache, settings: MsdnSettings) -> Msdn:
    problem = dataclasses.replace(problem_of(cache), attribute_vectors=tensors["V"].numpy())
    model = build_msdn(problem, dataclasses.replace(settings, vectors="given"))
    state = {
        ours: tensors[theirs].T if transposed else tensors[theirs]
        for theirs, (ours, transposed) in PARAMETERS.items()
    }
    model.load_state_dict(state)
    return model
