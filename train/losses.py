"""The loss terms of MSDN, in the released and the paper's form (equations: Chen et al., CVPR 2022).

All take class scores [B, C] without margin, and add the margin themselves where the equation has one.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from msdn.train.classes import ClassSpace


def cross_entropy_released(scores: Tensor, labels: Tensor, classes: ClassSpace) -> Tensor:
    """Cross-entropy over all classes."""
    return functional.cross_entropy(scores, labels)


def cross_entropy_paper(scores: Tensor, labels: Tensor, classes: ClassSpace) -> Tensor:
    """Eq. (7), first term: cross-entropy over the seen classes."""
    return functional.cross_entropy(scores.masked_fill(~classes.seen, -torch.inf), labels)


def calibration_released(scores: Tensor, classes: ClassSpace) -> Tensor:
    """`−log mean_b Σ_{c unseen} p_bc`: the log is of the batch mean, so this is no sum over images."""
    scores = scores + classes.margins
    unseen = scores.masked_fill(~classes.unseen, -torch.inf).logsumexp(dim=1)  # [B]
    log_share = unseen - scores.logsumexp(dim=1)  # log Σ_{c unseen} p_bc
    batch_sum = log_share.logsumexp(dim=0)
    return math.log(len(scores)) - batch_sum


def calibration_paper(scores: Tensor, classes: ClassSpace) -> Tensor:
    """Eq. (7), second term with the sign that its text intends: `mean_b −Σ_{c unseen} log p_bc`."""
    log_p = (scores + classes.margins).log_softmax(dim=1)
    return -(log_p * classes.unseen).sum(dim=1).mean()


def distillation_released(first: Tensor, second: Tensor, classes: ClassSpace) -> Tensor:
    """Jensen-Shannon divergence over all classes, with margins, plus the weighted distance."""
    log_p = (first + classes.margins).log_softmax(dim=1)
    log_q = (second + classes.margins).log_softmax(dim=1)
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    divergence = 0.5 * (_divergence(log_p, log_mean) + _divergence(log_q, log_mean))
    return divergence + weighted_distance(first, second)


def distillation_paper(first: Tensor, second: Tensor, classes: ClassSpace) -> Tensor:
    """Eq. (8) and (9): symmetrised KL over the seen classes plus the squared distance over all."""
    log_p = first.masked_fill(~classes.seen, -torch.inf).log_softmax(dim=1)
    log_q = second.masked_fill(~classes.seen, -torch.inf).log_softmax(dim=1)
    log_ratio = (log_p - log_q).masked_fill(~classes.seen, 0.0)
    divergence = (
        0.5 * ((log_p.exp() - log_q.exp()) * log_ratio).sum(dim=1).mean()
    )  # KL(p|q) + KL(q|p), halved
    return divergence + (first - second).square().sum(dim=1).mean()


def weighted_distance(first: Tensor, second: Tensor) -> Tensor:
    """`mean_b Σ_c |d_bc|³ / ||d_b||₂`, and 0 with a zero gradient where the two scores are equal."""
    difference = first - second  # [B, C]
    squared = difference.square().sum(dim=1)
    # Below `tiny` the numerator is 0 in this precision: dividing it by 1 instead leaves the value as it was.
    length = torch.where(squared > torch.finfo(squared.dtype).tiny, squared, 1.0).sqrt()
    return (difference.abs().pow(3).sum(dim=1) / length).mean()


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p||q), batch mean."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


CROSS_ENTROPIES: dict[str, Callable[[Tensor, Tensor, ClassSpace], Tensor]] = {
    "released": cross_entropy_released,
    "paper": cross_entropy_paper,
}
CALIBRATIONS: dict[str, Callable[[Tensor, ClassSpace], Tensor]] = {
    "released": calibration_released,
    "paper": calibration_paper,
}
DISTILLATIONS: dict[str, Callable[[Tensor, Tensor, ClassSpace], Tensor]] = {
    "released": distillation_released,
    "paper": distillation_paper,
}
