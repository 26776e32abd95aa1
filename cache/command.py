"""`msdn cache`: look into a cache, and prove it whole."""

from pathlib import Path

import click

from msdn.cache.errors import CacheError

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def cache() -> None:
    """Look into feature caches and check them."""


@cache.command()
@click.argument("file", type=FILE)
def info(file: Path) -> None:
    """Summarise a cache, finished or not."""
    from rich.console import Console

    from msdn.cache.summary import summarise

    console = Console(soft_wrap=True, highlight=False)
    for name, value in summarise(file):
        console.print(f"[bold]{name:<18}[/bold] ", end="")
        console.print(value, markup=False)


@cache.command()
@click.argument("file", type=FILE)
def verify(file: Path) -> None:
    """Check every row's checksum; the exit code is 0 only if all is well."""
    from msdn.cache.reader import FeatureCache
    from msdn.cache.verify import find_damaged_rows

    with FeatureCache(file) as opened:
        damaged = find_damaged_rows(opened)
        paths = opened.annotations.image_paths
        n, masked = opened.shape[0], len(opened.masked_rows)
    for row in damaged:
        click.echo(f"row {row} ({paths[row]}): features do not match their checksum")
    if damaged:
        raise CacheError(
            f"{file}: {len(damaged)} of {n} rows are damaged; make it anew: 'msdn extract' with --restart"
        )
    left_out = f"; {masked} images are masked" if masked else ""
    click.echo(f"{file}: {n - masked} rows and all annotations are as they were written{left_out}")
