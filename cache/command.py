"""`msdn cache info`, `verify`, `merge`, `export`: look into a cache, prove it whole, make it of parts, publish it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from msdn.cache import layout
from msdn.cache.errors import CacheError
from msdn.cache.files import remove_leftovers
from msdn.cache.header import Header, read_header
from msdn.cache.layout import MAIN, MapSpec
from msdn.cache.merging import merge_parts
from msdn.cache.published import write_published
from msdn.cache.reader import FeatureCache, check_rows, find_damaged_rows, repair
from msdn.terminal import counted, escape, fit_fact, json_option, note_console, print_json, tell, warn

FILE = click.Path(dir_okay=False, path_type=Path)
RANDOM_NOTE = " (never trained: results say nothing about published figures)"


@click.command()
@click.argument("file", type=FILE)
@json_option
def info(file: Path, as_json: bool) -> None:
    """Summarise a cache or a part of one, finished or not."""
    facts = list(summarise(file))
    if as_json:
        print_json({"file": str(file), "facts": [{"name": name, "value": value} for name, value in facts]})
        return
    for name, value in facts:
        for line in fit_fact(name, value):
            click.echo(line)


@click.command()
@click.argument("file", type=FILE)
@json_option
def verify(file: Path, as_json: bool) -> None:
    """Check every row's checksum; the exit code is 0 only if all is well."""
    damaged: dict[int, list[str]] = {}
    header = read_header(file)
    check_rows(header)
    paths = header.annotations.image_paths
    n, masked, maps = len(header.states), len(header.masked_rows), len(header.maps)
    for name, row in find_damaged_rows(header):
        damaged.setdefault(row, []).append(name)
        if not as_json:
            tell(f"map {name}, row {row} ({escape(paths[row])}): features do not match their checksum")
    if as_json:
        rows = [{"row": row, "image": paths[row], "maps": names} for row, names in damaged.items()]
        print_json({"file": str(file), "ok": not damaged, "rows": n, "masked": masked, "damaged": rows})
    if damaged:
        raise CacheError(f"{file}: {len(damaged)} of {n} rows are damaged; {repair(header)}")
    if as_json:
        return
    left_out = f"; {masked} images are masked" if masked else ""
    of_maps = f" of {maps} maps" if maps > 1 else ""
    tell(f"{file}: {n - masked} rows{of_maps} and all annotations are as they were written{left_out}")


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--allow-mixed",
    is_flag=True,
    help="Take shards made on different devices or by different versions; the cache says which rows are whose.",
)
@click.option("--remove-parts", is_flag=True, help="Remove the shards when FILE is complete.")
@json_option
def merge(file: Path, allow_mixed: bool, remove_parts: bool, as_json: bool) -> None:
    """Make the cache FILE of its shards, which 'msdn extract --shard' wrote beside it.

    Every row is compared with its checksums. FILE has the same bytes as if one process had written it.
    """
    with note_console().status(f"merging the shards of {file}") as status:
        header = merge_parts(
            file,
            allow_mixed=allow_mixed,
            remove=remove_parts,
            on_progress=lambda done, total: status.update(f"merging shard {done} of {total}"),
        )
    masked = len(header.masked_rows)
    if masked:
        warn(f"{masked} images masked: never trained or tested on")
    if as_json:
        print_json(
            {
                "cache": str(file),
                "rows": len(header.states),
                "masked": masked,
                "fingerprint": header.fingerprint,
            }
        )
    else:
        click.echo(escape(str(file)))


@click.command()
@click.argument("cache", type=FILE)
@click.argument("out", type=FILE)
@click.option("--map", "map_name", default=MAIN, show_default=True, help="Which of the cache's maps.")
@click.option("--compress", is_flag=True, help="Compress with gzip: smaller, and much slower to read.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@json_option
def export(cache: Path, out: Path, map_name: str, compress: bool, force: bool, as_json: bool) -> None:
    """Write CACHE to OUT in the layout that the published scripts read (feature_map, labels, att, …).

    The features are stored as float32 there: twice the disk of a float16 cache.
    """
    with FeatureCache(cache, map_name) as opened:
        if out.exists() and out.samefile(cache):
            raise CacheError(f"{out}: is the cache itself; choose another name for the export")
        remove_leftovers(out)
        try:
            if out.exists() and not force:
                raise FileExistsError
            write_published(opened, out, compress, replaces=force)
        except FileExistsError as error:
            raise CacheError(f"{out}: already exists; choose another name, or use --force") from error
        masked, kind = len(opened.masked_rows), opened.provenance["weights"]["kind"]
    if masked:
        warn(f"masked images: {masked} (zero there, and in none of its splits)")
    if kind == "random":
        warn("backbone: random weights; results say nothing about published figures")
    if as_json:
        print_json({"file": str(out), "masked_images": masked, "weights": kind})
    else:
        click.echo(escape(str(out)))


def summarise(path: Path) -> Iterator[tuple[str, str]]:
    """Yield names and values for display."""
    header = read_header(path)
    yield "file", f"{path} ({path.stat().st_size / 1e9:.2f} GB)"
    yield "dataset", header.annotations.dataset
    part = header.provenance.get(layout.PART)
    if part:
        first, last = part["first_row"], part["first_row"] + len(header.states) - 1
        yield "part", f"shard {part['shard']} of {part['of']}: rows {first} to {last} of {part['images']}"
    for spec in header.maps.values():
        yield f"map {spec.name}", _describe_map(spec, len(header.states))
    yield "state", _describe_state(header)
    yield from _describe_annotations(header)
    yield from _describe_provenance(header)
    if not (header.states == layout.TODO).any():
        yield "fingerprint", header.fingerprint


def _describe_map(spec: MapSpec, n: int) -> str:
    signs = {None: "", False: ", never negative", True: ", signed"}
    size = f"{n} images x {spec.height}x{spec.width} regions x {spec.channels} channels"
    return f"{size}, {spec.dtype}{signs[spec.signed]}"


def _describe_state(header: Header) -> str:
    todo = int((header.states == layout.TODO).sum())
    if todo:
        return (
            f"unfinished: {todo} of {len(header.states)} images missing; repeat the command that started it"
        )
    masked = len(header.masked_rows)
    return f"complete, {counted(masked, 'image')} masked" if masked else "complete"


def _describe_annotations(header: Header) -> Iterator[tuple[str, str]]:
    a = header.annotations
    bare = f", {count} without images" if (count := len(a.classes_without_images)) else ""
    yield "classes", f"{len(a.class_names)}: {len(a.seen_classes)} seen, {len(a.unseen_classes)} unseen{bare}"
    vectors = (
        "no word vectors" if a.attribute_vectors is None else f"{a.attribute_vectors.shape[1]}-d vectors"
    )
    named = "named" if a.attribute_names else "unnamed"
    yield "attributes", f"{a.attributes.shape[1]}, {named}, {vectors}"
    for name, rows in a.splits.items():
        masked = len(np.intersect1d(rows, header.masked_rows))
        yield f"split {name}", f"{len(rows)} images" + (f", {masked} masked" if masked else "")
    for row, reason in header.mask_reasons.items():
        yield "masked", f"{a.image_paths[row]}: {reason}"


def _describe_provenance(header: Header) -> Iterator[tuple[str, str]]:
    for key, value in header.provenance.items():
        if (key, value) == ("dataset", header.annotations.dataset):
            continue  # named above
        text = _flatten(value)
        if key == layout.PART:
            continue  # told above
        if key == layout.MIXED:
            text = "; ".join(
                f"rows {one['rows'][0]}-{one['rows'][1]}: {_flatten(one['device'])}" for one in value
            )
        if key == layout.GROWN:
            text = "; ".join(f"the first {part['rows']} rows as in {part['fingerprint']}" for part in value)
        if key == "weights" and isinstance(value, dict) and value.get("kind") == "random":
            text += RANDOM_NOTE
        yield key.replace("_", " "), text


def _flatten(value: Any) -> str:
    """Write nested facts in one line."""
    if not isinstance(value, dict):
        return str(value)
    inner = {k: f"({_flatten(v)})" if isinstance(v, dict) else v for k, v in value.items()}
    inner = {k: "(without a date)" if v == "undated" else v for k, v in inner.items()}  # a file of lists
    return ", ".join(f"{k} {v}" for k, v in inner.items())
