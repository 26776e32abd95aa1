"""A finished run at work on images of no dataset: scores, the classes they mean, and what spoke for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdn.app.predict.classes import Candidates, known_candidates
from msdn.cache import FeatureCache, Home
from msdn.extract.pipeline.repeating import ImageFeatures, Repeater, same_features
from msdn.machine import choose_device
from msdn.train.errors import RunError
from msdn.train.measure.evaluate import load_model
from msdn.train.measure.metrics import confidences
from msdn.train.models.parts.base import preparation
from msdn.train.models.parts.classes import ClassSpace, class_margins, class_mask, normalize_attributes
from msdn.train.runs.basis import load_basis
from msdn.train.runs.results import own_margin
from msdn.train.runs.run import Run

NONE_OF_THESE = "none of these"
_AT_ONCE = 32  # images whose features are scored together
_REASONS = 3  # attributes that spoke for the answer, and as many against


@dataclass(frozen=True)
class Answer:
    """A class that an image may show, and its score: with the margin, so that the highest one is the prediction."""

    name: str
    score: float
    kind: str


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        image: the image's path.
        classes: the best classes, best first; none where the image could not be used.
        spoke_for: attributes that put the best class above the average candidate, with by how much, most first.
        spoke_against: attributes that put it below.
        confidence: how probable the best class is, where that was calibrated on validation classes.
        rejected: whether the confidence is below the level that was asked for.
        error: why the image could not be used.
        is_masked: whether that was settled when its cache was made: no failure of this prediction.
    """

    image: str
    classes: tuple[Answer, ...] = ()
    spoke_for: tuple[tuple[str, float], ...] = ()
    spoke_against: tuple[tuple[str, float], ...] = ()
    confidence: float | None = None
    rejected: bool = False
    error: str = ""
    is_masked: bool = False

    @property
    def answer(self) -> str:
        """The best class's name, or that it is none of them."""
        return NONE_OF_THESE if self.rejected or not self.classes else self.classes[0].name

    def as_json(self) -> dict[str, Any]:
        """The prediction as JSON knows it."""
        if self.error:
            return {"image": self.image, "masked" if self.is_masked else "error": self.error}
        reasons = {"for": self.spoke_for, "against": self.spoke_against}
        return {
            "image": self.image,
            "answer": self.answer,
            "confidence": self.confidence,
            "classes": [vars(answer) for answer in self.classes],
            "attributes": {
                side: [{"name": name, "share": share} for name, share in parts]
                for side, parts in reasons.items()
            },
        }


class Predictor:
    """A run's model for some candidates; images go in, predictions come out.

    Attributes:
        run: the run.
        basis: what it knows of classes and features.
        candidates: the classes it chooses among.
        margin: what is added to the scores of classes that were not trained on, and taken from the others'.
        top: how many classes a prediction names.
        device: where it computes.
        model: its network, on that device.
        advantages: [C, K], by how much each candidate's attributes are above the average candidate's.
        temperature: of the softmax whose probabilities are right on validation classes; None without those.
    """

    def __init__(
        self,
        run: Run,
        home: Home,
        *,
        candidates: Candidates | None = None,
        margin: float | None = None,
        device: str = "auto",
        top: int = 5,
        reject: float | None = None,
    ) -> None:
        """Load the model.

        Args:
            run: a finished run.
            home: where weights of backbones are looked for.
            candidates: the classes to choose among; None means all that the run knows.
            margin: instead of the run's own.
            device: where to compute.
            top: how many classes a prediction names.
            reject: the confidence below which the answer is none of the classes.
        """
        run.check_finished()
        self.run, self.home, self.basis = run, home, load_basis(run)
        self.candidates = known_candidates(self.basis) if candidates is None else candidates
        if not self.candidates.names:
            raise RunError(f"{run.path.name}: no class is left to choose from")
        own = own_margin(run)
        self.margin = (run.settings.margin if own is None else own) if margin is None else margin
        self.temperature = (run.chosen or {}).get("val_temperature") if run.settings.select == "val" else None
        if reject is not None and self.temperature is None:
            raise RunError(
                f"{run.path.name}: it cannot say how sure it is, because that is measured on validation classes; train "
                "with --select val to use --reject"
            )
        self.top = min(top, len(self.candidates.names))
        self.device, self._reject = choose_device(device), reject
        seen = self.candidates.seen
        problem = replace(
            self.basis.problem,
            attributes=self.candidates.attributes,
            seen=seen,
            unseen=np.setdiff1d(np.arange(len(self.candidates.names)), seen),
        )
        self.model = load_model(run, problem).to(self.device).eval()
        self._margins = class_margins(class_mask(seen, len(self.candidates.names)), self.margin).numpy()
        normal = normalize_attributes(self.candidates.attributes, negative=run.settings.negative_attributes)
        self.advantages = normal - normal.mean(axis=0)  # [C, K]: what tells a class from the average one
        space = getattr(self.model, "classes", None)
        self._tells_attributes = isinstance(space, ClassSpace)
        if isinstance(space, ClassSpace):
            space.probe()

    def repeater(self, backbone: str | None = None, weights: str | None = None) -> Repeater:
        """What makes features of other images; open it within `fixed_arithmetic`."""
        basis = self.basis
        return Repeater(
            basis.recipe,
            basis.statistics,
            self.home,
            self.device,
            map=basis.map,
            dtype=basis.dtype,
            backbone=backbone,
            weights=weights,
        )

    def predict_images(
        self, paths: Sequence[Path], repeater: Repeater, workers: int | None = None
    ) -> Iterator[Prediction]:
        """A prediction for every image, in order; one that cannot be read is a prediction with an error."""
        names = [str(path) for path in paths]
        waiting: list[ImageFeatures] = []
        for one in repeater.compute(paths, workers):
            waiting.append(one)
            if len(waiting) == _AT_ONCE:
                yield from self._predict(waiting, names)
                waiting = []
        yield from self._predict(waiting, names)

    def predict_rows(self, cache: FeatureCache, rows: np.ndarray) -> Iterator[Prediction]:
        """A prediction for rows of a cache whose features were made as the run's own."""
        self.check_cache(cache)
        masked = cache.mask_reasons
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            usable = np.array([row for row in part if int(row) not in masked], np.int64)
            features = dict(zip(usable.tolist(), cache.read_rows(usable), strict=True))
            found = [
                ImageFeatures(int(row), features.get(int(row)), masked.get(int(row), ""))
                for row in part.tolist()
            ]
            for one in self._predict(found, cache.annotations.image_paths):
                yield replace(one, is_masked=bool(one.error))

    def check_cache(self, cache: FeatureCache) -> None:
        """Refuse a cache whose features were made differently from the run's own."""
        is_own = cache.fingerprint == self.run.manifest["cache"]["fingerprint"]
        if not is_own and not same_features(cache.provenance, self.basis.recipe, self.basis.map):
            raise RunError(
                f"{cache.path}: its features were made differently from those {self.run.path.name} was trained on; "
                "give a cache of the same backbone, weights and image size"
            )

    def prepare(self, features: np.ndarray) -> Tensor:
        """What the model takes, of features [B, R, F]."""
        regions = torch.from_numpy(np.ascontiguousarray(features)).to(self.device)
        return preparation(self.model, self.run.precision)(regions)

    @torch.inference_mode()
    def scores(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Class scores [B, C] with the margin, and what is said of each attribute [B, K], of features [B, R, F]."""
        regions = self.prepare(features)
        scores = self.model.class_scores(self.model(regions)).cpu().numpy().astype(np.float64)
        classes = len(self.candidates.names)
        said = scores[:, classes:] if self._tells_attributes else None
        return scores[:, :classes] + self._margins, said

    def attribute_name(self, number: int) -> str:
        """An attribute's name, or its number from 1 where it has none."""
        names = self.basis.attribute_names
        return names[number] if names else f"attribute {number + 1}"

    def _predict(self, found: list[ImageFeatures], names: Sequence[str]) -> Iterator[Prediction]:
        good = [one.features for one in found if one.features is not None]
        if good:
            regions = np.stack(good).reshape(
                len(good), self.basis.problem.regions, self.basis.problem.channels
            )
            scores, said = self.scores(regions)
            sure = confidences(scores, self.temperature).tolist() if self.temperature else [None] * len(good)
        place = 0
        for one in found:
            if one.features is None:
                yield Prediction(names[one.row], error=one.error)
                continue
            yield self._settle(
                names[one.row], scores[place], None if said is None else said[place], sure[place]
            )
            place += 1

    def _settle(
        self, image: str, scores: np.ndarray, said: np.ndarray | None, confidence: float | None
    ) -> Prediction:
        order = np.argsort(-scores, kind="stable")[: self.top]
        answers = tuple(
            Answer(self.candidates.names[n], float(scores[n]), self.candidates.kinds[n])
            for n in order.tolist()
        )
        shares = np.zeros(0) if said is None else said * self.advantages[order[0]]
        ranked = np.argsort(-shares, kind="stable").tolist()
        best = [(self.attribute_name(k), float(shares[k])) for k in ranked[:_REASONS] if shares[k] > 0]
        worst = [(self.attribute_name(k), float(shares[k])) for k in ranked[::-1][:_REASONS] if shares[k] < 0]
        rejected = self._reject is not None and confidence is not None and confidence < self._reject
        return Prediction(image, answers, tuple(best), tuple(worst), confidence, rejected)
