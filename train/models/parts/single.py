"""What models with one score of a class share: cross-entropy and self-calibration."""

from torch import Tensor

from msdn.train.models.parts.base import ZslModel
from msdn.train.models.parts.classes import ClassSpace
from msdn.train.models.parts.losses import CALIBRATIONS, CROSS_ENTROPIES


class SingleScoreModel(ZslModel):
    """A model whose `forward` gives class scores [B, C], which predict as they are."""

    def __init__(
        self, classes: ClassSpace, *, lambda_cal: float, cross_entropy: str, calibration: str
    ) -> None:
        """Take the classes, the self-calibration's weight and the losses' forms ("released" or "paper")."""
        super().__init__()
        self.classes = classes
        self.lambda_cal = lambda_cal
        self.cross_entropy = CROSS_ENTROPIES[cross_entropy]
        self.calibration = CALIBRATIONS[calibration]

    def losses(self, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Both terms, and their weighted sum under "loss"."""
        terms = {
            "ce": self.cross_entropy(scores, labels, self.classes),
            "cal": self.calibration(scores, self.classes),
        }
        return {"loss": terms["ce"] + self.lambda_cal * terms["cal"], **terms}

    def class_scores(self, scores: Tensor) -> Tensor:
        """The only scores there are."""
        return scores
