"""`msdn cache import`: a published feature file becomes a cache."""

from pathlib import Path

import click

from msdn.cache.home import Home
from msdn.cache.options import home_option
from msdn.extract.pipeline.settings import DTYPES

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", type=FILE)
@click.option("--dataset", required=True, metavar="NAME|FOLDER", help="What the features are of.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default=DTYPES[0],
    show_default=True,
    help="How features are stored.",
)
@click.option(
    "--out", type=FILE, show_default="HOME/features/DATASET-SIZE-imported.h5", help="The cache to write."
)
@click.option("--restart", is_flag=True, help="Begin anew, and replace a cache that is there.")
@home_option
def import_(home: Home, file: Path, dataset: str, dtype: str, out: Path | None, restart: bool) -> None:
    """Turn a published feature file (feature_map, labels, …) into a cache to train from.

    Names of images, classes and attributes come from the dataset's lists where these are in the home, and are checked
    against the file. Interrupted, the same command goes on.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn

    from msdn.extract.exchange.import_features import import_features
    from msdn.extract.pipeline.progress import make_bar

    with make_bar(Console(stderr=True), MofNCompleteColumn()) as bar:
        task = bar.add_task("importing")
        done = import_features(
            file,
            dataset,
            home,
            out,
            dtype,
            restart,
            lambda n, total: bar.update(task, completed=n, total=total),
        )
    for row, reason in done.masked.items():
        click.echo(f"row {row} is masked, never trained or tested on: {reason}", err=True)
    if not done.named:
        click.echo(
            "classes and images are numbered: with the dataset's lists in the home, 'msdn cache annotate "
            f"{done.path} --dataset {dataset}' names them",
            err=True,
        )
    click.echo(done.path)
