"""Class scores of a model on a division's images."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from msdn.cache import FeatureCache
from msdn.train.errors import RunError
from msdn.train.loop.batches import Division, FeatureSource
from msdn.train.loop.ranks import ALONE, Ranks
from msdn.train.measure.metrics import Scored, ScoredImages
from msdn.train.models.parts.base import ZslModel

_BATCH = 64


class Scorer:
    """Scores the images that a division measures; reads no other row."""

    def __init__(
        self,
        cache: FeatureCache,
        division: Division,
        prepare: Callable[[Tensor], Tensor],
        device: torch.device,
        place: str = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        """Serve the features, prepared for the model, from `place`: "auto", "memory" or "map"; `ranks` share them."""
        self._ranks = ranks
        self._division = division
        rows = np.concatenate([division.seen_rows, division.unseen_rows])
        self.features = FeatureSource(cache, rows, prepare, device, place)

    def score(self, model: ZslModel) -> Scored:
        """The model's class scores, without margin."""
        problem = self._division.problem
        unseen, seen = (
            self.score_images(model, rows) for rows in (self._division.unseen_rows, self._division.seen_rows)
        )
        return Scored(unseen, seen, problem.seen, problem.unseen)

    @torch.inference_mode()
    def score_images(self, model: ZslModel, rows: np.ndarray) -> ScoredImages:
        """The model's class scores of some of the images, without margin."""
        model.eval()
        plan = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        own = self.features.batches(plan[self._ranks.number :: self._ranks.count])
        found = [model.class_scores(model(batch)) for batch in own]  # a GPU is waited for once, at the end
        parts = self._ranks.gather_every([one.cpu().numpy() for one in found])
        classes = len(self._division.problem.attributes)
        scores = np.concatenate(parts) if parts else np.empty((0, classes), np.float32)
        if not np.isfinite(scores).all():
            raise RunError("the model's scores are not finite; train it again with a lower --lr")
        return ScoredImages(scores, self._division.labels[rows])
