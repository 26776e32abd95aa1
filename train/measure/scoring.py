"""Class scores of a model on a division's images."""

import numpy as np
import torch

from msdn.cache import FeatureCache
from msdn.train.errors import RunError
from msdn.train.loop.batches import Division, FeatureSource
from msdn.train.measure.metrics import Scored, ScoredImages
from msdn.train.models.parts.base import ZslModel

_BATCH = 64


class Scorer:
    """Scores the images that a division measures; reads no other row."""

    def __init__(
        self, cache: FeatureCache, division: Division, device: torch.device, place: str = "auto"
    ) -> None:
        """Serve the features from `place`: "auto", "memory" or "map"."""
        self._division = division
        rows = np.concatenate([division.seen_rows, division.unseen_rows])
        self.features = FeatureSource(cache, rows, device, place)

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
        scores = np.empty((len(rows), len(self._division.problem.attributes)), np.float32)
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            scores[part] = model.class_scores(model(self.features.read(rows[part]))).cpu().numpy()
        if not np.isfinite(scores).all():
            raise RunError("the model's scores are not finite; train it again with a lower --lr")
        return ScoredImages(scores, self._division.labels[rows])
