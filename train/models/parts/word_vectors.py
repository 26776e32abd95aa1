"""The attribute vectors that a model starts with."""

import torch
from torch import Tensor

from msdn.train.models.parts.problem import Problem
from msdn.train.models.parts.settings import VectorSettings

_LEARNED_SIZE = 300  # D of vectors learned from scratch, as the published word vectors have


def start_vectors(problem: Problem, settings: VectorSettings) -> Tensor:
    """Vectors [K, D], raw: those of the dataset, or standard normal ones to learn from scratch."""
    if settings.vectors == "learned":
        return torch.randn(problem.attributes.shape[1], _LEARNED_SIZE)
    return torch.tensor(problem.attribute_vectors).float()
