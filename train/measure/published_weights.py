"""Files of published weights: read without running code, and compared with the cache they are to be measured on.

What a model's authors called its parameters stands in that model's folder, beside its network.
"""

import dataclasses
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdn.cache import FeatureCache
from msdn.cache.zips import check_stored
from msdn.train.errors import CheckpointError, SettingsError
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.settings import RunSettings
from msdn.train.models.parts.base import ZslModel
from msdn.train.models.parts.classes import ClassSpace
from msdn.train.models.parts.problem import AttributeGroup, Problem, problem_of
from msdn.train.models.registry import find_model

_CLASS_TENSORS = ("att", "mask_bias", "bias")  # what the published classes store of the dataset's classes
_BACKBONE = "resnet101."
_WRAPPERS = ("state_dict", "model")
_TOLERANCE = 1e-3  # half precision rounds numbers up to 1 by a quarter of that at most
_NAMED = 8  # missing tensors that an error lists


@dataclass(frozen=True)
class Published:
    """Published weights, ready to be measured on the cache they were loaded for.

    Attributes:
        model: our model with the weights.
        margin: the size of its margin between unseen and seen classes; 1 as published.
        sha256: of the file.
        backbone_tensors: how many tensors of a backbone it holds; they were left out.
        groups: the attributes in groups, for a model that takes them.
    """

    model: ZslModel
    margin: float
    sha256: str
    backbone_tensors: int
    groups: AttributeGroups | None


def load_published(
    path: Path, cache: FeatureCache, settings: RunSettings, groups: Path | None = None
) -> Published:
    """Load published weights of the settings' model for the classes and features of a cache.

    No code in the file is run. `groups` is a CSV of the attributes' groups, for a model that takes them.
    Raises a `CheckpointError` if it is none of that model, or does not belong to the cache's attributes or splits.
    """
    record = find_model(settings.model)
    if not record.published_weights:
        raise SettingsError(
            f"--checkpoint takes weights that a model's authors published, and msdn knows none of '{record.name}'; "
            "give a run of it with --run"
        )
    return record.read_published(PublishedFile(path, cache, settings.model.upper(), groups), settings)


class PublishedFile:
    """A state dict out of a file, and the cache it is to fit: what does not fit is refused with both their names.

    Attributes:
        path: the file.
        cache: the cache.
        state: the state dict, out of its wrapper and without the prefix of `DataParallel`.
        groups: the user's own file of attribute groups, if given.
    """

    def __init__(self, path: Path, cache: FeatureCache, model: str, groups: Path | None = None) -> None:
        """Read the file; `model` is what errors call the published model."""
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: not a file; give a file of weights")
        content = path.read_bytes()
        self.path, self.cache, self.groups = path, cache, groups
        self.state = _read_state(path, content, model)
        self._model, self._sha256 = model, sha256(content).hexdigest()

    def take(self, names: Collection[str], unused: Collection[str]) -> dict[str, Tensor]:
        """These parameters in float32, with those of the classes; `unused` are stored, but decide no score."""
        wanted = (*_CLASS_TENSORS, *names)
        missing = [name for name in wanted if name not in self.state]
        if missing:
            raise CheckpointError(
                f"{self.path}: not a checkpoint of the published {self._model}: it lacks {_list(missing, _NAMED)}; "
                "evaluate a run of 'msdn train' with --run, published weights of another model with --model NAME"
            )
        known = {*wanted, *unused}
        strange = [name for name in self.state if name not in known and not name.startswith(_BACKBONE)]
        if strange:
            raise CheckpointError(
                f"{self.path}: not a checkpoint of the published {self._model}, which has no {_list(strange, 3)}; "
                "give one with the released parameters only"
            )
        return {name: _as_numbers(self.path, name, self.state[name]) for name in wanted}

    def check_shapes(self, tensors: Mapping[str, Tensor], own: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse parameters of other shapes than `own`, or class tensors that are not of the cache's classes."""
        c, k = self.cache.annotations.attributes.shape
        _, height, width, f = self.cache.shape
        expected = {"att": (c, k), "mask_bias": (1, c), **own}
        if tensors["bias"].numel() != 1:  # one number as published, of whatever shape
            expected["bias"] = (1, c)
        for name, shape in expected.items():
            if tuple(tensors[name].shape) != shape:
                raise CheckpointError(
                    f"{self.path}: {name} is {list(tensors[name].shape)}, expected {list(shape)} for {self.cache.path} "
                    f"({c} classes, {k} attributes, {f} channels, {height}×{width} regions); "
                    "give the cache of the dataset and image size it was trained on"
                )

    def problem(self, vectors: Tensor, groups: tuple[AttributeGroup, ...] = ()) -> Problem:
        """The cache's problem with the file's attribute vectors: the cache need not hold any."""
        return dataclasses.replace(problem_of(self.cache, groups), attribute_vectors=vectors.numpy())

    def matched(
        self,
        model: ZslModel,
        tensors: Mapping[str, Tensor],
        classes: ClassSpace,
        groups: AttributeGroups | None = None,
    ) -> Published:
        """The filled model, once the file's classes are those of the cache; `att` is in the order of the groups."""
        attributes = classes.attributes
        if groups is not None:
            attributes = attributes[:, groups.order]
        self._check_attributes(tensors["att"], attributes)
        return Published(
            model,
            self._find_margin(tensors, classes),
            self._sha256,
            sum(name.startswith(_BACKBONE) for name in self.state),
            groups,
        )

    def _check_attributes(self, attributes: Tensor, expected: Tensor) -> None:
        differences = (attributes - expected).abs().amax(dim=1)  # [C]
        wrong = torch.nonzero(differences > _TOLERANCE).flatten().tolist()
        if wrong:
            raise CheckpointError(
                f"{self.path}: its attributes differ from those of {self.cache.path} in {len(wrong)} of "
                f"{len(attributes)} classes, first '{self.cache.annotations.class_names[wrong[0]]}' "
                f"(by up to {float(differences.max()):.2g}); check the dataset, the order of its classes "
                "and attributes, and the groups"
            )

    def _find_margin(self, tensors: Mapping[str, Tensor], classes: ClassSpace) -> float:
        """The margins' size: they have to be negative on the cache's seen classes and positive on all others."""
        margins = (tensors["mask_bias"] * tensors["bias"]).flatten()  # [C]
        size = float(margins.abs().max()) or 1.0
        expected = torch.where(classes.seen, -size, size)
        wrong = torch.nonzero(~torch.isclose(margins, expected)).flatten().tolist()
        if wrong:
            first = wrong[0]
            raise CheckpointError(
                f"{self.path}: its margin of class '{self.cache.annotations.class_names[first]}' is "
                f"{float(margins[first]):+g}, expected {float(expected[first]):+g}, because in {self.cache.path} the "
                f"class is {'seen' if classes.seen[first] else 'not seen'} ({len(wrong)} of {len(margins)} classes "
                "differ); give a cache with the splits it was trained on"
            )
        return size


def _read_state(path: Path, content: bytes, model: str) -> dict[str, Any]:
    try:
        check_stored(io.BytesIO(content))
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
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, expected a state dict of {model}")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


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


def _list(names: Sequence[str], shown: int) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
