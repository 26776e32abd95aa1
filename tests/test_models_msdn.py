"""MSDN against loops over its equations, in both forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from msdn.train.classes import ClassSpace, normalize_attributes
from msdn.train.models.base import build_model
from msdn.train.models.msdn import Msdn
from msdn.train.problem import Problem
from msdn.train.settings import TrainSettings

B, R, F, K, D, C = 3, 4, 6, 5, 7, 8
SEEN, UNSEEN = np.array([0, 1, 3, 4, 7]), np.array([2, 5, 6])
LABELS = torch.tensor([0, 7, 3])
RELEASED = {
    "lambda_cal": 0.3,
    "lambda_distill": 0.2,
    "alpha": (0.7, 0.3),
    "va_form": "released",
    "cross_entropy": "released",
    "calibration": "released",
    "distillation": "released",
    "normalize_vectors": False,
}
PAPER = {name: "paper" if value == "released" else value for name, value in RELEASED.items()}


@pytest.fixture
def make_model() -> Callable[..., Msdn]:
    """Return a function that makes a small model in float64 whose every parameter is random."""

    def make(vectors: Tensor | None = None, **changes: Any) -> Msdn:
        torch.manual_seed(0)
        attributes = normalize_attributes(np.random.RandomState(0).rand(C, K))
        classes = ClassSpace(torch.from_numpy(attributes), SEEN, UNSEEN, margin=1.0)
        vectors = torch.randn(K, D, dtype=torch.float64) if vectors is None else vectors
        model = Msdn(classes, vectors, F, **{**RELEASED, **changes})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name != "word_vectors":
                    parameter.copy_(torch.randn_like(parameter))
        return model

    return make


def random_regions() -> Tensor:
    return torch.rand(B, R, F, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def naive_scores(model: Msdn, regions: Tensor) -> tuple[Tensor, Tensor]:
    """psi and Psi [B, K] of MSDN, one product at a time."""
    vectors = model.word_vectors.detach()
    if model.normalize_vectors:
        vectors = torch.stack([a / a.norm() for a in vectors])
    w_attention, w_score = model.av_attention.detach(), model.av_score.detach()
    w3, w4 = model.va_attention.detach().T, model.va_score.detach().T
    psi, big_psi = torch.zeros(B, K).double(), torch.zeros(B, K).double()
    for b in range(B):
        v = [region / region.norm() for region in regions[b]]
        for k, a in enumerate(vectors):
            beta = torch.stack([a @ w_attention @ v_r for v_r in v]).softmax(0)
            attended = sum(beta[r] * v[r] for r in range(R))  # F_k
            psi[b, k] = a @ w_score @ attended
        for v_r in v:
            tau = torch.stack([v_r @ w3 @ a for a in vectors]).softmax(0)
            if model.va_form == "paper":
                semantic = sum(tau[k] * vectors[k] for k in range(K))  # S_r
                bar = v_r @ w4 @ semantic
                for k, a in enumerate(vectors):
                    big_psi[b, k] += bar * (v_r @ model.va_regions.detach().T @ a)
            else:
                for k, a in enumerate(vectors):
                    big_psi[b, k] += tau[k] * (v_r @ w4 @ a)
    return psi, big_psi


@pytest.mark.parametrize("va_form", ["released", "paper"])
@pytest.mark.parametrize("normalize_vectors", [False, True])
def test_scores_follow_the_equations(
    make_model: Callable[..., Msdn], va_form: str, normalize_vectors: bool
) -> None:
    model = make_model(va_form=va_form, normalize_vectors=normalize_vectors)
    with torch.no_grad():
        model.word_vectors.mul_(1.5)
    regions = random_regions()
    scores = model(regions)
    z = model.classes.attributes
    for ours, attributes in zip(scores, naive_scores(model, regions), strict=True):
        expected = torch.stack([torch.stack([attributes[b] @ z[c] for c in range(C)]) for b in range(B)])
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(model.class_scores(scores), 0.7 * scores.av + 0.3 * scores.va)


@pytest.mark.parametrize("settings", [RELEASED, PAPER])
def test_loss_is_the_weighted_sum_of_its_terms(make_model: Callable[..., Msdn], settings: dict) -> None:
    model = make_model(**settings)
    terms = model.losses(model(random_regions()), LABELS)
    expected = (
        terms["ce_av"] + terms["ce_va"] + 0.3 * (terms["cal_av"] + terms["cal_va"]) + 0.2 * terms["distill"]
    )
    torch.testing.assert_close(terms["loss"], expected)
    assert list(terms) == ["loss", "ce_av", "cal_av", "ce_va", "cal_va", "distill"]


@pytest.mark.parametrize(
    "changes",
    [
        RELEASED,
        PAPER,
        {"normalize_vectors": True},
        *({name: "paper"} for name in PAPER if PAPER[name] == "paper"),
    ],
)
def test_gradients_of_the_loss(make_model: Callable[..., Msdn], changes: dict) -> None:
    model, regions = make_model(**changes), random_regions()
    names, parameters = zip(*model.named_parameters(), strict=True)

    def loss(*values: Tensor) -> Tensor:
        scores = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (regions,))
        return model.losses(scores, LABELS)["loss"]

    assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_attention_sums_to_one(make_model: Callable[..., Msdn]) -> None:
    beta, tau = make_model().attention(random_regions())
    assert beta.shape == (B, K, R) and tau.shape == (B, R, K)
    torch.testing.assert_close(beta.sum(dim=2), torch.ones(B, K).double())
    torch.testing.assert_close(tau.sum(dim=2), torch.ones(B, R).double())


def test_initial_values_are_the_published_ones() -> None:
    torch.manual_seed(0)
    classes = ClassSpace(torch.eye(C, K), SEEN, UNSEEN, margin=1.0)
    model = Msdn(classes, 3 * torch.rand(K, 200), 300, **RELEASED)  # type: ignore[arg-type]
    assert float(model.av_score.detach().std()) == pytest.approx(1, abs=0.01)
    assert not any(weight.any() for weight in (model.av_attention, model.va_attention, model.va_score))
    torch.testing.assert_close(model.word_vectors.detach().norm(dim=1), torch.ones(K))


def test_learned_vectors_start_as_normalised_normal_ones() -> None:
    problem = Problem(np.eye(C, 400), None, SEEN, UNSEEN, regions=R, channels=F)
    torch.manual_seed(0)
    model = build_model(problem, TrainSettings(vectors="learned"))
    torch.manual_seed(0)
    expected = torch.nn.functional.normalize(torch.randn(400, 300), dim=1)
    assert torch.equal(model.get_parameter("word_vectors").detach(), expected)
    assert model.get_parameter("av_score").shape == (300, F)


def test_every_parameter_of_the_paper_form_learns() -> None:
    torch.manual_seed(0)
    classes = ClassSpace(torch.rand(C, K), SEEN, UNSEEN, margin=1.0)
    model = Msdn(classes, torch.rand(K, D), F, **PAPER)  # type: ignore[arg-type]
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        model.losses(model(random_regions().float()), LABELS)["loss"].backward()
        optimizer.step()
    assert all(not torch.equal(value, start[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("normalize_vectors", [False, True])
def test_a_zero_word_vector_and_a_zero_region_give_no_nan(
    make_model: Callable[..., Msdn], normalize_vectors: bool
) -> None:
    vectors = torch.rand(K, D, dtype=torch.float64)
    vectors[2] = 0  # SUN's "man-made"
    model = make_model(vectors, normalize_vectors=normalize_vectors)
    regions = random_regions()
    regions[0, 1] = 0
    scores = model(regions)
    model.losses(scores, LABELS)["loss"].backward()
    assert all(torch.isfinite(score).all() for score in scores)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_no_tensor_of_images_by_attributes_by_channels(make_model: Callable[..., Msdn]) -> None:
    model, sizes = make_model(), []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    many_channels = torch.rand(B, 1, F, dtype=torch.float64)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.losses(model(many_channels), LABELS)["loss"].backward()
    assert max(sizes) < B * K * F
