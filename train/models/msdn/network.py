"""MSDN (Chen et al., CVPR 2022): two attention branches that teach each other, or one of them alone.

B images, R regions, F channels, K attributes, D word-vector size, C classes
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from msdn.train.models.msdn import MsdnSettings
from msdn.train.models.parts.attention import AV, VA, attribute_maps, by_region, start_matrices
from msdn.train.models.parts.base import ZslModel
from msdn.train.models.parts.classes import ClassSpace, class_space_of
from msdn.train.models.parts.losses import CALIBRATIONS, CROSS_ENTROPIES, DISTILLATIONS
from msdn.train.models.parts.problem import Problem
from msdn.train.models.parts.word_vectors import start_vectors


class Msdn(ZslModel):
    """The attribute→visual and the visual→attribute branch; the released forms unless told otherwise.

    Attributes:
        branches: those it has, in the order A→V, V→A.
    """

    def __init__(
        self,
        classes: ClassSpace,
        word_vectors: Tensor,
        channels: int,
        *,
        lambda_cal: float,
        lambda_distill: float,
        alpha: tuple[float, float],
        branches: str,
        va_form: str,
        cross_entropy: str,
        calibration: str,
        distillation: str,
        distill_parts: str,
        normalize_vectors: bool,
    ) -> None:
        """Start as the released code does: A→V's score matrix standard normal, the others zero.

        Args:
            classes: the classes.
            word_vectors: [K, D], raw; normalised here, then trained.
            channels: F.
            lambda_cal: weight of the self-calibration.
            lambda_distill: weight of the distillation.
            alpha: weights of the two branches in the prediction; one branch alone predicts by itself.
            branches: "both", or "av" or "va" alone, which has no distillation.
            va_form: the V→A branch as "released" or as in the "paper".
            cross_entropy: "released" (all classes) or "paper" (seen classes).
            calibration: "released" or "paper".
            distillation: "released" or "paper".
            distill_parts: "both" terms of the distillation, or only "divergence" or "distance".
            normalize_vectors: normalise the word vectors again in every forward pass.
        """
        super().__init__()
        self.classes = classes
        self.lambda_cal, self.lambda_distill, self.alpha = lambda_cal, lambda_distill, alpha
        self.normalize_vectors, self.distill_parts = normalize_vectors, distill_parts
        self.cross_entropy = CROSS_ENTROPIES[cross_entropy]
        self.calibration = CALIBRATIONS[calibration]
        self.distillation = DISTILLATIONS[distillation]

        self.word_vectors = nn.Parameter(functional.normalize(word_vectors, dim=1))  # [K, D]
        known = (AV, VA[va_form])
        self.branches = tuple(branch for branch in known if branches in ("both", branch.name))
        # A branch left out is drawn all the same, so that one seed starts all variants alike.
        for branch in known:
            for name, matrix in start_matrices(branch.starts, word_vectors, channels).items():
                if branch in self.branches:
                    self.register_parameter(name, matrix)  # [D, F]

    def forward(self, regions: Tensor) -> dict[str, Tensor]:
        """Class scores [B, C] of each branch, by its name and without margin, from prepared regions [B, R, F]."""
        return {name: self.classes(scores) for name, scores in self.attribute_scores(regions).items()}

    def attention(self, regions: Tensor) -> dict[str, Tensor]:
        """The attention of each branch by its name, [B, R, K]: β sums to one over regions, τ over attributes."""
        maps = self._maps(regions)
        return {branch.name: by_region(branch.attention(maps)) for branch in self.branches}

    def attribute_scores(self, regions: Tensor) -> dict[str, Tensor]:
        """psi of A→V and Psi of V→A, [B, K] each by the branch's name."""
        maps = self._maps(regions)
        return {
            branch.name: branch.attribute_scores(branch.attention(maps), maps) for branch in self.branches
        }

    def losses(self, scores: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Every term, unweighted, and their weighted sum, eq. (10), under "loss"."""
        terms = {}
        for branch in self.branches:
            terms[f"ce_{branch.name}"] = self.cross_entropy(scores[branch.name], labels, self.classes)
            terms[f"cal_{branch.name}"] = self.calibration(scores[branch.name], self.classes)
        loss = sum_terms(terms, "ce") + self.lambda_cal * sum_terms(terms, "cal")
        if len(self.branches) == 2:
            terms["distill"] = self.distillation(scores["av"], scores["va"], self.classes, self.distill_parts)
            loss = loss + self.lambda_distill * terms["distill"]
        return {"loss": loss, **terms}

    def class_scores(self, scores: dict[str, Tensor]) -> Tensor:
        """Eq. (11) without its margin: `(α1 psi + α2 Psi) · z_c`; the scores as they are of one branch alone."""
        if len(self.branches) == 1:
            return scores[self.branches[0].name]
        return self.alpha[0] * scores["av"] + self.alpha[1] * scores["va"]

    def _maps(self, regions: Tensor) -> dict[str, Tensor]:
        """`a_k' W v_r` of every matrix, [K, B, R] each."""
        matrices = {name: getattr(self, name) for branch in self.branches for name in branch.starts}
        return attribute_maps(regions, self.word_vectors, matrices, normalize_vectors=self.normalize_vectors)


def sum_terms(terms: dict[str, Tensor], kind: str) -> Tensor:
    """The sum over the branches of one kind of loss term."""
    return torch.stack([value for name, value in terms.items() if name.startswith(f"{kind}_")]).sum()


def msdn_arguments(problem: Problem, settings: MsdnSettings) -> dict[str, Any]:
    """What MSDN is built of for a dataset."""
    return {
        "classes": class_space_of(problem, settings),
        "word_vectors": start_vectors(problem, settings),
        "channels": problem.channels,
        "lambda_cal": settings.lambda_cal,
        "lambda_distill": settings.lambda_distill,
        "alpha": settings.alpha,
        "branches": settings.branches,
        "va_form": settings.va_form,
        "cross_entropy": settings.cross_entropy,
        "calibration": settings.calibration,
        "distillation": settings.distillation,
        "distill_parts": settings.distill_parts,
        "normalize_vectors": settings.normalize_vectors,
    }


def build_msdn(problem: Problem, settings: MsdnSettings) -> Msdn:
    """MSDN for a dataset."""
    return Msdn(**msdn_arguments(problem, settings))
