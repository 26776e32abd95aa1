"""The equations of the attention branches as plain loops in float64, and a small problem to try them on."""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from msdn.train.models.parts.classes import ClassSpace, normalize_attributes

B, R, F, K, D, C = 3, 4, 6, 5, 7, 8
SEEN, UNSEEN = np.array([0, 1, 3, 4, 7]), np.array([2, 5, 6])
LABELS = torch.tensor([0, 7, 3])
OVER_REGIONS, OVER_ATTRIBUTES = 1, 2


def random_regions() -> Tensor:
    """Prepared: each of length 1."""
    return unit_regions(torch.rand(B, R, F, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))


def small_classes() -> ClassSpace:
    attributes = normalize_attributes(np.random.RandomState(0).rand(C, K))
    return ClassSpace(torch.from_numpy(attributes), SEEN, UNSEEN, margin=1.0)


def randomize(model: torch.nn.Module) -> None:
    """Fill every matrix with normal numbers; word vectors get another length than 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(1.5 * parameter if name == "word_vectors" else torch.randn_like(parameter))


def used_vectors(model: torch.nn.Module) -> Tensor:
    vectors = model.get_parameter("word_vectors").detach()
    return torch.stack([a / a.norm() for a in vectors]) if model.normalize_vectors else vectors


def unit_regions(regions: Tensor) -> Tensor:
    return torch.stack([torch.stack([v / v.norm() for v in image]) for image in regions])


def naive_map(vectors: Tensor, matrix: Tensor, regions: Tensor) -> Tensor:
    """`a_k' W v_r` [B, R, K]."""
    values = torch.zeros(len(regions), regions.shape[1], len(vectors)).double()
    for b, r, k in product(*map(range, values.shape)):
        values[b, r, k] = vectors[k] @ matrix @ regions[b, r]
    return values


def naive_softmax(logits: Tensor, over: int) -> Tensor:
    weights = torch.zeros_like(logits)
    for b, r, k in product(*map(range, logits.shape)):
        total = sum(x.exp() for x in (logits[b, :, k] if over == OVER_REGIONS else logits[b, r]))
        weights[b, r, k] = logits[b, r, k].exp() / total
    return weights


def naive_av(beta: Tensor, vectors: Tensor, score: Tensor, regions: Tensor) -> Tensor:
    """Eq. (2) and (3): psi [B, K]."""
    psi = torch.zeros(len(regions), len(vectors)).double()
    for b, k in product(*map(range, psi.shape)):
        attended = sum(beta[b, r, k] * v for r, v in enumerate(regions[b]))  # F_k
        psi[b, k] = vectors[k] @ score @ attended
    return psi


def naive_va_released(tau: Tensor, vectors: Tensor, score: Tensor, regions: Tensor) -> Tensor:
    """`Psi_k = Σ_r τ v_r' W_4 a_k`, with W_4 transposed."""
    psi = torch.zeros(len(regions), len(vectors)).double()
    for b, r, k in product(*map(range, tau.shape)):
        psi[b, k] += tau[b, r, k] * (regions[b, r] @ score.T @ vectors[k])
    return psi


def naive_va_paper(tau: Tensor, vectors: Tensor, score: Tensor, relay: Tensor, regions: Tensor) -> Tensor:
    """Eq. (5) and (6): `Psi_k = Σ_r (v_r' W_4 S_r) (v_r' W_att a_k)`, with W_4 and W_att transposed."""
    psi = torch.zeros(len(regions), len(vectors)).double()
    for b, r, k in product(*map(range, tau.shape)):
        semantic = sum(tau[b, r, j] * vectors[j] for j in range(len(vectors)))  # S_r
        psi[b, k] += (regions[b, r] @ score.T @ semantic) * (regions[b, r] @ relay.T @ vectors[k])
    return psi


def naive_logits(model: torch.nn.Module, branch: str, regions: Tensor) -> Tensor:
    matrix = model.get_parameter(f"{branch}_attention").detach()
    return naive_map(used_vectors(model), matrix, unit_regions(regions))


def naive_attention(model: torch.nn.Module, branch: str, regions: Tensor) -> Tensor:
    over = OVER_REGIONS if branch == "av" else OVER_ATTRIBUTES
    return naive_softmax(naive_logits(model, branch, regions), over)


def naive_attribute_scores(model: torch.nn.Module, branch: str, attention: Tensor, regions: Tensor) -> Tensor:
    """What a branch of a model makes of an attention [B, R, K]: attribute scores [B, K]."""
    weights = {name: value.detach() for name, value in model.named_parameters()}
    vectors, units = used_vectors(model), unit_regions(regions)
    if branch == "av":
        return naive_av(attention, vectors, weights["av_score"], units)
    if "va_regions" in weights:
        return naive_va_paper(attention, vectors, weights["va_score"], weights["va_regions"], units)
    return naive_va_released(attention, vectors, weights["va_score"], units)


def naive_classes(attribute_scores: Tensor, classes: ClassSpace) -> Tensor:
    """`psi · z_c` [B, C]."""
    return torch.stack([torch.stack([psi @ z for z in classes.attributes]) for psi in attribute_scores])


def loss_of_parameters(model: torch.nn.Module, regions: Tensor, labels: Tensor = LABELS, seed: int = 0):
    """The loss as a function of the parameters, for gradcheck, and the parameters; each call draws alike."""
    names, parameters = zip(*model.named_parameters(), strict=True)

    def loss(*values: Tensor) -> Tensor:
        torch.manual_seed(seed)
        scores = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (regions,))
        return model.losses(scores, labels)["loss"]

    return loss, parameters


def unlearned(model: torch.nn.Module, regions: Tensor, labels: Tensor, steps: int = 3) -> list[str]:
    """The parameters without a gradient in any of the first steps; also takes the steps."""
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    silent = {name for name, _ in model.named_parameters()}
    for _ in range(steps):
        optimizer.zero_grad()
        model.losses(model(regions), labels)["loss"].backward()
        silent -= {name for name, value in model.named_parameters() if value.grad.any()}
        optimizer.step()
    return sorted(silent)


def largest_saved(model: torch.nn.Module, regions: Tensor, labels: Tensor = LABELS) -> int:
    """Numbers in the largest tensor that the backward pass keeps."""
    sizes = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.losses(model(regions), labels)["loss"].backward()
    return max(sizes)
