"""A small home to report on: names that mean something to HTML, LaTeX and terminals, images, a run chosen on val."""

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image
from toy_runs import split_annotations, write_split_cache

from msdn.cache import FeatureCache, Home
from msdn.extract.backbones.entry import make_plan
from msdn.extract.backbones.registry import find_backbone
from msdn.train.loop.training import train_model
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run

NAMES = {
    3: "[red]x[/]",
    4: "quoted \"a\" & 'b' #1c2024",
    5: "escape \x1b[31mred",
    8: "<script>alert(1)</script>",
    9: "$\\frac{1}{2}$ 50%",
    6: "鳥 طائر \ufffe",
    10: "</style></svg><img src=x onerror=alert(2)>",
}


def make_report_home(root: Path, images: bool = True) -> tuple[Home, FeatureCache]:
    """A home with a cache whose images lie in a folder beside it."""
    annotations = split_annotations(per_class=10)
    names = tuple(NAMES.get(c, name) for c, name in enumerate(annotations.class_names))
    attributes = tuple(f"<b>[red]{name}</b>" for name in annotations.attribute_names)
    annotations = dataclasses.replace(annotations, class_names=names, attribute_names=attributes)
    plan = make_plan(find_backbone("resnet101"), None, "", ())
    recipe = {
        "dataset": "toy",
        "annotations": {"folder": str(root / "own")},
        "weights": {"kind": "random", "seed": 0, "sha256": "0" * 64},
        **plan.describe(),
    }
    home = Home(root / "home")
    cache = write_split_cache(home.features / "toy-224-random.h5", annotations, provenance=recipe)
    if images:
        draw_images(root / "own/images", annotations.image_paths)
    return home, FeatureCache(cache)


def draw_images(folder: Path, paths: tuple[str, ...]) -> None:
    """A noisy picture of 32 by 32 pixels for each path."""
    rng = np.random.RandomState(0)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.randint(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / path)


def train(home: Home, cache: FeatureCache, model: str = "msdn", **changes: object) -> Run:
    """A finished run of a few epochs."""
    settings = {"epochs": 4, "batch_size": 8, "learning_rate": 1e-2, "select": "val", **changes}
    return train_model(cache, settings_of(model, **settings), home.runs, preset="released/gzsl")


def written(name: str) -> str:
    """A name as a page shows it."""
    return name.replace("\x1b", "\\x1b").replace("\ufffe", "\\ufffe")


class Seen(HTMLParser):
    """A page as a browser takes it apart.

    Attributes:
        tags: every element's name with its attributes.
        texts: every piece of text, by the element it stands in.
        by_id: the text inside an element with an id.
        figures: the values of all `<data>` elements, in order, by the section they stand in.
        tables: each section's tables: rows of cells, each as its text.
    """

    VOID = ("meta", "link", "img", "wbr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.by_id: dict[str, str] = {}
        self.figures: dict[str, list[float]] = {}
        self.tables: dict[str, list[list[list[str]]]] = {}
        self._open: list[tuple[str, str | None]] = []
        self._section = ""
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "section":
            self._section = str(given["id"])
        if tag == "data":
            self.figures.setdefault(self._section, []).append(float(str(given["value"])))
        if tag == "table":
            self.tables.setdefault(self._section, []).append([])
        if tag == "tr":
            self.tables[self._section][-1].append([])
        if tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")
        if tag not in self.VOID:
            self._open.append((tag, given.get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, (opened, tag)

    def handle_data(self, data: str) -> None:
        inside = [tag for tag, _ in self._open]
        self.texts.append((inside[-1] if inside else "", data))
        for _, name in self._open:
            if name:
                self.by_id[name] = self.by_id.get(name, "") + data
        if "td" in inside or "th" in inside:
            self.tables[self._section][-1][-1][-1] += data
