"""Attention branches: maps between attributes and regions, and what the branches of MSDN make of them.

B images, R regions, F channels, K attributes, D word-vector size, M maps
`a_k' W v_r` are maps [K, B, R], one of every matrix W [D, F]; all come from one product with the regions. Products are
of the regions' type, maps and all that follows float32 or wider.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from msdn.train.models.parts.regions import widen

Maps = Mapping[str, Tensor]
Starts = Mapping[str, Callable[..., Tensor]]
OVER_ATTRIBUTES, OVER_IMAGES, OVER_REGIONS = 0, 1, 2  # the dimensions of a map


@dataclass(frozen=True)
class Branch:
    """Scores attributes by two maps: one says where to look, the other what is seen there.

    Attributes:
        name: begins the names of its matrices.
        over: the dimension of a map over which the attention sums to one.
        starts: its matrices, each with what it starts as: `torch.zeros` or `torch.randn`.
    """

    name: str
    over: int
    starts: Starts

    def logits(self, maps: Maps) -> Tensor:
        """What the attention is the softmax of, [K, B, R]."""
        return maps[f"{self.name}_attention"]

    def attention(self, maps: Maps) -> Tensor:
        """The attention [K, B, R]."""
        return self.logits(maps).softmax(dim=self.over)

    def attribute_scores(self, attention: Tensor, maps: Maps) -> Tensor:
        """`Σ_r attention · score` [B, K], linear in the attention."""
        return sum_regions(attention * maps[f"{self.name}_score"])


@dataclass(frozen=True)
class RelayedBranch(Branch):
    """V→A as in the paper: each region is summed up in one number, which a third map hands to the attributes."""

    def attribute_scores(self, attention: Tensor, maps: Maps) -> Tensor:
        """Eq. (5) and (6), [B, K], linear in the attention."""
        bar = (attention * maps["va_score"]).sum(dim=OVER_ATTRIBUTES)  # v_r' W_4 Σ_k τ a_k, [B, R]
        return sum_regions(bar * maps["va_regions"])  # Σ_r bar_r v_r' W_att a_k


_VA_STARTS: Starts = {
    "va_attention": torch.zeros,
    "va_score": torch.zeros,
}  # W_3, eq. (4); W_4, eq. (6), transposed
AV = Branch(
    "av", OVER_REGIONS, {"av_attention": torch.zeros, "av_score": torch.randn}
)  # W_1, eq. (1); W_2, eq. (3)
VA = {
    "released": Branch("va", OVER_ATTRIBUTES, _VA_STARTS),
    # W_att, transposed. Zero like W_4 it would leave both without a gradient for ever.
    "paper": RelayedBranch("va", OVER_ATTRIBUTES, {**_VA_STARTS, "va_regions": torch.randn}),
}


def attribute_maps(
    regions: Tensor, vectors: Tensor, matrices: Mapping[str, Tensor], *, normalize_vectors: bool
) -> dict[str, Tensor]:
    """`a_k' W v_r` of every matrix, [K, B, R] each: the regions [B, R, F] of length 1 are read once."""
    if normalize_vectors:
        vectors = functional.normalize(vectors, dim=1)
    stacked = torch.stack([*matrices.values()]).to(regions.dtype)  # [M, D, F]
    queries = vectors.to(regions.dtype).expand(len(stacked), -1, -1) @ stacked  # [M, K, F]
    # With the queries first, the gradient of the maps is used as it lies in memory.
    maps = functional.linear(queries.flatten(0, 1), regions.flatten(0, 1))  # [MK, BR]
    by_matrix = maps.unflatten(1, regions.shape[:2]).chunk(len(stacked))  # [K, B, R] each
    return dict(zip(matrices, map(widen, by_matrix), strict=True))


def sum_regions(values: Tensor) -> Tensor:
    """Sum over the regions, [K, B, R] -> [B, K]."""
    sums = values.sum(dim=OVER_REGIONS)  # [K, B]
    if sums.requires_grad:
        # Else its layout, that of [B, K], spreads to the gradients of all maps, and their products take twice the time.
        sums.register_hook(lambda gradient: None if gradient is None else gradient.contiguous())
    return sums.T


def by_region(attention: Tensor) -> Tensor:
    """An attention [K, B, R] as models show it: [B, R, K]."""
    return attention.permute(1, 2, 0)


def start_matrices(starts: Starts, vectors: Tensor, channels: int) -> dict[str, nn.Parameter]:
    """Matrices [D, F] with their initial values; those that are random are drawn in order."""
    size = (vectors.shape[1], channels)
    return {name: nn.Parameter(start(size, dtype=vectors.dtype)) for name, start in starts.items()}
