"""`msdn predict`: what images show that nobody has labelled. Loads torch only when it runs."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msdn.app.predict.options import FILLS, check_images, find_images, image_options, parse_rows, run_options
from msdn.cache import Home
from msdn.cache.home import dataset_name, home_option
from msdn.machine import keep_threads
from msdn.terminal import escape, json_option, make_bar, note_console
from msdn.train.errors import RunError

if TYPE_CHECKING:
    from msdn.app.predict.predictor import Prediction, Predictor

KINDS = ("all", "seen", "unseen")


@click.command()
@run_options
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="Classes to name for an image."
)
@click.option(
    "--among",
    type=click.Choice(KINDS),
    default=KINDS[0],
    show_default=True,
    help="The classes that compete: all that the run knows, or only those with or without training images.",
)
@click.option("--drop", multiple=True, metavar="CLASS", help="Leave a known class out. Can be repeated.")
@click.option(
    "--classes",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="New classes, which need no photo: a CSV with a column 'class' and one for each attribute, in the units of "
    "attributes.csv.",
)
@click.option("--only", is_flag=True, help="With --classes or --like: only the new classes compete.")
@click.option(
    "--fill",
    type=click.Choice(FILLS),
    help="With --classes: attributes without a column get the mean of the known classes.",
)
@click.option("--like", metavar="CLASS", help="One new class made from a known one, changed by --set.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="ATTRIBUTE=VALUE",
    help="With --like: an attribute that differs.",
)
@click.option("--as", "name", metavar="NAME", help="With --like: what the new class is called.")
@click.option(
    "--margin",
    type=float,
    help="Added to the scores of unseen and new classes, subtracted from those of seen classes.  "
    "[as the run was trained or validated]",
)
@click.option(
    "--reject",
    type=click.FloatRange(0, 1),
    metavar="LEVEL",
    help="Answer 'none of these' where the confidence is below LEVEL (0 to 1). For runs trained with --select val.",
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Predict for images of this cache instead of files."
)
@image_options
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be used.")
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new file, a line for each image.",
)
@json_option
@home_option
@click.pass_context
def predict(
    ctx: click.Context,
    home: Home,
    images: tuple[Path, ...],
    run_path: Path | None,
    dataset: str | None,
    model: str | None,
    cache: Path | None,
    rows: str | None,
    threads: int | None,
    csv_path: Path | None,
    as_json: bool,
    strict: bool,
    **choices: Any,
) -> None:
    """Say what images show: files, or folders of them.

    The classes are those that the run knows, and new ones that you describe by their attributes. Each is marked as seen
    (it had training images), unseen (the run knew its attributes), or new. Attributes that spoke for and against the
    best class are named. The run's folder is enough: the features it was trained on are not needed.
    """
    _check_usage(images, cache, rows, choices)
    from msdn.app.predict.showing import tell
    from msdn.extract.backbones.frozen import fixed_arithmetic
    from msdn.train.models import registry
    from msdn.train.runs.run import find_run

    registry.use_home(home)
    model = model and registry.choose_model(model).name
    run = find_run(home.runs, run_path, dataset=dataset and dataset_name(dataset), model=model)
    with keep_threads(threads), fixed_arithmetic():
        predictor = _open(run, home, choices)
        if cache is not None:
            found, count = _predict_rows(predictor, cache, rows)
        else:
            paths = list(find_images(images))
            repeater = predictor.repeater(choices["backbone"], choices["weights"])
            found, count = predictor.predict_images(paths, repeater, choices["workers"]), len(paths)
        bad = tell(predictor, _watch(found, count, strict), as_json, csv_path)
    if bad:
        ctx.exit(1)


def _check_usage(
    images: Sequence[Path], cache: Path | None, rows: str | None, choices: dict[str, Any]
) -> None:
    check_images(images, cache, rows)
    if choices["margin"] is not None and not math.isfinite(choices["margin"]):
        raise click.UsageError(f"--margin {choices['margin']} is not a finite number.")
    if choices["only"] and choices["file"] is None and choices["like"] is None:
        raise click.UsageError(
            "--only leaves no class to choose from; give new ones with --classes or --like."
        )
    if choices["fill"] and choices["file"] is None:
        raise click.UsageError("--fill goes with --classes.")
    if bool(choices["changes"]) != bool(choices["like"]):
        raise click.UsageError('--like and --set go together: --like CLASS --set "ATTRIBUTE=VALUE".')
    if choices["name"] and not choices["like"]:
        raise click.UsageError("--as goes with --like.")


def _open(run: Any, home: Home, choices: dict[str, Any]) -> "Predictor":
    from msdn.app.predict.classes import Wanted, choose_candidates, known_candidates, parse_changes
    from msdn.app.predict.predictor import Predictor
    from msdn.train.runs.basis import load_basis

    basis = load_basis(run)
    wanted = Wanted(
        among=KINDS[1:] if choices["among"] == KINDS[0] else (choices["among"],),
        changes=parse_changes(choices["changes"], known_candidates(basis)),
        **{name: choices[name] for name in ("drop", "file", "only", "fill", "like", "name")},
    )
    return Predictor(
        run,
        home,
        candidates=choose_candidates(basis, wanted),
        **{name: choices[name] for name in ("margin", "device", "top", "reject")},
    )


def _predict_rows(predictor: "Predictor", path: Path, rows: str | None) -> "tuple[Iterator[Prediction], int]":
    from msdn.cache import FeatureCache

    cache = FeatureCache(path, predictor.basis.map)
    chosen = parse_rows(rows, cache)
    return predictor.predict_rows(cache, chosen), len(chosen)


def _watch(found: "Iterator[Prediction]", count: int, strict: bool) -> "Iterator[Prediction]":
    """The predictions with a bar on the terminal and bad images named as they come; those end it where asked to."""
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    with make_bar(note_console(), MofNCompleteColumn(), TimeRemainingColumn(), what=10, room=24) as bar:
        task = bar.add_task("predicting", total=count)
        for one in found:
            if one.error and not one.is_masked and strict:
                raise RunError(
                    f"{escape(one.image)}: {one.error}; leave out --strict to go on with the others"
                )
            bar.advance(task)
            yield one
