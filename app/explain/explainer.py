"""What a model sees of each attribute, and where: its attention over an image that nobody has labelled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdn.app.explain.drawing import find_peak
from msdn.app.predict.classes import number_of
from msdn.app.predict.predictor import Answer, Predictor
from msdn.cache import FeatureCache
from msdn.cache.errors import UnknownNameError
from msdn.extract.backbones.entry import Plan
from msdn.extract.backbones.places import Places, locate_regions
from msdn.extract.errors import BadImageError
from msdn.extract.pipeline.reading import read_image
from msdn.extract.pipeline.repeating import ImageFeatures, Repeater, plan_of
from msdn.train.errors import RunError
from msdn.train.models.registry import find_model, model_names


@dataclass(frozen=True)
class Look:
    """What one branch makes of one attribute.

    Attributes:
        branch: the branch's name.
        score: what it says of the attribute.
        attention: where it looks, [h, w] over the regions.
        peak: row and column, in the prepared image, of the centre of the region where it looks most.
    """

    branch: str
    score: float
    attention: np.ndarray
    peak: tuple[int, int]


@dataclass(frozen=True)
class Reason:
    """An attribute: what all branches together say of it, by how much that lifts the class, and each branch's look."""

    attribute: str
    score: float
    share: float
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Explanation:
    """Where a model looks in one image.

    Attributes:
        image: the image's path.
        pixels: the image as the network saw it, [H, W, 3] uint8; None where it could not be used.
        answer: the class that is explained.
        places: where the regions are in it.
        is_best: whether that is the model's answer, and not a class that the user named.
        reasons: attributes, those that spoke most for the class first, or as the user named them.
        error: why the image could not be used.
        is_masked: whether that was settled when its cache was made.
    """

    image: str
    pixels: np.ndarray | None = None
    answer: Answer | None = None
    places: Places | None = None
    is_best: bool = True
    reasons: tuple[Reason, ...] = ()
    error: str = ""
    is_masked: bool = False

    def as_json(self) -> dict[str, Any]:
        """The explanation as JSON knows it, without pixels."""
        if self.error or self.answer is None:
            return {"image": self.image, "masked" if self.is_masked else "error": self.error}
        return {
            "image": self.image,
            "class": {**vars(self.answer), "best": self.is_best},
            "attributes": [
                {
                    "name": reason.attribute,
                    "score": reason.score,
                    "share": reason.share,
                    "branches": {
                        look.branch: {
                            "score": look.score,
                            "peak": {"x": look.peak[1], "y": look.peak[0]},
                            "attention": look.attention.tolist(),
                        }
                        for look in reason.looks
                    },
                }
                for reason in self.reasons
            ],
        }


class Explainer:
    """A predictor asked where its model looks."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        attributes: Sequence[str] = (),
        top: int = 5,
        class_name: str | None = None,
    ) -> None:
        """Refuse a model that attends to nothing, and names that the run does not know.

        Args:
            predictor: a run's model.
            attributes: the attributes to show, by name; none means those that speak most for the class.
            top: how many attributes to show where none are named.
            class_name: the class to explain; None means the answer.
        """
        name = predictor.run.settings.model
        if not find_model(name).attends:
            known = ", ".join(one for one in model_names() if find_model(one).attends)
            raise RunError(
                f"{predictor.run.path}: its model '{name}' has no attention over places in an image; explain a run "
                f"of a model that has it: {known}"
            )
        self.predictor, self._top = predictor, top
        self._class = None if class_name is None else number_of(predictor.candidates, class_name)
        names = [predictor.attribute_name(k) for k in range(predictor.advantages.shape[1])]
        unknown = [one for one in attributes if one not in names]
        if unknown:
            raise UnknownNameError("attribute", unknown[0], names)
        assert predictor.basis.problem.grid is not None, "a run keeps it"
        self._grid = predictor.basis.problem.grid
        self._places: Places | None = None  # found when the first image is there
        self._attributes = [names.index(one) for one in attributes]

    def explain_images(
        self, paths: Sequence[Path], repeater: Repeater, workers: int | None = None
    ) -> Iterator[Explanation]:
        """An explanation of every image, in order; one that cannot be read is an explanation with an error."""
        for one in repeater.compute(paths, workers):
            yield self._explain_file(paths[one.row], one, repeater.plan)

    def explain_rows(
        self, cache: FeatureCache, rows: np.ndarray, folder: Path, backbone: str | None = None
    ) -> Iterator[Explanation]:
        """An explanation of rows of a cache whose features were made as the run's own.

        Args:
            cache: the features.
            rows: which images.
            folder: where the images lie.
            backbone: the file of a backbone of the user's own, which knows how images are prepared.
        """
        self.predictor.check_cache(cache)
        plan = plan_of(cache.provenance, cache.map.name, backbone)
        for row in rows.tolist():
            path = folder / cache.annotations.image_paths[row]
            error = cache.mask_reasons.get(row, "")
            features = None if error else cache.read_rows(np.array([row]))[0]
            one = self._explain_file(path, ImageFeatures(row, features, error), plan)
            yield replace(one, is_masked=bool(error))

    def _explain_file(self, path: Path, found: ImageFeatures, plan: Plan) -> Explanation:
        if found.features is None:
            return Explanation(str(path), error=found.error)
        try:
            pixels = read_image(path, plan.preparation)
        except BadImageError as error:
            return Explanation(str(path), error=str(error))
        if self._places is None and self._grid[0] == self._grid[1]:
            self._places = locate_regions(plan, self._grid[0])
        return self.explain(str(path), found.features, pixels, self._places)

    @torch.inference_mode()
    def explain(
        self, image: str, features: np.ndarray, pixels: np.ndarray, places: Places | None = None
    ) -> Explanation:
        """The explanation of one image.

        Args:
            image: its path.
            features: of its regions, as a cache has them.
            pixels: as the network saw them.
            places: where the regions are in them; None means the middles of equal cells.
        """
        predictor, problem = self.predictor, self.predictor.basis.problem
        flat = features.reshape(1, problem.regions, problem.channels)
        scores, said = predictor.scores(flat)
        regions = predictor.prepare(flat)
        maps = {name: one[0].T.cpu().numpy() for name, one in predictor.model.attention(regions).items()}
        seen = {name: one[0].cpu().numpy() for name, one in predictor.model.attribute_scores(regions).items()}
        evidence = np.mean(list(seen.values()), axis=0) if said is None else said[0]  # [K]

        best = int(scores[0].argmax())
        number = best if self._class is None else self._class
        candidates = predictor.candidates
        shares = evidence * predictor.advantages[number]
        reasons = tuple(
            Reason(
                predictor.attribute_name(k),
                float(evidence[k]),
                float(shares[k]),
                tuple(
                    Look(name, float(seen[name][k]), one, find_peak(one, len(pixels), places))
                    for name, one in ((name, rows[k].reshape(self._grid)) for name, rows in maps.items())
                ),
            )
            for k in self._choose(shares, predictor.advantages[number])
        )
        answer = Answer(candidates.names[number], float(scores[0, number]), candidates.kinds[number])
        return Explanation(image, pixels, answer, places, number == best, reasons)

    def _choose(self, shares: np.ndarray, advantages: np.ndarray) -> list[int]:
        """The attributes that the user named, or those the class has above the average that speak most for it."""
        if self._attributes:
            return self._attributes
        own = np.where(advantages > 0, shares, -np.inf)  # what a class lacks is nowhere to be seen
        order: list[int] = np.argsort(-own, kind="stable")[: self._top].tolist()
        return [k for k in order if own[k] > -np.inf]
