"""Region features as models take them, and the types that they are computed in."""

import torch
from torch import Tensor

_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize has it: an all-zero region stays zero
_NARROW = (torch.bfloat16, torch.float16)


def unit_regions(regions: Tensor, dtype: torch.dtype) -> Tensor:
    """Region features [B, R, F] with each region scaled to length 1; scaled in float32 or wider, given as `dtype`."""
    regions = widen(regions)
    norms = torch.linalg.vector_norm(regions, dim=2, keepdim=True)  # [B, R, 1]
    return (regions * norms.clamp_min_(_SMALLEST_NORM).reciprocal_()).to(dtype)


def widen(values: Tensor) -> Tensor:
    """The values in float32, where they are of a narrower type; else as they are."""
    return values.float() if values.dtype in _NARROW else values
