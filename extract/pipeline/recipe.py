"""Everything that decides the bits of a feature: fixed in a cache at its start, compared at every resume."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from PIL import features

import msdn
from msdn.cache.layout import ANNOTATIONS
from msdn.cache.parts import compare_recipes
from msdn.extract.backbones.entry import Plan
from msdn.extract.backbones.frozen import describe_compiler
from msdn.extract.backbones.weights import Weights
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import ExtractError
from msdn.extract.opening import uses_extra
from msdn.machine import bfloat16_units


def write_recipe(
    dataset: Dataset,
    plan: Plan,
    weights: Weights,
    device: torch.device,
    arithmetic: Mapping[str, Any],
    dtype: str,
    block_rows: int,
) -> dict[str, Any]:
    """Return the cache's provenance: plain JSON values only; `arithmetic` is as `FrozenNetwork.describe` says it."""
    return {
        "dataset": dataset.annotations.dataset,
        ANNOTATIONS: dataset.sources,
        **plan.describe(),
        "weights": weights.description,
        **arithmetic,
        "dtype": dtype,
        "block_rows": block_rows,
        "device": _describe_device(device, arithmetic["precision"]),
        "versions": {
            "msdn": msdn.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
            "libjpeg": features.version("jpg"),
            "cuda": torch.version.cuda if device.type == "cuda" else None,
            "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
            **({"compiler": describe_compiler(device)} if arithmetic["compiled"] else {}),
            **({"timm": metadata.version("timm")} if plan.backbone.library == "timm" else {}),
            **({"pillow_heif": metadata.version("pillow-heif")} if _has_heif(dataset) else {}),
        },
    }


def _has_heif(dataset: Dataset) -> bool:
    return any(map(uses_extra, map(Path, dataset.annotations.image_paths)))


def _describe_device(device: torch.device, precision: str) -> dict[str, Any]:
    if device.type == "cpu":
        name = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        units = bfloat16_units() if precision != "float32" else ""
        # threads: how sums are divided among them can change their last bit
        return {
            "kind": "cpu",
            "name": f"{name} {units}".rstrip(),
            "threads": torch.get_num_threads(),
        }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"kind": device.type, "name": name}


AGAIN = "repeat the first command, or start again with --restart"
ARITHMETIC = ("precision", "batch_norm", "compiled")
REQUESTED = (
    *("dataset", "backbone", "maps", "weights", "transform", "image_size"),
    *("precision", "dtype", "block_rows"),
)


def check_request(stored: Mapping[str, Any], now: Mapping[str, Any], file: str) -> None:
    """Refuse to take a complete cache for one that was asked for otherwise; where it was made is no matter."""
    check_recipe({key: stored.get(key) for key in REQUESTED}, {key: now.get(key) for key in REQUESTED}, file)


def check_recipe(stored: Mapping[str, Any], now: Mapping[str, Any], file: str, advice: str = AGAIN) -> None:
    """Refuse to go on with a file of another recipe, naming every difference and what to do."""
    differences = [
        f"{name} was {before}, now {after}" for name, before, after in compare_recipes(stored, now)
    ]
    if differences:
        raise ExtractError(f"{file} was started with other options ({'; '.join(differences)}); {advice}")
