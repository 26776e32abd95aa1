"""`msdn backbones`: the networks whose maps can be cached, and one of them in detail."""

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from msdn.cache.home import Home, home_option
from msdn.terminal import fit_fact, json_option, result_console, tell


@click.command()
@click.argument("name", required=False, metavar="[NAME|FILE.py]")
@json_option
@home_option
def backbones(name: str | None, home: Home, as_json: bool) -> None:
    """List the networks that 'msdn extract --backbone' takes, or show one with its layers.

    A pattern such as 'vit*' lists some; 'timm:*dinov2*' lists networks of timm, if timm is installed.
    """
    from msdn.extract.backbones.registry import list_backbones

    if name is None or ("*" in name and not Path(name).exists()):
        names = list_backbones(name or "*")
        if name is not None and name.startswith("timm:"):
            click.echo(json.dumps(names, indent=2) if as_json else "\n".join(names))
            return
        rows = [_describe_briefly(each, home) for each in names]
        click.echo(json.dumps(rows, indent=2) if as_json else _table(rows))
        if not as_json:
            tell("and timm:NAME if timm is installed ('msdn backbones timm:*'), and your own FILE.py")
        return
    facts = _describe(name, home)
    click.echo(json.dumps(facts, indent=2) if as_json else _page(facts))


def _describe_briefly(name: str, home: Home) -> dict[str, Any]:
    from msdn.extract.backbones.families import FAMILY_OF
    from msdn.extract.backbones.registry import find_backbone
    from msdn.extract.backbones.torchvision_networks import grid_of
    from msdn.extract.backbones.weights import find_kept

    entry, family, grid = find_backbone(name), FAMILY_OF[name], grid_of(name)
    return {
        "name": name,
        "image_size": entry.preparation.size,
        "map": f"{grid}x{grid}",
        "channels": family.channels[name],
        "signed": family.signed,
        "pretrained_on": entry.pretrained_on,
        "weights_here": find_kept(entry, home) is not None,
    }


def _describe(name: str, home: Home) -> dict[str, Any]:
    from msdn.extract.backbones.network import measure_layers
    from msdn.extract.backbones.registry import build_network, find_backbone
    from msdn.extract.backbones.weights import find_kept

    entry = find_backbone(name)
    layers = measure_layers(build_network(entry, entry.preparation.size), entry)
    kept = find_kept(entry, home)
    return {
        "name": entry.name,
        **entry.describe(),
        "image_size": entry.preparation.size,
        "preparation": entry.preparation.text,
        "prefix_tokens": entry.prefix_tokens,
        "pretrained_on": entry.pretrained_on,
        "weights": str(
            kept or entry.weights_url or ("timm's hub" if entry.library == "timm" else "your own file")
        ),
        "weights_here": kept is not None,
        "layer": entry.layer,
        "layers": {
            layer: {
                "map": f"{shape.height}x{shape.width}",
                "channels": shape.channels,
                "signed": shape.signed,
            }
            for layer, shape in layers.items()
        },
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """Columns of text, each as wide as its widest cell; on a narrow terminal headers and long words wrap."""
    if not rows:
        return ""
    names = [key.replace("_", " ") for key in rows[0]]
    cells = [[_word(value) for value in row.values()] for row in rows]
    console = result_console()
    natural = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    if sum(natural) + 2 * len(names) <= console.width:
        lines = ("  ".join(c.ljust(w) for c, w in zip(row, natural, strict=True)) for row in (names, *cells))
        return "\n".join(line.rstrip() for line in lines)
    least = [
        max(*map(len, name.split()), *map(len, column))
        for name, column in zip(names, zip(*cells, strict=True), strict=True)
    ]
    widest = least.index(max(least))
    least[widest] = max(console.width - sum(least) + least[widest] - 2 * len(names), 8)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name, width in zip(names, least, strict=True):
        table.add_column(name, width=width, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _page(facts: dict[str, Any]) -> str:
    layers = facts.pop("layers")
    shown = ((key.replace("_", " "), _word(value)) for key, value in facts.items())
    lines = [line for key, value in shown for line in fit_fact(key, value, 14)]
    return "\n".join([*lines, "", _table([{"layers": layer, **shape} for layer, shape in layers.items()])])


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
