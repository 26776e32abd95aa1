"""Region features as models take them, and the types that they are computed in."""

import torch
from torch import Tensor

_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize has it: an all-zero region stays zero
_NARROW = (torch.bfloat16, torch.float16)


def unit_regions(regions: Tensor, dtype: torch.dtype) -> Tensor:
    """Region features [B, R, F] with each region scaled to length 1; scaled in float32 or wider, given as `dtype`."""
    units = torch.empty(regions.shape, dtype=dtype, device=regions.device)
    at_once = 1 if regions.device.type == "cpu" else max(1, len(regions))  # one image stays in a CPU's caches
    wide = torch.empty_like(regions[:at_once], dtype=torch.promote_types(regions.dtype, torch.float32))
    for part, unit in zip(regions.split(at_once), units.split(at_once), strict=True):
        wide.copy_(part)
        norms = torch.linalg.vector_norm(wide, dim=2, keepdim=True)  # [b, R, 1]
        unit.copy_(wide.mul_(norms.clamp_min_(_SMALLEST_NORM).reciprocal_()))
    return units


def widen(values: Tensor) -> Tensor:
    """The values in float32, where they are of a narrower type; else as they are."""
    return values.float() if values.dtype in _NARROW else values
