"""`msdn reproduce`: a dataset's published figures made again, from images to a table. Loads torch only when it runs."""

import json
from pathlib import Path
from typing import Any

import click

from msdn.cache import Home
from msdn.cache.home import home_option
from msdn.extract.pipeline.settings import IMAGE_SIZES, ExtractSettings
from msdn.train.loop.options import cache_option, jobs_option, seeds_option
from msdn.train.loop.settings import SELECTIONS, RunSettings
from msdn.train.models.registry import model_names

DEFAULT = ExtractSettings(dataset="")


@click.command()
@click.argument("dataset", metavar="cub|sun|awa2|flo|plumage")
@click.option(
    "--weights",
    default=DEFAULT.weights,
    show_default=True,
    metavar="imagenet|FILE|random",
    help="The backbone's weights; with random ones nothing can be compared with the papers.",
)
@click.option(
    "--image-size",
    type=click.Choice([str(size) for size in IMAGE_SIZES]),
    default=str(IMAGE_SIZES[0]),
    show_default=True,
    callback=lambda _context, _parameter, value: int(value),
    help="Pixels; 224 gives 7x7 regions, 448 gives 14x14.",
)
@cache_option
@click.option(
    "--models",
    metavar="NAME,NAME",
    help=f"The models to train: {', '.join(model_names())}.  [default: msdn; msdn++ on flo, where only its figures are "
    "published]",
)
@seeds_option(default="0-4", show_default=True, help="The seeds that each model is trained with.")
@click.option(
    "--select",
    type=click.Choice(SELECTIONS),
    default=RunSettings.select,
    show_default=True,
    help="How the weights are chosen, as 'msdn train' explains; the papers' were chosen on the test set.",
)
@click.option(
    "--paper-style", is_flag=True, help="With --select test: the best H and the best acc of different epochs."
)
@jobs_option
@click.option(
    "--device",
    default=DEFAULT.device,
    show_default=True,
    help="cpu, cuda, cuda:1, several with commas; auto takes every GPU there is.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the study as JSON.")
@home_option
def reproduce(
    home: Home,
    dataset: str,
    weights: str,
    image_size: int,
    cache: Path | None,
    models: str | None,
    seeds: tuple[int, ...],
    select: str,
    paper_style: bool,
    jobs: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Extract features where they are missing, train with several seeds, and show the figures beside the papers'.

    U, S and H are of the preset for GZSL; acc is of the preset for CZSL where that is another one. Whatever was done
    before is used: interrupted, it goes on with the same command. The dataset must be there (msdn data download).
    Runs are kept in HOME/studies/runs, figures in HOME/studies: reproduce-DATASET.csv and .json (with --select in the
    name where it is not last).
    """
    from msdn.app.reproduce import (
        Reproduction,
        check_reproduction,
        default_models,
        features_for,
        train_and_measure,
    )

    wanted = Reproduction(
        ExtractSettings(dataset, image_size, weights, device.partition(",")[0]),
        cache,
        tuple(dict.fromkeys(name.strip() for name in models.split(",")))
        if models
        else default_models(dataset),
        seeds,
        {"select": select, "paper_style": paper_style},
    )
    rows = check_reproduction(wanted)
    from rich.console import Console

    from msdn.extract.pipeline.progress import ProgressView
    from msdn.train.runs.run import open_dataset_cache

    path = features_for(wanted, home, lambda: ProgressView(Console(stderr=True)))
    with open_dataset_cache(home, dataset, path) as opened:
        facts, done = train_and_measure(wanted, home, opened, rows, jobs, device)
    _show(facts, done, as_json)


def _show(facts: Any, done: list[Any], as_json: bool) -> None:
    from msdn.app.reproduce_view import reproduction_notes, reproduction_table
    from msdn.train.measure.tables import print_table
    from msdn.train.studies.files import study_json
    from msdn.train.studies.view import study_notes

    if as_json:
        click.echo(json.dumps(study_json(facts, done, {})))
        return
    notes = [*study_notes(facts, done), *reproduction_notes(facts, done)]
    print_table(reproduction_table(facts, done), notes)
