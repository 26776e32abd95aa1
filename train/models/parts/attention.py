"""Attention branches: maps between attributes and regions, and what the branches of MSDN make of them.

B images, R regions, F channels, K attributes, D word-vector size, M maps
`a_k' W v_r` are maps [B, R, K], one of every matrix W [D, F]; all come from one product over the regions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from msdn.train.models.parts.regions import inverse_norms

Maps = Mapping[str, Tensor]
Starts = Mapping[str, Callable[..., Tensor]]


@dataclass(frozen=True)
class Branch:
    """Scores attributes by two maps: one says where to look, the other what is seen there.

    Attributes:
        name: begins the names of its matrices.
        over: the dimension of a map [B, R, K] over which the attention sums to one.
        starts: its matrices, each with what it starts as: `torch.zeros` or `torch.randn`.
    """

    name: str
    over: int
    starts: Starts

    def logits(self, maps: Maps) -> Tensor:
        """What the attention is the softmax of, [B, R, K]."""
        return maps[f"{self.name}_attention"]

    def attention(self, maps: Maps) -> Tensor:
        """The attention [B, R, K]."""
        return self.logits(maps).softmax(dim=self.over)

    def attribute_scores(self, attention: Tensor, maps: Maps) -> Tensor:
        """`Σ_r attention · score` [B, K], linear in the attention."""
        return (attention * maps[f"{self.name}_score"]).sum(dim=1)  # [B, R, K] -> [B, K]


@dataclass(frozen=True)
class RelayedBranch(Branch):
    """V→A as in the paper: each region is summed up in one number, which a third map hands to the attributes."""

    def attribute_scores(self, attention: Tensor, maps: Maps) -> Tensor:
        """Eq. (5) and (6), [B, K], linear in the attention."""
        bar = (attention * maps["va_score"]).sum(dim=2, keepdim=True)  # v_r' W_4 Σ_k τ a_k, [B, R, 1]
        return (bar * maps["va_regions"]).sum(dim=1)  # Σ_r bar_r v_r' W_att a_k, [B, K]


_VA_STARTS: Starts = {
    "va_attention": torch.zeros,
    "va_score": torch.zeros,
}  # W_3, eq. (4); W_4, eq. (6), transposed
AV = Branch("av", 1, {"av_attention": torch.zeros, "av_score": torch.randn})  # W_1, eq. (1); W_2, eq. (3)
VA = {
    "released": Branch("va", 2, _VA_STARTS),
    # W_att, transposed. Zero like W_4 it would leave both without a gradient for ever.
    "paper": RelayedBranch("va", 2, {**_VA_STARTS, "va_regions": torch.randn}),
}


def attribute_maps(
    regions: Tensor, vectors: Tensor, matrices: Mapping[str, Tensor], *, normalize_vectors: bool
) -> dict[str, Tensor]:
    """`a_k' W v_r` of every matrix, [B, R, K] each: the regions are read once."""
    if normalize_vectors:
        vectors = functional.normalize(vectors, dim=1)
    queries = torch.cat([vectors @ matrix for matrix in matrices.values()])  # [K, F] each -> [MK, F]
    maps = functional.linear(regions, queries) * inverse_norms(regions)  # [B, R, MK]
    return dict(zip(matrices, maps.chunk(len(matrices), dim=2), strict=True))  # [B, R, K] each


def start_matrices(starts: Starts, vectors: Tensor, channels: int) -> dict[str, nn.Parameter]:
    """Matrices [D, F] with their initial values; those that are random are drawn in order."""
    size = (vectors.shape[1], channels)
    return {name: nn.Parameter(start(size, dtype=vectors.dtype)) for name, start in starts.items()}
