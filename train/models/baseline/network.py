"""The baseline of MSDN's Table 2: average-pooled features mapped linearly to the attributes.

B images, R regions, F channels, K attributes, C classes
"""

from torch import Tensor, nn

from msdn.train.models.parts.classes import ClassSpace, class_space_of
from msdn.train.models.parts.problem import Problem
from msdn.train.models.parts.regions import inverse_norms
from msdn.train.models.parts.settings import LossSettings
from msdn.train.models.parts.single import SingleScoreModel


class Baseline(SingleScoreModel):
    """`psi = W x̄` with x̄ the mean of the L2-normalised regions; starts at W = 0."""

    def __init__(
        self, classes: ClassSpace, channels: int, *, lambda_cal: float, cross_entropy: str, calibration: str
    ) -> None:
        """Take the classes, F, the self-calibration's weight and the losses' forms ("released" or "paper")."""
        super().__init__(classes, lambda_cal=lambda_cal, cross_entropy=cross_entropy, calibration=calibration)
        attributes = classes.attributes.shape[1]
        self.weight = nn.Parameter(classes.attributes.new_zeros(attributes, channels))  # [K, F]

    def forward(self, regions: Tensor) -> Tensor:
        """Class scores [B, C] from raw region features [B, R, F]."""
        scales = inverse_norms(regions).transpose(1, 2) / regions.shape[1]  # [B, 1, R]
        pooled = (scales @ regions).squeeze(1)  # [B, F]
        return self.classes(pooled @ self.weight.T)  # [B, K] -> [B, C]


def build_baseline(problem: Problem, settings: LossSettings) -> Baseline:
    """The baseline for a dataset."""
    return Baseline(
        class_space_of(problem, settings),
        problem.channels,
        lambda_cal=settings.lambda_cal,
        cross_entropy=settings.cross_entropy,
        calibration=settings.calibration,
    )
