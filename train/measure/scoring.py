"""Class scores of a model on a stage's images."""

import numpy as np
import torch

from msdn.cache import FeatureCache
from msdn.train.errors import RunError
from msdn.train.loop.divisions import Stage
from msdn.train.loop.features import FeatureSource
from msdn.train.measure.metrics import ScoredImages
from msdn.train.measure.scored import Scored
from msdn.train.models.parts.base import ZslModel

_BATCH = 64


class Scorer:
    """Scores the images that a stage measures; reads no other row."""

    def __init__(self, cache: FeatureCache, stage: Stage, device: torch.device, place: str = "auto") -> None:
        """Serve the features from `place`: "auto", "memory" or "map"."""
        self._stage = stage
        rows = np.concatenate([stage.seen_rows, stage.unseen_rows])
        self._features = FeatureSource(cache, rows, device, place)

    def score(self, model: ZslModel) -> Scored:
        """The model's class scores, without margin."""
        problem = self._stage.problem
        unseen, seen = (self._score(model, rows) for rows in (self._stage.unseen_rows, self._stage.seen_rows))
        return Scored(unseen, seen, problem.seen, problem.unseen)

    @torch.inference_mode()
    def _score(self, model: ZslModel, rows: np.ndarray) -> ScoredImages:
        model.eval()
        scores = np.empty((len(rows), len(self._stage.problem.attributes)), np.float32)
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            scores[part] = model.class_scores(model(self._features.read(rows[part]))).cpu().numpy()
        if not np.isfinite(scores).all():
            raise RunError("the model's scores are not finite; train it again with a lower --lr")
        return ScoredImages(scores, self._stage.labels[rows])
