"""A cache's recipe repeated on other images: the same network, the same preparation, nothing written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdn.cache.errors import MsdnError
from msdn.cache.home import Home
from msdn.extract.backbones.entry import TURNED, Backbone, MapChoice, Plan
from msdn.extract.backbones.frozen import FrozenNetwork
from msdn.extract.backbones.network import has_batch_norm, restore_statistics
from msdn.extract.backbones.registry import find_backbone, is_file
from msdn.extract.backbones.weights import load_network
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline.reading import BlockReader, default_workers
from msdn.extract.pipeline.writing import misfit

_NEEDED = ("weights", "transform", "image_size", "precision", "block_rows")
_SHOWN = 12  # letters of a hash in a message


@dataclass(frozen=True)
class ImageFeatures:
    """One image's features [h, w, C] as a cache would store them, or why there are none."""

    row: int
    features: np.ndarray | None
    error: str = ""


class Repeater:
    """Computes features as a cache's recipe says; open it within `fixed_arithmetic`.

    In the recipe's precision, but never compiled: for few images that costs more than it saves, and what it changes
    is less than the precision's rounding.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        statistics: Mapping[str, np.ndarray],
        home: Home,
        device: torch.device,
        *,
        map: str,
        dtype: np.dtype,
        backbone: str | None = None,
        weights: str | None = None,
    ) -> None:
        """Build the network, and refuse one that is not the recipe's.

        Args:
            recipe: a cache's provenance.
            statistics: its batch-norm statistics, where its weights are random.
            home: where weights are looked for.
            device: where to compute.
            map: the map to compute.
            dtype: the type that features are rounded to.
            backbone: the file of a backbone of the user's own, where the recipe names one.
            weights: the file of weights, where the recipe names one.
        """
        missing = [name for name in _NEEDED if recipe.get(name) is None]
        if not missing and "sha256" not in recipe["weights"]:
            missing = ["weights sha256"]
        if missing:
            raise ExtractError(
                f"the features were imported, or their recipe is damaged: it has no '{missing[0]}', so they cannot "
                "be made of other images; predict for rows of the cache with --cache"
            )
        self.plan = plan_of(recipe, map, backbone)
        network, loaded = load_network(
            self.plan.backbone, _weights_of(recipe["weights"], weights), self.plan.preparation.size, home
        )
        expected = recipe["weights"]["sha256"]
        if loaded.description["sha256"] != expected:
            raise ExtractError(
                f"the weights of {self.plan.backbone.name} are not those of the recipe (sha256 "
                f"{loaded.description['sha256'][:_SHOWN]}, expected {expected[:_SHOWN]}); give those with --weights"
            )
        if loaded.kind == "random" and has_batch_norm(network):
            restore_statistics(network, dict(statistics))
        self._network = FrozenNetwork(network, self.plan, device, recipe["precision"], dtype)
        self._map, self._block_rows = map, recipe["block_rows"]

    def compute(self, paths: Sequence[Path], workers: int | None = None) -> Iterator[ImageFeatures]:
        """The features of every image in turn, a bounded number of them decoded ahead."""
        rows = range(len(paths))
        with BlockReader(
            paths, rows, self._block_rows, self.plan.preparation, workers or default_workers()
        ) as reader:
            for block in reader:
                found = {row: ImageFeatures(row, None, reason) for row, reason in block.bad.items()}
                if block.rows:
                    computed = self._network.compute(block.images)
                    for row, position in zip(block.rows, block.positions, strict=True):
                        reason = misfit(computed, position)
                        features = None if reason else computed.maps[self._map][position]
                        found[row] = ImageFeatures(row, features, reason)
                yield from (found[row] for row in sorted(found))


def plan_of(recipe: Mapping[str, Any], map: str, given: str | None) -> Plan:
    """The plan that made one map of a cache."""
    stored, choice = recipe.get("backbone"), recipe.get("maps", {}).get(map)
    is_whole = choice is not None and recipe.get("image_size") and recipe.get("transform")
    if not isinstance(stored, Mapping) or not is_whole:
        raise ExtractError(
            "the features were imported, so msdn cannot make them for other images; extract features with "
            "'msdn extract', or predict for rows of the cache with --cache"
        )
    backbone = _backbone_of(stored, given)
    preparation = backbone.preparation
    if recipe["image_size"] != preparation.size:
        preparation = preparation.scale_to(recipe["image_size"])
    preparation = replace(preparation, upright=TURNED in recipe["transform"])
    if preparation.text != recipe["transform"]:
        raise ExtractError(
            f"{backbone.name} now prepares images differently ({preparation.text}) than for these features "
            f"({recipe['transform']}); use the version of msdn that made them"
        )
    layer, norm, pool = choice["layer"], choice.get("norm"), choice.get("pool", "")
    return Plan(backbone, preparation, (MapChoice(map, layer, norm, pool),))


def _backbone_of(stored: Mapping[str, Any], given: str | None) -> Backbone:
    name, digest = stored["name"], stored.get("sha256", "")
    if stored["library"] != "file":
        if given is not None and given != name:
            raise ExtractError(
                f"the features come from the backbone {name}, not from {given}; leave --backbone out"
            )
        if is_file(name):  # its code would be run, and a recipe is anybody's
            raise ExtractError(
                f"the recipe names the file {name} as a network of {stored['library']}; it is damaged"
            )
        return find_backbone(name)
    if given is None:
        raise ExtractError(
            f"the features come from your own backbone, {name} (sha256 {digest[:_SHOWN]}); give its file with "
            "--backbone FILE.py"
        )
    backbone = find_backbone(given)
    if backbone.sha256 != digest:
        raise ExtractError(
            f"{given}: not the backbone that the features come from (sha256 {backbone.sha256[:_SHOWN]}, expected "
            f"{digest[:_SHOWN]}); give that one"
        )
    return backbone


def _weights_of(stored: Mapping[str, Any], given: str | None) -> str:
    """What `load_network` is told."""
    if stored["kind"] == "random":
        if given is not None:
            raise ExtractError(
                "the features come from random weights, which need no file; leave --weights out"
            )
        return f"random:{stored['seed']}"
    if given is None and stored["kind"] == "file":
        raise ExtractError(
            f"the features come from weights in a file, {stored.get('name', 'without a name')} (sha256 of its values "
            f"{stored['sha256'][:_SHOWN]}); give it with --weights FILE"
        )
    return given or "imagenet"


def same_features(first: Mapping[str, Any], second: Mapping[str, Any], map: str) -> bool:
    """Whether two recipes make the same features of an image, up to rounding."""

    def deciding(recipe: Mapping[str, Any]) -> tuple[Any, ...]:
        backbone = {name: value for name, value in recipe.get("backbone", {}).items() if name != "tag"}
        weights = recipe["weights"].get("sha256")
        return (backbone, recipe.get("maps", {}).get(map), weights, recipe["transform"], recipe["image_size"])

    try:
        return deciding(first) == deciding(second)
    except (KeyError, AttributeError) as error:
        raise MsdnError("imported features cannot be compared with others") from error
