"""The baseline of MSDN's Table 2: average-pooled features mapped linearly to the attributes.

B images, R regions, F channels, K attributes, C classes
"""

import torch
from torch import Tensor, nn

from msdn.train.models.parts.classes import ClassSpace, class_space_of
from msdn.train.models.parts.problem import Problem
from msdn.train.models.parts.regions import unit_regions
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

    def prepare(self, regions: Tensor, dtype: torch.dtype) -> Tensor:
        """x̄ [B, F]: no weight comes before the mean, so it is taken once."""
        return unit_regions(regions, dtype).mean(dim=1)

    def forward(self, pooled: Tensor) -> Tensor:
        """Class scores [B, C] from x̄ [B, F]."""
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
