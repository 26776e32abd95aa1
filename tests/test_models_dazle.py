"""DAZLE against loops over its equation, and the A→V branch that it shares with MSDN."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from naive_branches import (
    LABELS,
    SEEN,
    UNSEEN,
    B,
    C,
    D,
    F,
    K,
    R,
    largest_saved,
    loss_of_parameters,
    naive_attention,
    naive_attribute_scores,
    naive_classes,
    random_regions,
    randomize,
    small_classes,
    unit_regions,
    unlearned,
    used_vectors,
)
from torch import Tensor

from msdn.train.models.dazle.network import Dazle
from msdn.train.models.parts.base import build_model
from msdn.train.models.parts.classes import ClassSpace
from msdn.train.models.parts.problem import Problem
from msdn.train.models.registry import settings_of

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS: dict[str, Any] = {
    "lambda_cal": 0.3,
    "cross_entropy": "released",
    "calibration": "released",
    "normalize_vectors": False,
}


@pytest.fixture
def make_model() -> Callable[..., Dazle]:
    """Return a function that makes a small model in float64 whose every parameter is random."""

    def make(vectors: Tensor | None = None, **changes: Any) -> Dazle:
        torch.manual_seed(0)
        vectors = torch.randn(K, D, dtype=torch.float64) if vectors is None else vectors
        model = Dazle(small_classes(), vectors, F, **{**SETTINGS, **changes})
        randomize(model)
        return model

    return make


def fresh_model() -> Dazle:
    """A model in float32 as training starts with it."""
    torch.manual_seed(0)
    return Dazle(ClassSpace(torch.rand(C, K), SEEN, UNSEEN, margin=1.0), torch.rand(K, D), F, **SETTINGS)


@pytest.mark.parametrize("normalize_vectors", [False, True])
def test_scores_follow_the_equation(make_model: Callable[..., Dazle], normalize_vectors: bool) -> None:
    model, regions = make_model(normalize_vectors=normalize_vectors), random_regions()
    beta = naive_attention(model, "av", regions)
    psi = naive_attribute_scores(model, "av", beta, regions)
    w_3 = model.get_parameter("attribute_attention").detach()
    for b, image in enumerate(unit_regions(regions)):
        for k, a in enumerate(used_vectors(model)):
            attended = sum(beta[b, r, k] * v for r, v in enumerate(image))  # f_k
            psi[b, k] = psi[b, k] / (1 + torch.exp(-(a @ w_3 @ attended)))
    scores = model(regions)
    torch.testing.assert_close(model.attribute_scores(regions)["av"], psi, atol=1e-12, rtol=0)
    torch.testing.assert_close(scores, naive_classes(psi, model.classes), atol=1e-12, rtol=0)
    assert torch.equal(model.class_scores(scores), scores)
    torch.testing.assert_close(model.attention(regions)["av"], beta)


def test_loss_is_the_weighted_sum_of_its_terms(make_model: Callable[..., Dazle]) -> None:
    model = make_model()
    terms = model.losses(model(random_regions()), LABELS)
    assert list(terms) == ["loss", "ce", "cal"]
    torch.testing.assert_close(terms["loss"], terms["ce"] + 0.3 * terms["cal"])


@pytest.mark.parametrize(
    "changes",
    [{}, {"normalize_vectors": True}, {"cross_entropy": "paper", "calibration": "paper"}],
)
def test_gradients_of_the_loss(make_model: Callable[..., Dazle], changes: dict) -> None:
    loss, parameters = loss_of_parameters(make_model(**changes), random_regions())
    assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_it_starts_with_every_attribute_at_half_of_msdns_first_branch() -> None:
    problem = Problem(np.eye(C, K), np.random.RandomState(0).rand(K, D), SEEN, UNSEEN, regions=R, channels=F)
    scores = {}
    for name, changes in (("dazle", {}), ("msdn", {"branches": "av"})):
        torch.manual_seed(4)
        model = build_model(problem, settings_of(model=name, **changes))
        scores[name] = model.class_scores(model(random_regions().float())).detach()
    assert scores["msdn"].any()
    torch.testing.assert_close(scores["dazle"], 0.5 * scores["msdn"])


def test_every_parameter_learns() -> None:
    assert unlearned(fresh_model(), random_regions().float(), LABELS) == []


def test_learned_vectors_and_settings_reach_the_model() -> None:
    problem = Problem(np.eye(C, K), None, SEEN, UNSEEN, regions=R, channels=F)
    settings = settings_of("dazle", vectors="learned", normalize_vectors=True, lambda_cal=0.7)
    torch.manual_seed(0)
    model = build_model(problem, settings)
    torch.manual_seed(0)
    expected = torch.nn.functional.normalize(torch.randn(K, 300), dim=1)
    assert isinstance(model, Dazle) and (model.lambda_cal, model.normalize_vectors) == (0.7, True)
    assert torch.equal(model.get_parameter("word_vectors").detach(), expected)


@pytest.mark.parametrize("grid", [7, 14])
def test_grids_and_a_single_image(grid: int) -> None:
    model = fresh_model()
    scores = model(torch.rand(1, grid * grid, F))
    assert scores.shape == (1, C)
    assert all(torch.isfinite(value) for value in model.losses(scores, LABELS[:1]).values())


@pytest.mark.parametrize("normalize_vectors", [False, True])
def test_a_zero_word_vector_and_a_zero_region_give_no_nan(
    make_model: Callable[..., Dazle], normalize_vectors: bool
) -> None:
    vectors = torch.rand(K, D, dtype=torch.float64)
    vectors[2] = 0
    model = make_model(vectors, normalize_vectors=normalize_vectors)
    regions = random_regions()
    regions[0, 1] = 0
    scores = model(regions)
    model.losses(scores, LABELS)["loss"].backward()
    assert torch.isfinite(scores).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_no_tensor_of_images_by_attributes_by_channels(make_model: Callable[..., Dazle]) -> None:
    regions = random_regions()[:, :1].repeat(4, 1, 1)
    assert largest_saved(make_model(), regions, LABELS.repeat(4)) < 4 * B * K * F
