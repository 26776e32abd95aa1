"""`msdn cache annotate`: other vectors, splits or attributes for a cache, without a new extraction."""

from pathlib import Path

import click

from msdn.cache.home import Home
from msdn.cache.options import home_option

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("cache", type=FILE)
@click.option("--vectors", type=FILE, help="Word vectors of the attributes: .npz, or a published .pkl.")
@click.option("--splits", type=FILE, help="Splits: .csv (as in docs/own-data.md), or an att_splits.mat.")
@click.option("--attributes", type=FILE, help="Class attributes: .csv, or an att_splits.mat.")
@click.option(
    "--dataset", metavar="NAME|FOLDER", help="Take everything from the dataset's files as they are now."
)
@home_option
def annotate(
    home: Home,
    cache: Path,
    vectors: Path | None,
    splits: Path | None,
    attributes: Path | None,
    dataset: str | None,
) -> None:
    """Replace a cache's annotations; its features stay as they are, byte for byte.

    The fingerprint changes with them, so runs trained before refuse the cache. For the time of the copy it takes the
    cache's size on disk once more, where the file system cannot share blocks.
    """
    from msdn.cache.annotate import replace_annotations
    from msdn.cache.reader import FeatureCache
    from msdn.extract.datasets.registry import open_dataset
    from msdn.extract.exchange.annotation_files import apply_files

    files = (vectors, splits, attributes)
    if dataset is None and files == (None, None, None):
        raise click.UsageError("what to replace? Give --vectors, --splits, --attributes, or --dataset.")
    if dataset is not None and files != (None, None, None):
        raise click.UsageError("--dataset takes everything from the dataset: give it alone.")
    with FeatureCache(cache) as opened:
        before, old = opened.annotations, opened.fingerprint
    if dataset is not None:
        found = open_dataset(dataset, home)
        annotations, sources = found.annotations, found.sources
    else:
        annotations, sources = apply_files(before, *files)
    changed = replace_annotations(cache, annotations, sources)
    if not changed:
        click.echo(f"{cache}: has these annotations already; nothing changed")
        return
    with FeatureCache(cache) as opened:
        click.echo(
            f"{cache}: replaced {', '.join(changed)}; fingerprint {old[:12]} is now {opened.fingerprint[:12]}"
        )
        if before.attribute_vectors is not None and opened.annotations.attribute_vectors is None:
            click.echo("its word vectors belonged to other attributes and are gone: give --vectors", err=True)
    click.echo("runs trained before refuse this cache: train again", err=True)
