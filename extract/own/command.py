"""`msdn data check`: is a dataset in good order, and what is to be mended?"""

from pathlib import Path

import click

from msdn.cache.home import Home, home_option


@click.command()
@click.argument("dataset", metavar="FOLDER|NAME")
@click.option(
    "--write-splits",
    is_flag=True,
    help="Write the division into FOLDER/splits.csv, so that it stays as it is.",
)
@home_option
def check(dataset: str, home: Home, write_splits: bool) -> None:
    """Check a folder of images with its attributes.csv, or a known dataset; name every mistake.

    Image files are opened, not decoded: a file that is damaged further down is found by 'msdn extract'.
    """
    from rich.console import Console

    from msdn.cache.errors import WrongUsageError
    from msdn.extract.datasets.registry import is_own_folder, open_dataset
    from msdn.extract.errors import DatasetError
    from msdn.extract.own.division import write_splits_csv
    from msdn.extract.own.folder import SPLITS, find_mistakes
    from msdn.extract.own.mistakes import escape
    from msdn.extract.own.summary import summarise
    from msdn.extract.pipeline.presence import require_images

    own, folder = is_own_folder(dataset), Path(dataset).expanduser()
    if write_splits and not own:
        raise WrongUsageError(f"--write-splits is for a folder of your own; '{dataset}' has published splits")
    with Console(stderr=True).status("looking at every image"):
        mistakes = find_mistakes(folder) if own else []
    for mistake in mistakes:
        click.echo(mistake)
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise DatasetError(escape(f"{count} in {dataset}; mend what is named above and check again"))
    opened = open_dataset(dataset, home)
    require_images(opened, range(len(opened.annotations.image_paths)))
    if write_splits:
        write_splits_csv(folder / SPLITS, opened.annotations)
        opened = open_dataset(dataset, home)
    click.echo(summarise(opened, dataset))
