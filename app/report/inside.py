"""The report's looks inside a model: its picture of the images by t-SNE, and where it attends in some of them."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from msdn.app.explain.drawing import branch_title, overlay
from msdn.app.explain.explainer import Explainer, Explanation
from msdn.app.predict.predictor import Predictor
from msdn.app.report.charts import SERIES, Chart, Key, data_of, legend_of
from msdn.app.report.html import Html, element, figure_cell, missing, note
from msdn.app.report.subjects import Subject
from msdn.app.report.tsne import embed
from msdn.cache import FeatureCache, Home
from msdn.cache.errors import MsdnError
from msdn.cache.layout import ANNOTATIONS
from msdn.extract.datasets.registry import find_image_folder
from msdn.terminal import counted
from msdn.train.errors import RunError
from msdn.train.measure.evaluate import load_model
from msdn.train.models.parts.base import preparation
from msdn.train.models.parts.classes import ClassSpace
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.registry import find_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLASSES = 10  # drawn by chance for each picture, as in the paper's figure
PER_CLASS = 40  # images of each, at most
SHOWN = 3  # right images, and as many wrong ones
_SEED = 0
_AT_ONCE = 64
_PIXELS = 224  # of a shown image's side, at most
_QUALITY = 80
_ATTRIBUTES = 3
_ORDER = ("va", "av")  # of the branches, as in the paper's figure


def pictures(subjects: Sequence[Subject]) -> list[Chart | Html]:
    """Figure 5 of the paper: t-SNE of what each branch makes of test images, seen and unseen classes apart."""
    parts: list[Chart | Html] = []
    for number, one in enumerate(subjects, 1):
        if len(subjects) > 1:
            parts.append(element("h3", one.label))
        if one.cache is None:
            parts.append(missing(f"This needs the features of the test images. {one.missing}"))
            continue
        mark = f"-{number}" if len(subjects) > 1 else ""
        for kind in ("seen", "unseen"):
            parts += _panels(one, one.cache, kind, mark)
    explained = (
        "Every point is a test image, placed by what the model says of each attribute: similar images lie close "
        f"together. {CLASSES} classes of each kind are drawn at random (seed {_SEED}), up to {PER_CLASS} images of "
        "each. Exact t-SNE from the first principal components; the axes have no unit."
    )
    return [note(explained), *parts]


def _panels(one: Subject, cache: FeatureCache, kind: str, mark: str) -> list[Chart | Html]:
    """A picture for each branch, and one for what they say together."""
    rows = cache.rows(f"test_{kind}")
    labels, names = cache.annotations.labels, cache.annotations.class_names
    chance = np.random.Generator(np.random.PCG64(_SEED))
    known = np.unique(labels[rows])
    chosen = np.sort(chance.choice(known, min(CLASSES, len(known)), replace=False))
    rows = (
        np.concatenate([_some(rows[labels[rows] == c], chance) for c in chosen]) if len(chosen) else rows[:0]
    )
    if not len(rows):
        return [missing(f"There are no test images of {kind} classes.")]
    keys = {int(c): Key(names[c], SERIES[n % 5], marker="^" if n >= 5 else "o") for n, c in enumerate(chosen)}
    charts = [
        _picture(
            f"tsne{mark}-{kind}-{branch}", f"{kind.capitalize()} classes, {title}", points, rows, cache, keys
        )
        for branch, title, points in described_images(one, cache, rows)
    ]
    return [*charts, legend_of(list(keys.values()))]


def _some(rows: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    return np.sort(chance.choice(rows, min(PER_CLASS, len(rows)), replace=False))


def described_images(
    one: Subject, cache: FeatureCache, rows: np.ndarray
) -> list[tuple[str, str, np.ndarray]]:
    """What each branch says of the attributes in images [N, K], and all branches together: name, title, points.

    A model that says nothing of single attributes is described by its class scores.
    """
    problem = problem_of(cache, one.run.groups(cache.annotations.attributes.shape[1]))
    model = load_model(one.run, problem).eval()
    prepare = preparation(model, one.run.precision)
    space = getattr(model, "classes", None)
    first = 0
    if isinstance(space, ClassSpace):
        first = len(space.attributes)  # classes come before the attributes
        space.probe()
    branches: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for start in range(0, len(rows), _AT_ONCE):
            regions = prepare(torch.from_numpy(cache.read_rows(rows[start : start + _AT_ONCE])))
            told = model.attribute_scores(regions) if find_model(one.run.settings.model).attends else {}
            told = {**told, "": model.class_scores(model(regions))[:, first:]}
            for name, said in told.items():
                branches.setdefault(name, []).append(said.numpy())
    stacked = {name: np.concatenate(parts) for name, parts in branches.items()}
    together = stacked.pop("")
    if len(stacked) < 2:  # one branch alone says it all
        return [("all", one.run.settings.model, together)]
    order = sorted(stacked, key=lambda name: (*_ORDER, name).index(name))
    titles = {name: branch_title(name) for name in order}
    found = [(name, title, stacked[name]) for name, title in titles.items()]
    return [*found, ("all", " and ".join(titles.values()), together)]


def _picture(
    name: str, title: str, points: np.ndarray, rows: np.ndarray, cache: FeatureCache, keys: dict[int, Key]
) -> Chart:
    places = embed(points)
    labels, annotations = cache.annotations.labels[rows], cache.annotations
    lines = [
        {
            "image": annotations.image_paths[row],
            "class": annotations.class_names[label],
            "x": round(float(x), 4),
            "y": round(float(y), 4),
        }
        for row, label, (x, y) in zip(rows, labels, places, strict=True)
    ]

    def draw(axes: "Axes") -> None:
        for c, key in keys.items():
            own = places[labels == c]
            size = 9 if len(places) > 100 else 18
            axes.scatter(own[:, 0], own[:, 1], size, color=key.colour, marker=key.marker, linewidth=0)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.grid(False)
        axes.set_frame_on(False)

    described = f"t-SNE of {counted(len(rows), 'test image')} of {counted(len(keys), 'class')}."
    return Chart(
        name, title, described, lines, draw, shared=list(keys.values()), size=(3.0, 2.8), shape="panel"
    )


def attention(
    subjects: Sequence[Subject], home: Home, device: str, backbone: str | None
) -> list[Chart | Html]:
    """Where each model that attends looks in some images of unseen classes, right and wrong."""
    parts: list[Chart | Html] = []
    for number, one in enumerate(subjects, 1):
        if len(subjects) > 1:
            parts.append(element("h3", one.label))
        try:
            name = f"attention-{number}" if len(subjects) > 1 else "attention"
            parts += _attention_of(one, home, device, backbone, name)
        except MsdnError as error:
            parts.append(missing(str(error)))
    return parts


def _attention_of(one: Subject, home: Home, device: str, backbone: str | None, name: str) -> list[Html]:
    model = one.run.settings.model
    if not find_model(model).attends:
        return [missing(f"The model '{model}' has no attention over places in an image.")]
    if one.cache is None or one.answers is None:
        raise RunError(f"This needs the features of the test images. {one.missing}")
    annotations, chosen = one.cache.annotations, _chosen(one)
    folder = find_image_folder(annotations.dataset, one.cache.provenance.get(ANNOTATIONS, {}), home)
    explainer = Explainer(Predictor(one.run, home, device=device), top=_ATTRIBUTES)
    rows = one.answers.rows[chosen]
    cards, lines = [], list[dict[str, Any]]()
    for n, row, found in zip(
        chosen, rows, explainer.explain_rows(one.cache, rows, folder, backbone), strict=True
    ):
        if found.error:
            raise RunError(
                f"{found.image}: {found.error}; if the images are there, the report shows where the model looks"
            )
        true, is_right = annotations.class_names[one.answers.labels[n]], bool(one.answers.right[n])
        cards.append(_card(found, true, is_right))
        lines += _attention_lines(found, annotations.image_paths[row], true, is_right)
    if not cards:
        return [missing("There are no test images of unseen classes.")]
    explained = (
        f"Test images of unseen classes drawn at random (seed {_SEED}): up to {SHOWN} answered right and {SHOWN} "
        f"wrong, each of another class. The {_ATTRIBUTES} attributes that spoke most for the answer, each with its "
        "score and where each branch looks; red is where a map is highest. Each map is scaled by itself."
    )
    return [note(explained), element("div", *cards, class_="cards"), data_of(name, lines)]


def _chosen(one: Subject) -> list[int]:
    """Some answers to images of unseen classes by number, each of another class, right ones first."""
    assert one.answers is not None
    chance = np.random.Generator(np.random.PCG64(_SEED))
    found: list[int] = []
    for wanted in (True, False):
        fitting = chance.permutation(np.flatnonzero(one.answers.is_unseen & (one.answers.right == wanted)))
        _, firsts = np.unique(one.answers.labels[fitting], return_index=True)  # of each class one
        found += np.sort(fitting[np.sort(firsts)[:SHOWN]]).tolist()
    return found


def _card(found: Explanation, true: str, is_right: bool) -> Html:
    """One image with its maps."""
    assert found.pixels is not None and found.answer is not None
    answer = found.answer
    verdict = element("span", "right" if is_right else "wrong", class_="right" if is_right else "wrong")
    words = (
        [verdict, f" {true}"] if is_right else [verdict, f" {true}, taken for {answer.name} ({answer.kind})"]
    )
    rows = []
    for reason in found.reasons:
        maps = [
            element(
                "figure",
                _image(
                    overlay(found.pixels, look.attention, found.places),
                    f"{branch_title(look.branch)}: {reason.attribute}",
                ),
                element("figcaption", branch_title(look.branch), " ", figure_cell(look.score, 2)),
            )
            for look in reason.looks
        ]
        head = element("p", reason.attribute, " ", figure_cell(reason.score, 2), class_="attribute")
        rows.append(element("div", head, element("div", *maps, class_="maps"), class_="reason"))
    original = element(
        "figure", _image(found.pixels, f"test image of {true}"), element("figcaption", "image")
    )
    return element(
        "article", element("h4", *words), element("div", original, *rows, class_="looks"), class_="card"
    )


def _attention_lines(found: Explanation, image: str, true: str, is_right: bool) -> list[dict[str, Any]]:
    return [
        {
            "image": image,
            "class": true,
            "right": is_right,
            "answer": found.answer.name if found.answer else None,
            "attribute": reason.attribute,
            "score": reason.score,
            "branch": look.branch,
            "branch_score": look.score,
            "attention": " ".join(f"{value:.4g}" for value in look.attention.ravel()),
        }
        for reason in found.reasons
        for look in reason.looks
    ]


def _image(pixels: np.ndarray, described: str) -> Html:
    """Pixels as a JPEG within the page."""
    image = Image.fromarray(pixels)
    image.thumbnail((_PIXELS, _PIXELS))
    file = BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    source = Html(f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}")
    width, height = map(str, image.size)
    return Html(element("img", src=source, alt=described, width=width, height=height).removesuffix("</img>"))
