"""What an extraction must know of a network: its entry, how images are prepared for it, which maps are taken."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from msdn.cache.errors import WrongUsageError
from msdn.cache.layout import MAIN

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
CLASSIFIERS = (
    "fc.",
    "classifier.",
    "head.",
    "heads.",
)  # names of what lies behind the maps, in most libraries
TURNED = "turned upright by EXIF"  # in a recipe's words, where images are
HASH_DIGITS = 8  # of a file, enough to tell a few apart
MAP_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
POOLINGS = "pool=HxW (means over equal parts), pool=mean or pool=class (the class token)"


@dataclass(frozen=True)
class Preparation:
    """How an image becomes a network's input, square and RGB.

    Attributes:
        size: pixels of a side.
        resize: what the shorter side is scaled to before the centre is cut out; None: straight to `size`.
        squash: scale both sides to `resize` instead, whatever the image's shape.
        interpolation: one of Pillow's kinds.
        mean, std: of red, green and blue, on a scale from 0 to 1.
        upright: whether an image is first turned as its EXIF data says; the dataset decides, not the network.
    """

    size: int = 224
    resize: int | None = None
    squash: bool = False
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    upright: bool = False

    def __post_init__(self) -> None:
        """Refuse what no image can be prepared by."""
        if self.interpolation not in INTERPOLATIONS:
            raise WrongUsageError(
                f"interpolation '{self.interpolation}' is not known; choose one of {', '.join(INTERPOLATIONS)}"
            )

    def scale_to(self, size: int) -> "Preparation":
        """The same for another size: what is cut away keeps its share."""
        resize = None if self.resize is None else round(self.resize * size / self.size)
        return replace(self, size=size, resize=resize)

    @property
    def text(self) -> str:
        """The preparation in words, as the recipe keeps it."""
        to = f" to {self.resize}" if self.resize else ""
        what = f"both sides{to}" if self.squash else f"the shorter side{to}"
        usual = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        numbers = "ImageNet mean/std" if usual else f"mean {_join(self.mean)} std {_join(self.std)}"
        turned = TURNED if self.upright else "no EXIF rotation"
        return f"Pillow RGB, {turned}, {self.interpolation} resize of {what}, centre crop, {numbers}"


@dataclass(frozen=True)
class Backbone:
    """A network whose maps can be cached. A file of one's own says `BACKBONE = Backbone(build=build, …)`.

    Attributes:
        build: makes the network, with random weights; called with `image_size=` where it takes that.
        layer: the block whose output is the region map, by its dotted name; empty: where torchvision has it.
        preparation: how the network's own evaluation prepares images, at its own size.
        prefix_tokens: tokens before those of the image, where blocks give tokens [B, T, C]; the class token is first.
        pretrained_on: what its own weights were learnt from.
        weights_url: where these lie; a name that ends in -0123abcd.pth holds the beginning of their SHA-256.
        classifier: beginnings of the names of weights that no map depends on.
        name: as in `--backbone`; a file's own name where it is empty.
        library: where the network comes from.
        sha256: of the file that defines it.
        layers_by_index: the layers that `read` knows, last one the default; empty: any module.
        adapt: changes a state dict to fit a network that is built (another image size, other names).
        load: makes the network with a state dict, or with its own weights where that is None.
        read: takes several layers in one pass; None: by hooks.
    """

    build: Callable[..., "nn.Module"]
    layer: str = ""
    preparation: Preparation = Preparation()
    prefix_tokens: int | None = None
    pretrained_on: str = "not said"
    weights_url: str = ""
    classifier: tuple[str, ...] = CLASSIFIERS
    name: str = ""
    library: str = "file"
    sha256: str = ""
    adapt: Callable[["nn.Module", dict[str, "Tensor"]], dict[str, "Tensor"]] | None = None
    load: Callable[[int, dict[str, "Tensor"] | None], "nn.Module"] | None = None
    read: Callable[..., Any] | None = None

    def describe(self) -> dict[str, str]:
        """What the recipe keeps of it."""
        facts = {"name": self.name, "library": self.library}
        return facts | ({"sha256": self.sha256} if self.sha256 else {})

    @property
    def tag(self) -> str:
        """Its part of a cache's name; a file of one's own is told from another version of itself."""
        return _safe(self.name) + (f"_{self.sha256[:HASH_DIGITS]}" if self.sha256 else "")


@dataclass(frozen=True)
class MapChoice:
    """One map to be cached.

    Attributes:
        name: as in `--also`; the region map is called as the cache calls it.
        layer: the block it comes from; empty: the backbone's own.
        norm: whether the network's last norm is applied (timm); None: at the backbone's own layer only.
        pool: nothing, "HxW", or "class".
    """

    name: str = MAIN
    layer: str = ""
    norm: bool | None = None
    pool: str = ""

    def describe(self) -> dict[str, Any]:
        """What the recipe keeps of it, when `layer` is settled."""
        return {
            key: value for key, value in asdict(self).items() if key != "name" and value not in ("", None)
        }

    @property
    def tag(self) -> str:
        """How the choice is written in a file's name."""
        norm = {None: "", True: "_norm", False: "_raw"}[self.norm]
        return (f"@{self.layer}" if self.layer else "") + norm + (f"_{self.pool}" if self.pool else "")


@dataclass(frozen=True)
class Plan:
    """A backbone, the preparation at the size asked for, and the maps to take: all that names and recipes need."""

    backbone: Backbone
    preparation: Preparation
    maps: tuple[MapChoice, ...] = field(default=(MapChoice(),))

    def turn_upright(self, upright: bool) -> "Plan":
        """The same, with images turned as their EXIF data says, or not."""
        return replace(self, preparation=replace(self.preparation, upright=upright))

    @property
    def tag(self) -> str:
        """The backbone and the maps in a cache's name; nothing for the ResNet101 that published features come from."""
        main, *others = self.maps
        more = "".join(
            f"+{choice.name}" + ("" if choice == GLOBAL else choice.tag)
            for choice in sorted(others, key=lambda c: c.name)
        )
        tag = self.backbone.tag + _safe(main.tag) + _safe(more)
        return "" if tag == DEFAULT_NAME else tag

    def describe(self) -> dict[str, Any]:
        """What the recipe keeps of it."""
        maps = {choice.name: self._settle(choice).describe() for choice in self.maps}
        return {
            "backbone": self.backbone.describe() | ({"tag": self.tag} if self.tag else {}),
            "maps": maps,
            "transform": self.preparation.text,
            "image_size": self.preparation.size,
        }

    def _settle(self, choice: MapChoice) -> MapChoice:
        """Say the layer, and of timm's networks whether its output is normed: at the backbone's own layer only."""
        layer = choice.layer or self.backbone.layer
        is_normed = (
            layer == self.backbone.layer if choice.norm is None and self.backbone.read else choice.norm
        )
        return replace(choice, layer=layer, norm=is_normed)


DEFAULT_NAME = "resnet101"
GLOBAL = MapChoice("global", pool="1x1")


def make_plan(backbone: Backbone, image_size: int | None, layer: str, also: tuple[str, ...]) -> Plan:
    """Settle what is asked for on the command line."""
    preparation = backbone.preparation
    if image_size is not None and image_size != preparation.size:
        preparation = preparation.scale_to(image_size)
    maps = (_parse_choice(MAIN, layer, f"--layer {layer}"), *map(parse_map, also))
    maps = tuple(replace(m, layer="") if m.layer == backbone.layer else m for m in maps)
    names = [choice.name for choice in maps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise WrongUsageError(f"--also: '{twice}' is the name of two maps; every map needs its own name")
    return Plan(backbone, preparation, maps)


def parse_map(text: str) -> MapChoice:
    """Read `--also NAME[=LAYER][,norm|raw][,pool=HxW]`; `global` alone is the mean over all regions."""
    head, comma, rest = text.partition(",")
    name, _, layer = head.partition("=")
    if not MAP_NAME.fullmatch(name):
        raise WrongUsageError(f"--also {text}: a map's name may have only small letters, digits and _")
    choice = _parse_choice(name, layer + comma + rest, f"--also {text}")
    return replace(choice, pool="1x1") if name == GLOBAL.name and not choice.pool else choice


def _parse_choice(name: str, text: str, said: str) -> MapChoice:
    layer, *words = text.split(",")
    choice = MapChoice(name, layer)
    for word in words:
        key, _, value = word.partition("=")
        if word in ("norm", "raw"):
            choice = replace(choice, norm=word == "norm")
        elif key == "pool" and value in ("mean", "class"):
            choice = replace(choice, pool="1x1" if value == "mean" else value)
        elif key == "pool" and re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}", value):
            choice = replace(choice, pool=value)
        else:
            raise WrongUsageError(
                f"{said}: '{word}' is not known; after the layer, write norm, raw, {POOLINGS}"
            )
    return choice


def weights_tag(description: Mapping[str, Any]) -> str:
    """Return the name of weights that are described as in a cache's provenance."""
    kind: str = description["kind"]
    if kind == "random" and description["seed"] != 0:
        return f"random{description['seed']}"
    return f"file_{description['sha256'][:HASH_DIGITS]}" if kind == "file" else kind


def features_tag(provenance: Mapping[str, Any]) -> str:
    """Name backbone, maps and weights in a cache's file name, so that features of different ones never collide.

    It holds no hyphen: names are divided there.
    """
    backbone = provenance.get("backbone")
    tag = str(backbone.get("tag", "")) if isinstance(backbone, Mapping) else ""
    return (f"{_safe(tag)[:150]}_" if tag else "") + weights_tag(provenance["weights"])


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+@]", "_", text)


def _join(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
