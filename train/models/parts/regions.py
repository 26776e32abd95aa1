"""The L2 normalisation of region features, without a normalised copy of them."""

import torch
from torch import Tensor

_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize has it: an all-zero region stays zero


def inverse_norms(regions: Tensor) -> Tensor:
    """What each region is to be multiplied by to have length 1: [B, R, F] -> [B, R, 1].

    A linear map commutes with this scaling, so that it is cheaper applied to the map's result.
    """
    norms = torch.linalg.vector_norm(regions, dim=2, keepdim=True)  # [B, R, 1]
    return norms.clamp_min(_SMALLEST_NORM).reciprocal()
