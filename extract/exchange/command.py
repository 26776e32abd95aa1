"""`msdn cache import` and `annotate`: features from a published file, other annotations for features one has."""

from pathlib import Path
from typing import Any

import click

from msdn.cache.home import Home, command_line, home_option, typed_dataset
from msdn.extract.pipeline.settings import DTYPES
from msdn.terminal import escape, json_option, make_bar, note_console, print_json, tell, warn

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", type=FILE)
@click.option(
    "--dataset", required=True, metavar="NAME|FOLDER", help="The dataset that the features belong to."
)
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
@click.option(
    "--allow-other-counts",
    is_flag=True,
    help="Accept a file whose splits have other sizes than the dataset's; its results do not count for the dataset.",
)
@click.option("--restart", is_flag=True, help="Start again, and replace an existing cache.")
@json_option
@home_option
def import_(home: Home, file: Path, dataset: str, as_json: bool, **choices: Any) -> None:
    """Turn a published feature file (feature_map, labels, …) into a cache to train from.

    Maps of any size are taken: feature_map is (N, F, h, w).

    Names of images, classes and attributes come from the dataset's lists, if these are in the home, and are checked
    against the file. After an interruption, repeat the same command to continue.
    """
    from rich.progress import MofNCompleteColumn

    from msdn.extract.exchange.importing import import_features

    with make_bar(note_console(), MofNCompleteColumn(), what=10, room=15) as bar:
        task = bar.add_task("importing")
        choices["on_progress"] = lambda n, total: bar.update(task, completed=n, total=total)
        done = import_features(file, dataset, home, **choices)
    for row, reason in done.masked.items():
        warn(f"row {row} is masked, never trained or tested on: {escape(reason)}")
    if done.has_other_counts:
        warn(
            f"its splits have other sizes than those of '{dataset}': do not compare it with published figures"
        )
    if not done.named:
        again = command_line("cache", "annotate", done.path, "--dataset", typed_dataset(dataset), home=home)
        warn(
            f"classes and images have numbers only; put the dataset's lists into the home, then name them with: {again}"
        )
    if as_json:
        masked = {str(row): reason for row, reason in done.masked.items()}
        facts = {"named": done.named, "other_counts": done.has_other_counts}
        print_json({"cache": str(done.path), "masked": masked, **facts})
    else:
        click.echo(escape(str(done.path)))


@click.command()
@click.argument("cache", type=FILE)
@click.option("--vectors", type=FILE, help="Word vectors of the attributes: .npz, or a published .pkl.")
@click.option("--splits", type=FILE, help="Splits: .csv (see docs/own-data.md), or an att_splits.mat.")
@click.option("--attributes", type=FILE, help="Class attributes: .csv, or an att_splits.mat.")
@click.option(
    "--dataset", metavar="NAME|FOLDER", help="Take everything from the dataset's files as they are now."
)
@json_option
@home_option
def annotate(home: Home, cache: Path, dataset: str | None, as_json: bool, **files: Path | None) -> None:
    """Replace a cache's annotations; its features stay as they are, byte for byte.

    The fingerprint changes, so runs trained before do not accept the cache. During the copy the cache needs its
    size on disk a second time, unless the file system can share blocks.
    """
    from msdn.cache.annotate import replace_annotations
    from msdn.cache.reader import FeatureCache
    from msdn.extract.datasets.registry import DATASETS, open_dataset
    from msdn.extract.exchange.annotating import apply_files

    if dataset is None and not any(files.values()):
        raise click.UsageError("nothing to replace: give --vectors, --splits, --attributes, or --dataset.")
    if dataset is not None and any(files.values()):
        raise click.UsageError("--dataset takes everything from the dataset: give it alone.")
    with FeatureCache(cache) as opened:
        before, old = opened.annotations, opened.fingerprint
    if dataset is not None:
        found = open_dataset(dataset, home)
        annotations, sources = found.annotations, found.sources
    else:
        annotations, sources = apply_files(before, **files)
    spec = DATASETS.get(annotations.dataset)
    other_counts = spec.find_other_counts(annotations) if spec else ""
    changed = replace_annotations(cache, annotations, sources, other_counts)
    with FeatureCache(cache) as opened:
        new, has_vectors = opened.fingerprint, opened.annotations.attribute_vectors is not None
    if as_json:
        print_json({"cache": str(cache), "changed": list(changed), "before": old, "fingerprint": new})
    elif changed:
        tell(f"{cache}: replaced {', '.join(changed)}; fingerprint {old[:12]} is now {new[:12]}")
    else:
        tell(f"{cache}: already has these annotations; nothing changed")
    if not changed:
        return
    if before.attribute_vectors is not None and not has_vectors:
        warn("its word vectors belonged to other attributes and were removed: add new ones with --vectors")
    if other_counts:
        warn(f"it {other_counts}: do not compare it with published figures")
    warn("runs trained before this do not accept the cache: train again")
