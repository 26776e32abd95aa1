"""Finds a backbone by its name, or in a Python file of one's own; torch is loaded when one is looked for."""

import fnmatch
import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from msdn.cache.errors import MsdnError, WrongUsageError, nearest
from msdn.cache.files import sha256_of
from msdn.extract.backbones.entry import Backbone
from msdn.extract.backbones.families import FAMILY_OF
from msdn.extract.errors import ExtractError

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm:"
ADVICE = "'msdn backbones' lists all; timm:NAME is a network of timm, if it is installed; FILE.py is your own network"


def find_backbone(name: str) -> Backbone:
    """Return the entry of a name, of `timm:NAME`, or of a file; a file's code is run, so only the user names one."""
    if is_file(name):
        return _read_file(Path(name).expanduser())
    if name.startswith(TIMM):
        from msdn.extract.backbones.timm_networks import find_timm

        return find_timm(name)
    from msdn.extract.backbones.torchvision_networks import find_torchvision

    if name not in FAMILY_OF:
        raise WrongUsageError(f"unknown backbone '{name}'. {nearest(name, FAMILY_OF)}{ADVICE}")
    return find_torchvision(name)


def is_file(name: str) -> bool:
    """Whether the name is that of a file, whose code is run to find the backbone."""
    return name.endswith(".py")


def list_backbones(pattern: str = "*") -> list[str]:
    """Name torchvision's networks, or those of timm for a pattern such as timm:*dinov2*."""
    if pattern.startswith(TIMM):
        from msdn.extract.backbones.timm_networks import list_timm

        return [TIMM + name for name in fnmatch.filter(list_timm(), pattern.removeprefix(TIMM))]

    return fnmatch.filter(sorted(FAMILY_OF, key=_by_number), pattern)


def build_network(backbone: Backbone, image_size: int) -> "nn.Module":
    """Make the network with random weights, for images of that size."""
    import inspect

    from torch import nn

    takes_size = "image_size" in inspect.signature(backbone.build).parameters
    try:
        network = backbone.build(image_size=image_size) if takes_size else backbone.build()
    except MsdnError:
        raise
    except Exception as error:  # a library's or a user's own code
        raise ExtractError(
            f"{backbone.name} cannot be built for images of {image_size} pixels ({_first_line(error)}); its default "
            f"size is {backbone.preparation.size}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ExtractError(
            f"{backbone.name}: build() returned {type(network).__name__}, expected a torch.nn.Module"
        )
    return network


def _read_file(path: Path) -> Backbone:
    """Run the file and take its BACKBONE, or make an entry for its build()."""
    if not path.is_file():
        raise ExtractError(f"--backbone {path}: no such file")
    module = _run(path)
    entry = getattr(module, "BACKBONE", None)
    if entry is None and callable(getattr(module, "build", None)):
        entry = Backbone(build=module.build)
    if not isinstance(entry, Backbone):
        raise ExtractError(
            f"{path}: defines neither a function build() nor BACKBONE; end it with 'from msdn.extract.backbones import "
            "Backbone' and 'BACKBONE = Backbone(build=build)'"
        )
    digest = sha256_of(path)
    entry = replace(entry, name=entry.name or path.stem, library="file", sha256=digest)
    return entry if entry.layer else replace(entry, layer=_settle_layer(path, entry))


def _run(path: Path) -> ModuleType:
    name = f"msdn_backbone_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ExtractError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look for it there
    try:
        spec.loader.exec_module(module)
    except MsdnError:
        raise
    except Exception as error:
        raise ExtractError(f"{path}: cannot be run: {type(error).__name__}: {_first_line(error)}") from error
    return module


def _settle_layer(path: Path, entry: Backbone) -> str:
    from msdn.extract.backbones.torchvision_networks import guess_layer

    network = build_network(entry, entry.preparation.size)
    layer = guess_layer(network)
    if not layer:
        parts = ", ".join(name for name, _ in network.named_children())
        raise ExtractError(
            f"{path}: it is unknown which block gives the region map; name it: BACKBONE = Backbone(build=build, "
            f"layer='NAME'); the network's parts: {parts}"
        )
    return layer


def _by_number(name: Any) -> list[tuple[int, int, str]]:
    """Sort resnet50 before resnet101."""
    return [
        (part.isdigit(), int(part or 0) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)
    ]


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
