"""DEDN's sub-net, the dual attention network: attributes look at regions, and at channels as if they were tokens.

B images, R regions, F channels, K attributes, D word-vector size, h rank of the region score's matrix
x_r is a region [F] of length 1; x_f is one channel of all regions so scaled, [R].
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from msdn.train.models.parts.regions import inverse_norms


class Queries(NamedTuple):
    """What every attribute asks of a region and of a channel: `a_k' H` of each matrix H."""

    region_score: Tensor  # a_k' H_1, [K, F]
    region_attention: Tensor  # a_k' H_2, [K, F]
    channel_score: Tensor  # a_k' H_3, [K, R]
    channel_attention: Tensor  # a_k' H_4, [K, R]


class DualAttention(nn.Module):
    """The parameters of one sub-net; called, it gives its queries, so that many sub-nets can share `attend`."""

    def __init__(self, word_vectors: Tensor, channels: int, regions: int, *, score_rank: int) -> None:
        """Start as the released code does: H_1 and H_3 standard normal, H_2 and H_4 zero.

        Args:
            word_vectors: [K, D], raw; normalised here, then trained.
            channels: F.
            regions: R.
            score_rank: h, where H_1 is a product [D, h] · [h, F] of standard normal matrices; 0 for a whole one.
        """
        super().__init__()
        zeros = word_vectors.new_zeros
        size = word_vectors.shape[1]
        self.word_vectors = nn.Parameter(functional.normalize(word_vectors, dim=1))  # [K, D]
        self.region_score = _normal(zeros(size, score_rank or channels))  # H_1, [D, F], or [D, h]
        if score_rank:
            self.region_score_right = _normal(zeros(score_rank, channels))  # [h, F]
        self.region_attention = nn.Parameter(zeros(size, channels))  # H_2, [D, F]
        self.channel_score = _normal(zeros(size, regions))  # H_3, [D, R]
        self.channel_attention = nn.Parameter(zeros(size, regions))  # H_4, [D, R]
        self.score_rank = score_rank

    def forward(self) -> Queries:
        """The queries of this sub-net's attributes."""
        region_score = self.word_vectors @ self.region_score  # [K, F], or [K, h]
        if self.score_rank:
            region_score = region_score @ self.region_score_right  # [K, h] -> [K, F]
        return Queries(
            region_score,
            self.word_vectors @ self.region_attention,
            self.word_vectors @ self.channel_score,
            self.word_vectors @ self.channel_attention,
        )


def attend(queries: Queries, regions: Tensor) -> tuple[Tensor, Tensor]:
    """p_region and p_channel, [B, K] each, from raw region features [B, R, F]."""
    scales = inverse_norms(regions)  # [B, R, 1]
    return _attend_regions(queries, regions, scales), _attend_channels(queries, regions, scales)


def _attend_regions(queries: Queries, regions: Tensor, scales: Tensor) -> Tensor:
    """`Σ_r w1 s1`, [B, K]."""
    attention, scores = region_maps(queries, regions, scales)
    return (attention * scores).sum(dim=1)  # [B, R, K] -> [B, K]


def region_maps(queries: Queries, regions: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """`w1 = softmax_r a_k' H_2 x_r` and `s1 = a_k' H_1 x_r`, [B, R, K] each: both from one product."""
    weights = torch.cat([queries.region_score, queries.region_attention])  # [2K, F]
    scores, logits = (functional.linear(regions, weights) * scales).chunk(2, dim=2)  # [B, R, K] each
    return logits.softmax(dim=1), scores


def _attend_channels(queries: Queries, regions: Tensor, scales: Tensor) -> Tensor:
    """`Σ_f w2 s2` with `s2 = a_k' H_3 x_f` and `w2 = softmax_f a_k' H_4 x_f`.

    Computed as `a_k' H_3 Σ_f w2 x_f`, so that w2 is the only map [B, K, F]. A CPU does one image at a time,
    whose map stays in its caches; a GPU the whole batch.
    """
    scales = scales.transpose(1, 2)  # [B, 1, R]
    at_once = 1 if regions.device.type == "cpu" else len(regions)
    attended = torch.cat(
        [
            (asked @ image).softmax(dim=2) @ image.transpose(1, 2)  # [b, K, F] @ [b, F, R]: Σ_f w2 x_f
            for asked, image in zip(
                (queries.channel_attention * scales).split(at_once), regions.split(at_once), strict=True
            )
        ]
    )  # [B, K, R]
    return (attended * scales * queries.channel_score).sum(dim=2)  # [B, K]


def _normal(zeros: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.randn_like(zeros))
