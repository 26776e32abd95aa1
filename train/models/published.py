"""The papers' own figures, to stand beside ours: read from the `figures.toml` beside each model."""

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from msdn.train.errors import SettingsError
from msdn.train.models.registry import DEFAULT, presets_file

PAPER_FIGURES = ("acc", "U", "S", "H")  # those that papers state


@dataclass(frozen=True)
class Published:
    """Figures in percent as a paper states them; None for what it, or what we know of it, leaves out."""

    acc: float | None
    U: float | None
    S: float | None
    H: float | None
    source: str
    selection: str


def published_figures(model: str, dataset: str) -> Published | None:
    """What a paper states for a model on a dataset; None where nothing is known."""
    content = _read(model)
    stated = content.get("figures", {}).get(dataset)
    if stated is None:
        return None
    figures = {name: stated.get(name) for name in PAPER_FIGURES}
    return Published(
        **figures, source=stated.get("source", content["source"]), selection=content["selection"]
    )


def published_image_size(model: str) -> int | None:
    """The size of images, in pixels, that the authors' script reads, where it is known."""
    return _read(model).get("image_size")


def published_ablation(dataset: str) -> dict[str, Published]:
    """The rows of MSDN's Table 2 by the ablation's names for them; empty for a dataset that it leaves out."""
    content = _read(DEFAULT)
    source, selection = content["ablation_source"], content["selection"]
    return {
        name: Published(acc, None, None, h, source, selection)
        for name, (acc, h) in content["ablation"].get(dataset, {}).items()
    }


@cache
def _read(model: str) -> dict[str, Any]:
    file = presets_file(model).with_name("figures.toml")
    if not file.is_file():
        return {}
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read as TOML ({error})") from error
    if content.get("figures") and not {"source", "selection"} <= set(content):
        raise SettingsError(
            f"{file}: says neither 'source' nor 'selection' of its figures, or only one of them"
        )
    return content
