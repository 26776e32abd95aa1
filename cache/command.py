"""`msdn cache info`, `verify` and `export`: look into a cache, prove it whole, write it in the published layout."""

from pathlib import Path

import click

from msdn.cache.errors import CacheError
from msdn.cache.layout import MAIN

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
def info(file: Path) -> None:
    """Summarise a cache, finished or not."""
    from rich.console import Console

    from msdn.cache.summary import summarise

    console = Console(soft_wrap=True, highlight=False)
    for name, value in summarise(file):
        console.print(f"[bold]{name:<18}[/bold] ", end="")
        console.print(value, markup=False)


@click.command()
@click.argument("file", type=FILE)
def verify(file: Path) -> None:
    """Check every row's checksum; the exit code is 0 only if all is well."""
    from msdn.cache.reader import FeatureCache, find_damaged_rows

    damaged = set()
    with FeatureCache(file) as opened:
        paths = opened.annotations.image_paths
        n, masked, maps = opened.shape[0], len(opened.masked_rows), len(opened.maps)
        for name, row in find_damaged_rows(opened):
            damaged.add(row)
            click.echo(f"map {name}, row {row} ({paths[row]}): features do not match their checksum")
    if damaged:
        raise CacheError(
            f"{file}: {len(damaged)} of {n} rows are damaged; make it anew: 'msdn extract' with --restart"
        )
    left_out = f"; {masked} images are masked" if masked else ""
    of_maps = f" of {maps} maps" if maps > 1 else ""
    click.echo(f"{file}: {n - masked} rows{of_maps} and all annotations are as they were written{left_out}")


@click.command()
@click.argument("cache", type=FILE)
@click.argument("out", type=FILE)
@click.option("--map", "map_name", default=MAIN, show_default=True, help="Which of the cache's maps.")
@click.option("--compress", is_flag=True, help="Compress with gzip: smaller, and much slower to read.")
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
def export(cache: Path, out: Path, map_name: str, compress: bool, force: bool) -> None:
    """Write CACHE to OUT in the layout that the published scripts read (feature_map, labels, att, …).

    The features are stored as float32 there: twice the disk of a float16 cache.
    """
    from msdn.cache.published import write_published
    from msdn.cache.reader import FeatureCache

    with FeatureCache(cache, map_name) as opened:
        if out.exists() and out.samefile(cache):
            raise CacheError(f"{out}: is the cache itself; choose another name for its export")
        if out.exists() and not force:
            raise CacheError(f"{out}: exists already; choose another name, or give --force")
        write_published(opened, out, compress)
        masked, kind = len(opened.masked_rows), opened.provenance["weights"]["kind"]
    if masked:
        click.echo(f"{masked} masked images are zero there, and in none of its splits", err=True)
    if kind == "random":
        click.echo("backbone: random weights; results say nothing about published figures", err=True)
    click.echo(out)
