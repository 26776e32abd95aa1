"""DEDN (dual expert distillation, 2024): a coarse expert of all attributes and a fine one of attribute groups.

B images, R regions, F channels, K attributes, C classes
Facts and names follow the released code, whose "margin-aware" cross-entropy is `losses.shifted_cross_entropy`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from msdn.train.models.dedn import DednSettings
from msdn.train.models.dedn.dual_attention import DualAttention, Queries, attend, region_maps
from msdn.train.models.parts.attention import by_region
from msdn.train.models.parts.base import ZslModel
from msdn.train.models.parts.classes import ClassSpace, class_space_of
from msdn.train.models.parts.losses import (
    calibration_released,
    jensen_shannon,
    shifted_cross_entropy,
    weighted_distance,
)
from msdn.train.models.parts.problem import Problem
from msdn.train.models.parts.word_vectors import start_vectors


class ExpertScores(NamedTuple):
    """Attribute scores [B, K] of one expert, attributes in the dataset's order."""

    region: Tensor  # p_region
    channel: Tensor  # p_channel


class DednScores(NamedTuple):
    """Attribute scores of both experts."""

    coarse: ExpertScores
    fine: ExpertScores


class Dedn(ZslModel):
    """One sub-net over all attributes, and one for each group with word vectors of its own."""

    position: Tensor

    def __init__(
        self,
        classes: ClassSpace,
        word_vectors: Tensor,
        channels: int,
        regions: int,
        groups: Sequence[np.ndarray],
        *,
        lambda_cal: float,
        lambda_experts: float,
        lambda_align: float,
        true_class_shift: float,
        region_mix: float,
        coarse_mix: float,
        score_rank: int,
        distance_epsilon: float,
    ) -> None:
        """Build the sub-nets, the coarse one first.

        Args:
            classes: the classes.
            word_vectors: [K, D], raw; normalised in each sub-net, then trained there.
            channels: F.
            regions: R.
            groups: the numbers of each group's attributes, ascending; every attribute is in one of them.
            lambda_cal: weight of the self-calibration.
            lambda_experts: p_ce, weight of the distillation between the experts.
            lambda_align: p_crc, weight of the alignment of region and channel attention.
            true_class_shift: taken from the true class's score before the cross-entropy.
            region_mix: c_mix, the region attention's share of an expert's prediction.
            coarse_mix: e_mix, the coarse expert's share of the prediction.
            score_rank: rank of H_1, 0 for a whole matrix.
            distance_epsilon: added to the squared length in the weighted distances.
        """
        super().__init__()
        self.classes = classes
        self.lambda_cal, self.lambda_experts, self.lambda_align = lambda_cal, lambda_experts, lambda_align
        self.true_class_shift, self.distance_epsilon = true_class_shift, distance_epsilon
        self.region_mix, self.coarse_mix = region_mix, coarse_mix

        self.coarse = DualAttention(word_vectors, channels, regions, score_rank=score_rank)
        self.fine = nn.ModuleList(
            DualAttention(word_vectors[group], channels, regions, score_rank=score_rank) for group in groups
        )
        # Where each attribute comes in the groups put end to end.
        position = torch.from_numpy(np.argsort(np.concatenate(groups)))  # [K]
        self.register_buffer("position", position, persistent=False)

    def forward(self, regions: Tensor) -> DednScores:
        """Attribute scores of both experts from prepared regions [B, R, F]: they are read once."""
        region, channel = attend(self._queries(), regions)  # [B, 2K] each
        attributes = len(self.position)
        return DednScores(
            ExpertScores(region[:, :attributes], channel[:, :attributes]),
            ExpertScores(region[:, attributes:], channel[:, attributes:]),
        )

    def attention(self, regions: Tensor) -> dict[str, Tensor]:
        """The region attention w1 of both experts, [B, R, K] each: it sums to one over regions.

        The channel attention is no place in the image.
        """
        attention, _ = region_maps(self._queries(), regions)  # [2K, B, R]
        return dict(zip(DednScores._fields, map(by_region, attention.chunk(2)), strict=True))

    def attribute_scores(self, regions: Tensor) -> dict[str, Tensor]:
        """p_region of both experts, [B, K] each: what is seen where the region attention looks."""
        return {expert: scores.region for expert, scores in self(regions)._asdict().items()}

    def losses(self, scores: DednScores, labels: Tensor) -> dict[str, Tensor]:
        """Every term, unweighted, and their weighted sum under "loss"."""
        terms = {}
        class_scores = self.training_scores(scores)
        for expert, expert_scores in zip(scores._fields, class_scores, strict=True):
            terms[f"ce_{expert}"] = shifted_cross_entropy(
                expert_scores, labels, self.classes, self.true_class_shift
            )
            terms[f"cal_{expert}"] = calibration_released(expert_scores, self.classes)
        for expert, (region, channel) in scores._asdict().items():
            terms[f"align_{expert}"] = self._distill(region, channel)
        coarse, fine = (one + self.classes.margins for one in class_scores)
        terms["distill"] = self._distill(coarse, fine)
        experts = terms["ce_coarse"] + terms["ce_fine"]
        calibration = terms["cal_coarse"] + terms["cal_fine"]
        alignment = terms["align_coarse"] + terms["align_fine"]
        loss = experts + self.lambda_cal * calibration
        loss = loss + self.lambda_experts * terms["distill"] + self.lambda_align * alignment
        return {"loss": loss, **terms}

    def class_scores(self, scores: DednScores) -> Tensor:
        """`e_mix · coarse + (1 − e_mix) · fine` of the prediction's scores, without margin."""
        coarse, fine = self.test_scores(scores)
        return self.coarse_mix * coarse + (1 - self.coarse_mix) * fine

    def training_scores(self, scores: DednScores) -> tuple[Tensor, Tensor]:
        """Class scores [B, C] of the coarse and the fine expert as trained: `p_region + p_channel`."""
        coarse, fine = (self.classes(expert.region + expert.channel) for expert in scores)
        return coarse, fine

    def test_scores(self, scores: DednScores) -> tuple[Tensor, Tensor]:
        """Class scores of both experts for the prediction: `c_mix p_region + (1 − c_mix) p_channel`."""
        mix = self.region_mix
        coarse, fine = (self.classes(mix * expert.region + (1 - mix) * expert.channel) for expert in scores)
        return coarse, fine

    def _queries(self) -> Queries:
        """The queries of both experts, the coarse one's first: [2K, F] or [2K, R] each."""
        parts = zip(self.coarse(), self._fine_queries(), strict=True)
        return Queries(*(torch.cat(part) for part in parts))

    def _fine_queries(self) -> Queries:
        """The queries of all groups, attributes in the dataset's order."""
        parts = zip(*(group() for group in self.fine), strict=True)
        return Queries(*(torch.cat(part)[self.position] for part in parts))

    def _distill(self, first: Tensor, second: Tensor) -> Tensor:
        """Jensen-Shannon divergence plus weighted distance; a margin in both cancels in the distance."""
        return jensen_shannon(first, second) + weighted_distance(first, second, self.distance_epsilon)


def build_dedn(problem: Problem, settings: DednSettings) -> Dedn:
    """DEDN for a dataset whose attributes come in groups."""
    return Dedn(
        class_space_of(problem, settings),
        start_vectors(problem, settings),
        problem.channels,
        problem.regions,
        [group.attributes for group in problem.groups],
        lambda_cal=settings.lambda_cal,
        lambda_experts=settings.lambda_experts,
        lambda_align=settings.lambda_align,
        true_class_shift=settings.true_class_shift,
        region_mix=settings.region_mix,
        coarse_mix=settings.coarse_mix,
        score_rank=settings.score_rank,
        distance_epsilon=settings.distance_epsilon,
    )
