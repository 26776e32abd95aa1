"""Measures on Plumage how often a model's attention falls on the part that an attribute speaks of.

The pointing game: for every test image, and every attribute of a part that the image's class has, the region with the
highest attention counts as a hit where its centre lies in the part's box. Trains what is missing, as `make results`
does, and writes its table into docs/results.md.

    python benchmarks/pointing_game.py [--home msdn-home]      (or: make pointing)
"""

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from plumage_results import DATASET, PAGE, read_page, table_line, write_page

from msdn.cache import FeatureCache, Home
from msdn.extract.backbones.places import Places, even_places, locate_regions
from msdn.extract.pipeline.extraction import extract
from msdn.extract.pipeline.repeating import plan_of
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.extract.plumage.birds import PARTS
from msdn.train.measure.evaluate import load_model
from msdn.train.measure.show import show_cell
from msdn.train.measure.summary import parse_seeds, spread
from msdn.train.models.parts.base import preparation
from msdn.train.models.parts.problem import problem_of
from msdn.train.models.registry import find_model, model_names
from msdn.train.runs.run import Run
from msdn.train.studies.study import Study, measure_study, model_row, study_notes

MARKS = ("<!-- pointing begin -->", "<!-- pointing end -->")
HAS = 50  # of 100: a class has the attributes rated at least so; of two colour forms it is the commoner one's
AT_ONCE = 64  # images
BRANCHES = {"av": "A→V", "va": "V→A"}
EVERYWHERE = "all"
Boxes = dict[str, dict[str, tuple[int, int, int, int]]]


@dataclass(frozen=True)
class Game:
    """What is asked of every model.

    Attributes:
        rows: B test images.
        image, attribute, part: of each of N questions, numbers of an image (in `rows`), an attribute, and a part.
        inside: [B, P, R], whether a region's centre lies in a part's box.
        constant: of each part the region that lies in its box most often in training images, [P].
    """

    rows: np.ndarray
    image: np.ndarray
    attribute: np.ndarray
    part: np.ndarray
    inside: np.ndarray
    constant: np.ndarray

    def hits(self, regions: np.ndarray) -> np.ndarray:
        """Whether the region that answers each question hits, [N]."""
        return self.inside[self.image, self.part, regions]

    @property
    def chance(self) -> np.ndarray:
        """How often a random region hits, [N]."""
        return self.inside[self.image, self.part].mean(axis=1)

    @property
    def most(self) -> np.ndarray:
        """Whether any region would hit, [N]."""
        return self.inside[self.image, self.part].any(axis=1)

    def elsewhere(self, regions: np.ndarray) -> np.ndarray:
        """How often the regions hit that answer the same question about other images, [N]."""
        hits = np.zeros(len(regions))
        for attribute in np.unique(self.attribute):
            asked = np.flatnonzero(self.attribute == attribute)
            matches = self.inside[self.image[asked], self.part[asked]][
                :, regions[asked]
            ]  # [question, answer]
            own = np.diagonal(matches)
            hits[asked] = (matches.sum(axis=1) - own) / max(len(asked) - 1, 1)
        return hits


def main() -> None:
    """Train what is missing, play, write the table."""
    options = read_options()
    read_page(options.page, MARKS)  # refuses a page that could not be written later
    home, overrides = Home(options.home), {"epochs": options.epochs} if options.epochs else {}
    extraction = extract(ExtractSettings(DATASET, weights="random", precision="float32"), home)
    with FeatureCache(extraction.path) as cache:
        rows = tuple(model_row(DATASET, name, name, common=overrides) for name in attending_models())
        study = Study(f"{DATASET}-pointing", rows, options.seeds, precision="float32")
        facts, done = measure_study(cache, study, home, workers=options.jobs, device=options.device)
        if any(one.failed for one in done):
            raise SystemExit("\n".join(study_notes(facts, done)))
        boxes = read_boxes(home.data / DATASET / "parts.csv")
        size, side = cache.provenance["image_size"], cache.shape[1]
        places = locate_regions(plan_of(cache.provenance, cache.map.name, None), side)
        games = [set_game(cache, boxes, where) for where in (places, even_places(size, side))]
        answers: dict[str, list[np.ndarray]] = {}
        for one in done:
            for result in one.results:
                for branch, regions in answer(Run(Path(result["run"])), cache, games[0]).items():
                    name = f"{one.row.label} {BRANCHES.get(branch, branch)}"
                    answers.setdefault(name, []).append(regions)
    text = "\n".join([*page_lines(games[0], games[1], answers, places, options.seeds), ""])
    print(text)
    write_page(options.page, text, MARKS)


def read_options() -> argparse.Namespace:
    """What was typed; `--epochs`, `--seeds` and `--page` are there to try the script out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, help="trainings at once")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("0-4"))
    parser.add_argument(
        "--epochs", type=int, help="this many epochs instead of each preset's, to try the script out"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the marks to write between")
    return parser.parse_args()


def attending_models() -> list[str]:
    """The models that look at places."""
    return [name for name in model_names() if find_model(name).attends]


def read_boxes(path: Path) -> Boxes:
    """The box of every part of every image, by the image's path in the cache: x0, y0, and x1, y1 just outside."""
    boxes: Boxes = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            x0, y0, x1, y1 = (int(line[name]) for name in ("x0", "y0", "x1", "y1"))
            boxes.setdefault(line["image"].removeprefix("images/"), {})[line["part"]] = (x0, y0, x1, y1)
    return boxes


def set_game(cache: FeatureCache, boxes: Boxes, places: Places) -> Game:
    """The questions, and which answers are right, for regions at these places."""
    annotations, side = cache.annotations, cache.shape[1]
    splits = annotations.splits
    rows = np.concatenate([splits["test_seen"], splits["test_unseen"]])
    parts = np.array([part_of(name) for name in annotations.attribute_names])
    asked = (annotations.attributes[annotations.labels[rows]] >= HAS) & (parts >= 0)  # [B, K]
    image, attribute = np.nonzero(asked)
    paths = annotations.image_paths
    trained = np.mean([inside_parts(boxes[paths[row]], places, side) for row in splits["trainval"]], axis=0)
    inside = np.array([inside_parts(boxes[paths[row]], places, side) for row in rows])
    return Game(rows, image, attribute, parts[attribute], inside, trained.argmax(axis=1))


def part_of(attribute: str) -> int:
    """The number of the part that an attribute speaks of, such as the wing's of 'wing color: blue'; −1 for none."""
    word = attribute.split(maxsplit=1)[0]
    return PARTS.index(word) if word in PARTS else -1


def inside_parts(boxes: Mapping[str, tuple[int, int, int, int]], places: Places, side: int) -> np.ndarray:
    """Whether each region's centre lies in the box of each part, [P, R]."""
    centres = np.array([places.centre(number) for number in range(side)])
    found = []
    for part in PARTS:
        x0, y0, x1, y1 = boxes[part]
        rows, columns = (y0 <= centres) & (centres < y1), (x0 <= centres) & (centres < x1)
        found.append((rows[:, None] & columns[None, :]).ravel())
    return np.array(found)


@torch.inference_mode()
def answer(run: Run, cache: FeatureCache, game: Game) -> dict[str, np.ndarray]:
    """The region with the highest attention for every question, by branch."""
    model = load_model(run, problem_of(cache, run.groups(cache.annotations.attributes.shape[1]))).eval()
    prepare = preparation(model, run.precision)
    peaks: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(game.rows), AT_ONCE):
        regions = prepare(torch.from_numpy(cache.read_rows(game.rows[start : start + AT_ONCE])))
        for branch, attention in model.attention(regions).items():
            peaks.setdefault(branch, []).append(attention.argmax(dim=1).numpy())  # [B, R, K] -> [B, K]
    return {branch: np.concatenate(all_)[game.image, game.attribute] for branch, all_ in peaks.items()}


def page_lines(
    game: Game, even: Game, answers: Mapping[str, Sequence[np.ndarray]], places: Places, seeds: Sequence[int]
) -> Iterator[str]:
    """Everything between the marks."""
    yield f"{len(game.image):,} questions about {len(game.rows)} test images, seeds {' '.join(map(str, seeds))};"
    yield f"region n is centred at pixel {places.first:g} + {places.step:g} n."
    yield ""
    columns = (*PARTS, EVERYWHERE, "by its maps of other images", "by the middles of even cells")
    yield table_line(["hits, %", *columns])
    yield "|---" * (len(columns) + 1) + "|"
    constant = game.constant[game.part]
    yield table_line(["a random region (chance)", *by_part(game, [game.chance]), "", show([even.chance])])
    best = [even.hits(even.constant[even.part])]
    yield table_line(["the best constant region", *by_part(game, [game.hits(constant)]), "", show(best)])
    yield table_line(
        ["a right region, where there is one", *by_part(game, [game.most]), "", show([even.most])]
    )
    for name, runs in answers.items():
        cells = by_part(game, [game.hits(regions) for regions in runs])
        others = [game.elsewhere(regions) for regions in runs]
        yield table_line([name, *cells, show(others), show([even.hits(regions) for regions in runs])])
    yield ""
    for name, runs in answers.items():
        yield f"- {verdict(game, name, runs)}"


def verdict(game: Game, name: str, runs: Sequence[np.ndarray]) -> str:
    """A branch beside chance and the best constant region, over all and by part."""
    chance, constant = game.chance.mean(), game.hits(game.constant[game.part])
    reached = [game.hits(regions).mean() for regions in runs]
    above = sum(one > constant.mean() for one in reached)
    parts = [
        part
        for number, part in enumerate(PARTS)
        if (game.part == number).any()
        and mean(game.hits(regions)[game.part == number].mean() for regions in runs)
        > constant[game.part == number].mean()
    ]
    return (
        f"{name}: {mean(reached) / chance:.1f} times chance; above the best constant region in {above} of "
        f"{len(runs)} seeds; by part, on the mean: {', '.join(parts) or 'for none'}"
    )


def by_part(game: Game, seeds: Sequence[np.ndarray]) -> list[str]:
    """Hits in percent for each part, and for all."""
    return [*(show([hits[game.part == n] for hits in seeds]) for n in range(len(PARTS))), show(seeds)]


def show(seeds: Sequence[np.ndarray]) -> str:
    """Mean and standard deviation over seeds of hits, in percent."""
    return show_cell(spread([100 * float(np.mean(hits)) if len(hits) else None for hits in seeds]))


if __name__ == "__main__":
    main()
