"""MSDN (Chen et al., CVPR 2022): two attention branches that teach each other.

B images, R regions, F channels, K attributes, D word-vector size, C classes, M maps
`a_k' W v_r` are maps [B, R, K], one of every matrix W [D, F]; all come from one product over the regions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from msdn.train.classes import ClassSpace, class_space_of
from msdn.train.losses import CALIBRATIONS, CROSS_ENTROPIES, DISTILLATIONS
from msdn.train.models.base import ZslModel
from msdn.train.models.regions import inverse_norms
from msdn.train.problem import Problem
from msdn.train.settings import TrainSettings

_LEARNED_SIZE = 300  # D of vectors learned from scratch, as the published word vectors have


class BranchScores(NamedTuple):
    """Class scores of both branches, [B, C] each, without margin."""

    av: Tensor
    va: Tensor


class Msdn(ZslModel):
    """The attribute→visual and the visual→attribute branch; the released forms unless told otherwise."""

    def __init__(
        self,
        classes: ClassSpace,
        word_vectors: Tensor,
        channels: int,
        *,
        lambda_cal: float,
        lambda_distill: float,
        alpha: tuple[float, float],
        va_form: str,
        cross_entropy: str,
        calibration: str,
        distillation: str,
        normalize_vectors: bool,
    ) -> None:
        """Start as the released code does: A→V's score matrix standard normal, the others zero.

        Args:
            classes: the classes.
            word_vectors: [K, D], raw; normalised here, then trained.
            channels: F.
            lambda_cal: weight of the self-calibration.
            lambda_distill: weight of the distillation.
            alpha: weights of the two branches in the prediction.
            va_form: the V→A branch as "released" or as in the "paper".
            cross_entropy: "released" (all classes) or "paper" (seen classes).
            calibration: "released" or "paper".
            distillation: "released" or "paper".
            normalize_vectors: normalise the word vectors again in every forward pass.
        """
        super().__init__()
        self.classes = classes
        self.lambda_cal, self.lambda_distill, self.alpha = lambda_cal, lambda_distill, alpha
        self.va_form, self.normalize_vectors = va_form, normalize_vectors
        self.cross_entropy = CROSS_ENTROPIES[cross_entropy]
        self.calibration = CALIBRATIONS[calibration]
        self.distillation = DISTILLATIONS[distillation]

        size = (word_vectors.shape[1], channels)
        zeros = word_vectors.new_zeros(size)
        self.word_vectors = nn.Parameter(functional.normalize(word_vectors, dim=1))  # [K, D]
        self.av_attention = nn.Parameter(zeros.clone())  # W_1 of eq. (1), [D, F]
        self.av_score = nn.Parameter(torch.randn(size, dtype=zeros.dtype))  # W_2 of eq. (3), [D, F]
        self.va_attention = nn.Parameter(zeros.clone())  # W_3 of eq. (4), transposed, [D, F]
        self.va_score = nn.Parameter(zeros.clone())  # W_4 of eq. (6), transposed, [D, F]
        if va_form == "paper":
            # W_att, transposed. Zero like W_4 it would leave both without a gradient for ever.
            self.va_regions = nn.Parameter(torch.randn(size, dtype=zeros.dtype))  # [D, F]

    def forward(self, regions: Tensor) -> BranchScores:
        """Class scores of both branches from raw region features [B, R, F]."""
        maps = self._maps(regions)
        beta = maps["av_attention"].softmax(dim=1)  # eq. (1), over regions
        psi = (beta * maps["av_score"]).sum(dim=1)  # eq. (2), (3): Σ_r β a_k' W_2 v_r, [B, K]

        tau = maps["va_attention"].softmax(dim=2)  # eq. (4), over attributes
        answers = tau * maps["va_score"]  # [B, R, K]
        if self.va_form == "paper":
            bar = answers.sum(dim=2, keepdim=True)  # eq. (5), (6): v_r' W_4 Σ_k τ a_k, [B, R, 1]
            answers = bar * maps["va_regions"]  # bar_r v_r' W_att a_k, [B, R, K]
        return BranchScores(self.classes(psi), self.classes(answers.sum(dim=1)))  # [B, K] -> [B, C]

    def attention(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """The attention of both branches: β [B, K, R] and τ [B, R, K]."""
        maps = self._maps(regions)
        return maps["av_attention"].softmax(dim=1).transpose(1, 2), maps["va_attention"].softmax(dim=2)

    def losses(self, scores: BranchScores, labels: Tensor) -> dict[str, Tensor]:
        """Every term, unweighted, and their weighted sum, eq. (10), under "loss"."""
        terms = {}
        for branch, branch_scores in scores._asdict().items():
            terms[f"ce_{branch}"] = self.cross_entropy(branch_scores, labels, self.classes)
            terms[f"cal_{branch}"] = self.calibration(branch_scores, self.classes)
        terms["distill"] = self.distillation(scores.av, scores.va, self.classes)
        branches = terms["ce_av"] + terms["ce_va"] + self.lambda_cal * (terms["cal_av"] + terms["cal_va"])
        return {"loss": branches + self.lambda_distill * terms["distill"], **terms}

    def class_scores(self, scores: BranchScores) -> Tensor:
        """Eq. (11) without its margin: `(α1 psi + α2 Psi) · z_c`."""
        return self.alpha[0] * scores.av + self.alpha[1] * scores.va

    def _maps(self, regions: Tensor) -> dict[str, Tensor]:
        """`a_k' W v_r` of every matrix, [B, R, K] each: the regions are read once."""
        weights = {
            "av_attention": self.av_attention,
            "av_score": self.av_score,
            "va_attention": self.va_attention,
            "va_score": self.va_score,
        }
        if self.va_form == "paper":
            weights["va_regions"] = self.va_regions
        vectors: Tensor = self.word_vectors
        if self.normalize_vectors:
            vectors = functional.normalize(vectors, dim=1)
        queries = torch.cat([vectors @ weight for weight in weights.values()])  # [K, F] each -> [MK, F]
        maps = functional.linear(regions, queries) * inverse_norms(regions)  # [B, R, MK]
        return dict(zip(weights, maps.chunk(len(weights), dim=2), strict=True))  # [B, R, K] each


def build_msdn(problem: Problem, settings: TrainSettings) -> Msdn:
    """MSDN for a dataset."""
    if settings.vectors == "learned":
        vectors = torch.randn(problem.attributes.shape[1], _LEARNED_SIZE)  # [K, D]
    else:
        vectors = torch.tensor(problem.attribute_vectors).float()
    return Msdn(
        class_space_of(problem, settings),
        vectors,
        problem.channels,
        lambda_cal=settings.lambda_cal,
        lambda_distill=settings.lambda_distill,
        alpha=settings.alpha,
        va_form=settings.va_form,
        cross_entropy=settings.cross_entropy,
        calibration=settings.calibration,
        distillation=settings.distillation,
        normalize_vectors=settings.normalize_vectors,
    )
