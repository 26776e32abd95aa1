"""`msdn explain`: where a model looks in an image, as a picture. Loads torch and matplotlib only when it runs."""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from msdn.app.explain.drawing import branch_title
from msdn.app.predict.options import check_images, find_images, image_options, parse_rows, run_options
from msdn.cache import FeatureCache, Home
from msdn.cache.errors import MsdnError
from msdn.cache.files import check_new, make_folder
from msdn.cache.home import dataset_name, home_option
from msdn.cache.layout import ANNOTATIONS
from msdn.machine import how_to_install, keep_threads
from msdn.terminal import counted, escape, json_option, warn
from msdn.train.measure.show import Result, Table, show

if TYPE_CHECKING:
    from msdn.app.explain.explainer import Explainer, Explanation, Reason

FOLDER = "explained"
PNG = ".png"


@click.command()
@run_options
@click.option("--class", "class_name", metavar="NAME", help="The class to explain.  [the model's answer]")
@click.option(
    "--attributes",
    multiple=True,
    metavar="NAME",
    help="An attribute to show. Can be repeated.  [those that speak most for the class]",
)
@click.option(
    "--top", type=click.IntRange(1, 20), default=5, show_default=True, help="How many attributes to show."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=FOLDER,
    show_default=True,
    help="A new file that ends in .png, for one image; or a folder, for a picture of each.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Explain images of this cache by its features. No weights are needed; the images are read from its dataset.",
)
@image_options
@json_option
@home_option
@click.pass_context
def explain(
    ctx: click.Context,
    home: Home,
    images: tuple[Path, ...],
    run_path: Path | None,
    dataset: str | None,
    model: str | None,
    class_name: str | None,
    attributes: tuple[str, ...],
    top: int,
    out: Path,
    cache: Path | None,
    rows: str | None,
    backbone: str | None,
    weights: str | None,
    workers: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Draw where a model looks in images: files, or folders of them.

    There is one picture for each image. It shows the image, and over it the attention of each branch of the model and
    the branch's score, for the attributes that speak most for the class. Red is where the branch looks most; a cross
    marks the peak. MSDN, MSDN++, DAZLE and DEDN have attention; the baseline does not.
    """
    check_images(images, cache, rows)
    check_matplotlib()
    from msdn.app.explain.explainer import Explainer
    from msdn.app.explain.figure import draw_explanation
    from msdn.app.predict.predictor import Predictor
    from msdn.extract.backbones.frozen import fixed_arithmetic
    from msdn.train.models import registry
    from msdn.train.runs.run import find_run

    registry.use_home(home)
    model = model and registry.choose_model(model).name
    run = find_run(home.runs, run_path, dataset=dataset and dataset_name(dataset), model=model)
    bad, shown = 0, []
    with keep_threads(threads), fixed_arithmetic():
        explainer = Explainer(
            Predictor(run, home, device=device), attributes=attributes, top=top, class_name=class_name
        )
        if cache is None:
            paths = list(find_images(images))
            repeater = explainer.predictor.repeater(backbone, weights)
            found = explainer.explain_images(paths, repeater, workers)
        else:
            paths, found = _find_rows(explainer, cache, rows, home, backbone)
        for one, picture in zip(found, name_pictures(out, paths), strict=True):
            if one.error:
                bad += not one.is_masked
                warn(escape(f"{one.image}: {one.error}"))
                shown.append(one.as_json())
                continue
            make_folder(picture.parent)
            draw_explanation(one, picture)
            shown.append({**one.as_json(), "picture": str(picture)})
            if not as_json:
                show(Result({}, [_table(one)], [f"drawn: {escape(str(picture))}"]))
    if as_json:
        click.echo(json.dumps(shown))
    else:
        show(Result({}, [], _notes(explainer)))
    if bad:
        warn(f"{bad} of {counted(len(paths), 'image')} could not be used")
        ctx.exit(1)


def check_matplotlib() -> None:
    """Raise where nothing can be drawn."""
    if find_spec("matplotlib") is None:
        raise MsdnError(
            f"pictures are drawn with matplotlib, which is not installed; {how_to_install('viz')}"
        )


def name_pictures(out: Path, images: Sequence[Path]) -> list[Path]:
    """Where each image's picture goes: nothing is overwritten."""
    if out.suffix.lower() == PNG and not out.is_dir():
        if len(images) > 1:
            raise click.UsageError(
                f"--out {out}: one file cannot hold {len(images)} pictures; give a folder."
            )
        check_new(out, "--out")
        return [out]
    if out.exists() and not out.is_dir():
        raise click.UsageError(f"--out {out}: neither a folder nor a new file that ends in {PNG}.")
    taken: set[Path] = set()
    return [_find_free(out, image.stem, taken) for image in images]


def _find_free(folder: Path, stem: str, taken: set[Path]) -> Path:
    path, number = folder / f"{stem}{PNG}", 1
    while path in taken or path.exists():
        number += 1
        path = folder / f"{stem}-{number}{PNG}"
    taken.add(path)
    return path


def _find_rows(
    explainer: "Explainer", path: Path, rows: str | None, home: Home, backbone: str | None
) -> "tuple[list[Path], Iterator[Explanation]]":
    """The images of rows of a cache, where their dataset lies, and their explanations."""
    from msdn.extract.datasets.registry import find_image_folder

    cache = FeatureCache(path, explainer.predictor.basis.map)
    chosen, sources = parse_rows(rows, cache), cache.provenance.get(ANNOTATIONS, {})
    folder = find_image_folder(cache.annotations.dataset, sources, home)
    paths = [folder / cache.annotations.image_paths[row] for row in chosen]
    return paths, explainer.explain_rows(cache, chosen, folder, backbone)


def _table(one: "Explanation") -> Table:
    assert one.answer is not None and one.reasons is not None
    branches = [look.branch for look in one.reasons[0].looks] if one.reasons else []
    columns = (
        "attribute",
        "score",
        *(cell for name in branches for cell in (branch_title(name), "peak x,y")),
    )
    is_best = "the answer" if one.is_best else "as asked, not the answer"
    title = f"{escape(one.image)}: {escape(one.answer.name)} ({one.answer.kind}, {is_best})"
    return Table(columns, [list(_cells(reason)) for reason in one.reasons], title, words=("attribute",))


def _cells(reason: "Reason") -> Iterator[str]:
    yield from (escape(reason.attribute), f"{reason.score:.3f}")
    for look in reason.looks:
        yield from (f"{look.score:.3f}", f"{look.peak[1]},{look.peak[0]}")


def _notes(explainer: "Explainer") -> list[str]:
    from msdn.train.measure.reporting import provenance_notes, reconstruction_notes

    run = explainer.predictor.run
    return [
        f"run: {run.path}",
        "score: the model's score of the attribute, then each branch's own score",
        "peak: the centre of the region it looks at most, in pixels from the left and the top of the prepared image",
        *reconstruction_notes([run.settings.model]),
        *provenance_notes(run.manifest["weights"], 0),
    ]
