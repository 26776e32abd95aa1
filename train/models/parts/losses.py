"""The loss terms of MSDN (equations: Chen et al., CVPR 2022), as released and as in the paper, and of its relatives.

All take class scores [B, C] without margin, and add the margin themselves where the equation has one.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from msdn.train.models.parts.classes import ClassSpace


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


def distillation_released(first: Tensor, second: Tensor, classes: ClassSpace, parts: str = "both") -> Tensor:
    """Jensen-Shannon divergence over all classes, with margins, plus the weighted distance; or one of the two."""
    terms = []
    if parts != "distance":
        terms.append(jensen_shannon(first + classes.margins, second + classes.margins))
    if parts != "divergence":
        terms.append(weighted_distance(first, second))
    return torch.stack(terms).sum()


def distillation_paper(first: Tensor, second: Tensor, classes: ClassSpace, parts: str = "both") -> Tensor:
    """Eq. (8): symmetrised KL over the seen classes plus the squared distance over all; or one of the two."""
    terms = []
    if parts != "distance":
        terms.append(symmetric_kl(first, second, classes))
    if parts != "divergence":
        terms.append((first - second).square().sum(dim=1).mean())
    return torch.stack(terms).sum()


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """`½ (KL(p||m) + KL(q||m))` of two softmaxes p and q [B, N] and their mean m, batch mean."""
    log_p, log_q = first.log_softmax(dim=1), second.log_softmax(dim=1)
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * (_divergence(log_p, log_mean) + _divergence(log_q, log_mean))


def symmetric_kl(first: Tensor, second: Tensor, classes: ClassSpace) -> Tensor:
    """Eq. (9): `½ (KL(p||q) + KL(q||p))` of the softmaxes over the seen classes, batch mean."""
    log_p = first.masked_fill(~classes.seen, -torch.inf).log_softmax(dim=1)
    log_q = second.masked_fill(~classes.seen, -torch.inf).log_softmax(dim=1)
    log_ratio = (log_p - log_q).masked_fill(~classes.seen, 0.0)
    return 0.5 * ((log_p.exp() - log_q.exp()) * log_ratio).sum(dim=1).mean()


def weighted_distance(first: Tensor, second: Tensor, epsilon: float = 0.0) -> Tensor:
    """`mean_b Σ_c |d_bc|³ / √(Σ_c d_bc² + ε)`, and 0 with a zero gradient where the two scores are equal."""
    difference = first - second  # [B, C]
    squared = difference.square().sum(dim=1) + epsilon
    # Below `tiny` the numerator is 0 in this precision: dividing it by 1 instead leaves the value as it was.
    length = torch.where(squared > torch.finfo(squared.dtype).tiny, squared, 1.0).sqrt()
    return (difference.abs().pow(3).sum(dim=1) / length).mean()


def shifted_cross_entropy(
    scores: Tensor, labels: Tensor, classes: ClassSpace, true_class_shift: float
) -> Tensor:
    """DEDN's margin-aware cross-entropy over all classes: first +1 on seen classes, then the true class −shift."""
    shifts = classes.seen.to(scores.dtype).expand_as(scores)  # [B, C]
    true_class = torch.zeros_like(scores).scatter(1, labels.unsqueeze(1), true_class_shift)
    return functional.cross_entropy(scores + shifts - true_class, labels)


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
DISTILLATIONS: dict[str, Callable[[Tensor, Tensor, ClassSpace, str], Tensor]] = {
    "released": distillation_released,
    "paper": distillation_paper,
}
