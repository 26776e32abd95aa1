"""The networks of timm as backbones: `timm:NAME`, read through `forward_intermediates`."""

import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from msdn.cache.errors import UnknownNameError
from msdn.extract.backbones.entry import Backbone, MapChoice, Preparation
from msdn.extract.backbones.network import name_blocks
from msdn.extract.errors import ExtractError, WeightsError
from msdn.machine import how_to_install

PREFIX = "timm:"
PRETRAINED = {  # part of timm's own tags -> what was learnt from, looked for in this order
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "webli": "WebLI",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "datacompxl": "DataComp-XL",
    "openai": "WIT-400M",
    "metaclip": "MetaCLIP",
    "merged2b": "Merged-2B",
    "in22k": "ImageNet-22k",
    "in21k": "ImageNet-21k",
    "in12k": "ImageNet-12k",
    "in1k": "ImageNet-1k",
}
MISSING_KEYS = re.compile(r"^Missing keys \((.*?)\) discovered", re.DOTALL)


def find_timm(name: str) -> Backbone:
    """Return the entry of `timm:NAME`."""
    timm = import_timm()
    model = name.removeprefix(PREFIX)
    if not timm.is_model(model):
        raise UnknownNameError(
            "backbone",
            name,
            [PREFIX + known for known in _near(model, timm)],
            "; 'msdn backbones timm:*' lists all",
        )
    config = timm.data.resolve_data_config(pretrained_cfg=_config(model))
    size, mode = config["input_size"][1], config["crop_mode"]
    if mode not in ("center", "squash"):
        raise ExtractError(f"{name}: its evaluation prepares images by '{mode}', which is not supported here")
    resize = int(size / config["crop_pct"])
    preparation = Preparation(
        size,
        None if resize == size else resize,
        mode == "squash",
        config["interpolation"],
        config["mean"],
        config["std"],
    )
    network = _build(model, size, on="meta")
    layers = [str(info["module"]) for info in getattr(network, "feature_info", [])]
    if not layers or not hasattr(network, "forward_intermediates"):
        raise ExtractError(f"{name}: timm gives no maps of this network (it has no forward_intermediates)")
    return Backbone(
        build=lambda image_size: _build(model, image_size),
        layer=layers[-1],
        preparation=preparation,
        prefix_tokens=getattr(network, "num_prefix_tokens", None),
        pretrained_on=_pretrained_on(str(_config(model).get("tag") or "")),
        name=name,
        library="timm",
        load=partial(_load, model),
        read=read_intermediates,
    )


def import_timm() -> Any:
    """Import timm, or say how to get it."""
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise ExtractError(f"timm is not installed; {how_to_install('timm')}") from error
    return timm


def list_timm() -> list[str]:
    """Name every network of timm that has weights, without the prefix."""
    return list(import_timm().list_models(pretrained=True))


def _near(model: str, timm: Any) -> list[str]:
    """The networks whose names begin alike."""
    for length in range(len(model), 2, -1):
        near = timm.list_models(f"{model[:length]}*")
        if near:
            return list(near[:12])
    return ["resnet50", "vit_base_patch14_dinov2", "vit_base_patch16_224"]


def _config(model: str) -> dict[str, Any]:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model)
    return config.to_dict() if config is not None else {}


def _pretrained_on(tag: str) -> str:
    found = [name for part, name in PRETRAINED.items() if part in tag]
    return ", then ".join(found) if found else tag or "nothing"


def _build(model: str, image_size: int, on: str = "cpu", **options: Any) -> nn.Module:
    """Make the network without classifier; where its size is fixed when it is made, for this one."""
    timm = import_timm()
    config = _config(model)
    own_size = (config.get("input_size") or (3, 224, 224))[1]
    if config.get("fixed_input_size") and image_size != own_size:
        options["img_size"] = image_size
    with torch.device(on):
        return timm.create_model(model, num_classes=0, **options)


def _load(model: str, image_size: int, state: dict[str, Tensor] | None) -> nn.Module:
    """Make the network with timm's own weights or with a state dict, changed by timm to fit it.

    What a state dict lacks, timm only logs, and would leave random.
    """
    name = PREFIX + model
    options: dict[str, Any] = (
        {} if state is None else {"pretrained_cfg_overlay": {"state_dict": state, "source": ""}}
    )
    watch = _MissingKeys()
    logger = logging.getLogger("timm.models._builder")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(watch)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        network = _build(model, image_size, pretrained=True, **options)
    except Exception as error:  # the hub's library and timm raise many kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if state is None:
            raise WeightsError(
                f"{name}: its own weights could not be fetched ({reason}); go online, or choose '--weights FILE' or "
                "'--weights random' (never trained: only for trying things out)"
            ) from error
        raise WeightsError(f"the weights are not those of {name}: {reason}") from error
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)
        logger.propagate = propagate
    if watch.names:
        raise WeightsError(f"not a {name}, '{watch.names[0]}' and {len(watch.names) - 1} more are missing")
    return network


class _MissingKeys(logging.Handler):
    """Hears which weights a network did not get."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = MISSING_KEYS.match(record.getMessage())
        if found:
            self.names += found[1].split(", ")


def read_intermediates(
    network: Any, choices: Sequence[MapChoice], backbone: Backbone, pixels: Tensor
) -> list[Tensor]:
    """Return the maps [B, h, w, C] of `choices`, whose layers are settled, in one pass.

    `norm=True` would norm every block asked for, so where choices differ the last norm is applied here.
    """
    layers = name_blocks(network)
    indices = sorted({layers.index(choice.layer) for choice in choices})
    norms = [choice.layer == layers[-1] if choice.norm is None else choice.norm for choice in choices]
    if any(choice.norm for choice in choices):
        _last_norm(network, backbone)
    at_once = len(set(norms)) == 1
    wants_class = any(choice.pool == "class" for choice in choices)
    options: dict[str, Any] = {"norm": norms[0] and at_once, "intermediates_only": True, "stop_early": True}
    if wants_class:
        options["return_prefix_tokens"] = True
    given = network.forward_intermediates(pixels, indices=indices, **options)
    maps = dict(zip(indices, given, strict=True))
    taken = []
    for choice, norm in zip(choices, norms, strict=True):
        value = maps[layers.index(choice.layer)]
        spatial, prefix = value if isinstance(value, tuple) else (value, None)
        if choice.pool == "class":
            _require_class_token(network, backbone, prefix)
            chosen = prefix[:, :1, None]  # [B, 1, 1, C]
        else:
            chosen = spatial.permute(0, 2, 3, 1)  # [B, C, h, w] -> [B, h, w, C]
        taken.append(_last_norm(network, backbone)(chosen) if norm and not at_once else chosen)
    return taken


def _require_class_token(network: nn.Module, backbone: Backbone, prefix: Tensor | None) -> None:
    if prefix is None or getattr(network, "cls_token", None) is None:
        raise ExtractError(f"{backbone.name} has no class token; pool=mean is the mean over its regions")


def _last_norm(network: nn.Module, backbone: Backbone) -> nn.Module:
    norm = getattr(network, "norm", None)
    if not isinstance(norm, nn.LayerNorm) or type(norm).__name__.endswith("2d"):
        raise ExtractError(
            f"{backbone.name} has no last norm that can be applied to one map: leave out 'norm'"
        )
    return norm
