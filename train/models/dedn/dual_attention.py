"""DEDN's sub-net, the dual attention network: attributes look at regions, and at channels as if they were tokens.

B images, R regions, F channels, K attributes, D word-vector size, h rank of the region score's matrix
x_r is a region [F] of length 1; x_f is one channel of all regions so scaled, [R].
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from msdn.train.models.parts.attention import OVER_REGIONS, sum_regions
from msdn.train.models.parts.regions import widen


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
    """p_region and p_channel, [B, K] each, from regions [B, R, F] of length 1."""
    attention, scores = region_maps(queries, regions)
    return sum_regions(attention * scores), _attend_channels(queries, regions)


def region_maps(queries: Queries, regions: Tensor) -> tuple[Tensor, Tensor]:
    """`w1 = softmax_r a_k' H_2 x_r` and `s1 = a_k' H_1 x_r`, [K, B, R] each: both from one product."""
    weights = torch.cat([queries.region_score, queries.region_attention]).to(regions.dtype)  # [2K, F]
    maps = functional.linear(weights, regions.flatten(0, 1)).unflatten(1, regions.shape[:2])  # [2K, B, R]
    scores, logits = (widen(one) for one in maps.chunk(2))  # [K, B, R] each
    return logits.softmax(dim=OVER_REGIONS), scores


def _attend_channels(queries: Queries, regions: Tensor) -> Tensor:
    """`Σ_f w2 s2` with `s2 = a_k' H_3 x_f` and `w2 = softmax_f a_k' H_4 x_f`, [B, K].

    Computed as `a_k' H_3 Σ_f w2 x_f`, so that w2 is the only map [B, K, F].
    """
    attended: Tensor = _AttendedChannels.apply(queries.channel_attention, regions)  # [B, K, R]
    return (attended * queries.channel_score).sum(dim=2)


class _AttendedChannels(torch.autograd.Function):
    """`Σ_f w2 x_f` [B, K, R]. The map w2 is made again for the gradient: kept, it would be a hundred times the result.

    A CPU does one image at a time, whose map stays in its caches; a GPU the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, asked: Tensor, regions: Tensor) -> Tensor:
        parts = [
            _channel_weights(asked, image) @ image.transpose(1, 2)
            for image in regions.split(_at_once(regions))
        ]
        attended = widen(torch.cat(parts))
        ctx.save_for_backward(asked, regions, attended)
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        asked, regions, attended = ctx.saved_tensors
        mean = (
            (gradient * attended).sum(dim=2, keepdim=True).to(regions.dtype)
        )  # Σ_f w2 · gradient of w2, [B, K, 1]
        parts = [one.split(_at_once(regions)) for one in (regions, gradient.to(regions.dtype), mean)]
        total = torch.zeros_like(asked)
        for image, own, own_mean in zip(*parts, strict=True):
            of_logits = (own @ image).sub_(own_mean).mul_(_channel_weights(asked, image))  # [b, K, F]
            total += (of_logits @ image.transpose(1, 2)).sum(dim=0)
        return total, None


def _channel_weights(asked: Tensor, image: Tensor) -> Tensor:
    """w2, [b, K, F]."""
    return (asked.to(image.dtype) @ image).softmax(dim=2)


def _at_once(regions: Tensor) -> int:
    return 1 if regions.device.type == "cpu" else len(regions)


def _normal(zeros: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.randn_like(zeros))
