"""The trained models as a reader of the papers would first write them: one einsum for each equation, in one precision.

No product is shared, nothing is folded, features [B, F, R] come as a network gives them and are normalised in every
step. It is what `train_step.py` compares with; `python benchmarks/reference_models.py FILE.npz...` replays golden files
of MSDN and DEDN through it.

B images, R regions, F channels, K attributes, D word-vector size, C classes
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, einsum
from torch.nn import functional

from msdn.train.models.dedn.published_weights import parameter_names
from msdn.train.models.msdn.published_weights import PARAMETERS

_UNTOLD = {
    312: (3.0, 0.0),
    85: (2.0, 1e-9),
}  # what no array of DEDN's files tells: shift and epsilon of CUB and AWA2
Parameters = Mapping[str, Tensor]
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Classes:
    """What the losses know of the classes."""

    attributes: Tensor  # z [C, K], each of length 1
    seen: Tensor  # [C] bool
    lambda_cal: float
    lambda_distill: float = 0.0
    lambda_align: float = 0.0
    shift: float = 0.0  # of DEDN, on the true class
    epsilon: float = 0.0  # of DEDN, in the weighted distance
    normalize_vectors: bool = False

    @property
    def margins(self) -> Tensor:
        """-1 for seen classes, +1 for the others."""
        return 1 - 2 * self.seen.to(self.attributes.dtype)

    def scores(self, attribute_scores: Tensor) -> Tensor:
        """`psi . z`, [B, K] -> [B, C]."""
        return einsum("bk,ck->bc", attribute_scores, self.attributes)


def region_map(vectors: Tensor, matrix: Tensor, regions: Tensor) -> Tensor:
    """`a_k' W v_r`, [B, K, R]."""
    return einsum("kd,df,bfr->bkr", vectors, matrix, regions)


def branches(p: Parameters, regions: Tensor, classes: Classes) -> dict[str, tuple[Tensor, Tensor]]:
    """The attention and the scores [B, K, R] of A->V and V->A."""
    vectors = p["word_vectors"]
    if classes.normalize_vectors:
        vectors = functional.normalize(vectors, dim=1)
    maps = {name: region_map(vectors, p[name], regions) for name in p if name != "word_vectors"}
    return {
        "av": (maps["av_attention"].softmax(dim=2), maps["av_score"]),
        "va": (maps["va_attention"].softmax(dim=1), maps["va_score"]),
    }


def msdn_loss(p: Parameters, regions: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """MSDN as released."""
    regions = functional.normalize(regions, dim=1)
    scores = [
        classes.scores(einsum("bkr,bkr->bk", attention, score))
        for attention, score in branches(p, regions, classes).values()
    ]
    return msdn_terms(scores, labels, classes)


def msdn_terms(scores: Sequence[Tensor], labels: Tensor, classes: Classes) -> Tensor:
    """Cross-entropy and self-calibration of both branches, and their distillation."""
    loss = sum((single_terms(one, labels, classes) for one in scores), torch.zeros(()))
    first, second = (one + classes.margins for one in scores)
    return loss + classes.lambda_distill * distillation(first, second, 0.0)


def single_terms(scores: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """Cross-entropy and self-calibration."""
    return functional.cross_entropy(scores, labels) + classes.lambda_cal * calibration(scores, classes)


def calibration(scores: Tensor, classes: Classes) -> Tensor:
    """`-log mean_b sum_{c unseen} p_bc`."""
    p = (scores + classes.margins).softmax(dim=1)
    return -p[:, ~classes.seen].sum(dim=1).mean().log()


def distillation(first: Tensor, second: Tensor, epsilon: float) -> Tensor:
    """Jensen-Shannon divergence and weighted distance."""
    p, q = first.softmax(dim=1), second.softmax(dim=1)
    mean = (p + q) / 2
    divergence = 0.5 * ((p * (p / mean).log()).sum(dim=1) + (q * (q / mean).log()).sum(dim=1)).mean()
    d = first - second
    distance = (d.abs() ** 3).sum(dim=1) / ((d**2).sum(dim=1) + epsilon).sqrt()
    return divergence + distance.mean()


def msdn_plus_loss(p: Parameters, regions: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """MSDN++, our reconstruction, with a random counterfactual and lambda_causal 1."""
    regions = functional.normalize(regions, dim=1)
    scores, causal = [], torch.zeros(())
    for name, (attention, score) in branches(p, regions, classes).items():
        counted = attention.shape[2] if name == "av" else attention.shape[1]
        other = torch.rand_like(attention) * 2 / counted
        factual = classes.scores(einsum("bkr,bkr->bk", attention, score))
        effect = factual - classes.scores(einsum("bkr,bkr->bk", other, score))
        causal = causal + functional.cross_entropy(effect, labels)
        scores.append(factual)
    return msdn_terms(scores, labels, classes) + causal


def dazle_loss(p: Parameters, regions: Tensor, labels: Tensor, classes: Classes) -> Tensor:
    """DAZLE: the feature that an attribute attends to is made, as its equation says."""
    regions = functional.normalize(regions, dim=1)
    vectors = p["word_vectors"]
    beta = region_map(vectors, p["av_attention"], regions).softmax(dim=2)
    psi = einsum("bkr,bkr->bk", beta, region_map(vectors, p["av_score"], regions))
    attended = einsum("bkr,bfr->bkf", beta, regions)  # f_k
    gates = einsum("kd,df,bkf->bk", vectors, p["attribute_attention"], attended).sigmoid()
    return single_terms(classes.scores(gates * psi), labels, classes)


def dan(p: Parameters, sub_net: str, regions: Tensor) -> tuple[Tensor, Tensor]:
    """One dual attention network of DEDN: p_region and p_channel, [B, K] each."""
    names = ("word_vectors", "region_score", "region_attention", "channel_score", "channel_attention")
    vectors, h1, h2, h3, h4 = (p[f"{sub_net}.{name}"] for name in names)
    w1 = region_map(vectors, h2, regions).softmax(dim=2)
    region = einsum("bkr,bkr->bk", w1, region_map(vectors, h1, regions))
    w2 = einsum("kd,dr,bfr->bkf", vectors, h4, regions).softmax(dim=2)
    channel = einsum("bkf,bkf->bk", w2, einsum("kd,dr,bfr->bkf", vectors, h3, regions))
    return region, channel


def dedn_loss(
    p: Parameters, regions: Tensor, labels: Tensor, classes: Classes, groups: Sequence[Tensor]
) -> Tensor:
    """DEDN: one sub-net of all attributes, and one of each group."""
    regions = functional.normalize(regions, dim=1)
    coarse = dan(p, "coarse", regions)
    parts = [dan(p, f"fine.{number}", regions) for number in range(len(groups))]
    fine = tuple(torch.cat(one, dim=1) for one in zip(*parts, strict=True))
    order = torch.cat(list(groups))
    loss, with_margin = torch.zeros(()), []
    for (region, channel), attributes in ((coarse, classes.attributes), (fine, classes.attributes[:, order])):
        scores = einsum("bk,ck->bc", region + channel, attributes)
        shifted = scores + classes.seen.to(scores.dtype)
        shifted = shifted - classes.shift * functional.one_hot(labels, len(classes.seen)).to(scores.dtype)
        loss = loss + functional.cross_entropy(shifted, labels)
        loss = loss + classes.lambda_cal * calibration(scores, classes)
        loss = loss + classes.lambda_align * distillation(region, channel, classes.epsilon)
        with_margin.append(scores + classes.margins)
    return loss + classes.lambda_distill * distillation(*with_margin, classes.epsilon)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "msdn": msdn_loss,
    "msdn++": msdn_plus_loss,
    "dazle": dazle_loss,
    "dedn": dedn_loss,
}


def replay(golden: Mapping[str, np.ndarray]) -> float:
    """The largest error of a golden file's loss and gradients."""
    regions = torch.tensor(golden["features_nchw"]).flatten(2)
    attributes = functional.normalize(torch.tensor(golden["att_raw"]).clamp_min(0), dim=1)
    seen = torch.zeros(len(attributes), dtype=torch.bool)
    seen[torch.tensor(golden["seen"])] = True
    labels, is_dedn = torch.tensor(golden["labels"]), "indicator" in golden
    names = {theirs: (ours, False) for theirs, ours in parameter_names(_groups(golden)).items()}
    before, names = ("__", names) if is_dedn else ("_", PARAMETERS)
    parameters = {}
    for theirs, (ours, turned) in names.items():
        value = torch.tensor(golden[f"param__{theirs}" if is_dedn else theirs])
        parameters[ours] = (value.T if turned else value).requires_grad_()
    lambda_cal = float(golden["lambda_cal"])
    if is_dedn:
        shift, epsilon = _UNTOLD[attributes.shape[1]]
        weights = lambda_cal, float(golden["p_ce"]), float(golden["p_crc"])
        classes = Classes(attributes, seen, *weights, shift=shift, epsilon=epsilon)
        of_groups = [
            torch.from_numpy(np.flatnonzero(golden["indicator"] == n)) for n in range(_groups(golden))
        ]
        loss = dedn_loss(parameters, regions, labels, classes, of_groups)
    else:
        again = bool(golden["normalize_attribute_vectors"])
        distill = float(golden["lambda_distill"])
        loss = msdn_loss(
            parameters,
            regions,
            labels,
            Classes(attributes, seen, lambda_cal, distill, normalize_vectors=again),
        )
    loss.backward()
    errors = [abs(loss.item() - float(golden["loss_total"]))]
    for theirs, (ours, turned) in names.items():
        gradient = parameters[ours].grad
        assert gradient is not None
        wanted = torch.tensor(golden[f"grad{before}{theirs}"])
        errors.append(float((gradient - (wanted.T if turned else wanted)).abs().max()))
    return max(errors)


def _groups(golden: Mapping[str, np.ndarray]) -> int:
    return int(golden["indicator"].max()) + 1 if "indicator" in golden else 0


def main(paths: Sequence[str]) -> int:
    """Replay golden files."""
    worst = 0.0
    for path in paths:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            error = replay(dict(file))
        print(f"{path}: {error:.1e}")
        worst = max(worst, error) if math.isfinite(error) else math.inf
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
