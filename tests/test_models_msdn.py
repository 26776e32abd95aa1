"""MSDN and its ablations against loops over its equations, in both forms."""

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
    unlearned,
)
from torch import Tensor

from msdn.train.models.msdn.network import Msdn
from msdn.train.models.parts.base import build_model
from msdn.train.models.parts.classes import ClassSpace
from msdn.train.models.parts.losses import DISTILLATIONS
from msdn.train.models.parts.problem import Problem
from msdn.train.models.registry import settings_of

pytestmark = pytest.mark.usefixtures("one_thread")

RELEASED: dict[str, Any] = {
    "lambda_cal": 0.3,
    "lambda_distill": 0.2,
    "alpha": (0.7, 0.3),
    "branches": "both",
    "va_form": "released",
    "cross_entropy": "released",
    "calibration": "released",
    "distillation": "released",
    "distill_parts": "both",
    "normalize_vectors": False,
}
PAPER = {name: "paper" if value == "released" else value for name, value in RELEASED.items()}
AV_PARAMETERS = ["word_vectors", "av_attention", "av_score"]
VA_PARAMETERS = ["word_vectors", "va_attention", "va_score"]


@pytest.fixture
def make_model() -> Callable[..., Msdn]:
    """Return a function that makes a small model in float64 whose every parameter is random."""

    def make(vectors: Tensor | None = None, **changes: Any) -> Msdn:
        torch.manual_seed(0)
        vectors = torch.randn(K, D, dtype=torch.float64) if vectors is None else vectors
        model = Msdn(small_classes(), vectors, F, **{**RELEASED, **changes})
        randomize(model)
        return model

    return make


def fresh_model(**changes: Any) -> Msdn:
    """A model in float32 as training starts with it."""
    torch.manual_seed(0)
    classes = ClassSpace(torch.rand(C, K), SEEN, UNSEEN, margin=1.0)
    return Msdn(classes, torch.rand(K, D), F, **{**RELEASED, **changes})


@pytest.mark.parametrize("branches", ["both", "av", "va"])
@pytest.mark.parametrize("va_form", ["released", "paper"])
@pytest.mark.parametrize("normalize_vectors", [False, True])
def test_scores_follow_the_equations(
    make_model: Callable[..., Msdn], va_form: str, normalize_vectors: bool, branches: str
) -> None:
    model = make_model(va_form=va_form, normalize_vectors=normalize_vectors, branches=branches)
    regions = random_regions()
    scores = model(regions)
    assert list(scores) == (["av", "va"] if branches == "both" else [branches])
    for branch, ours in scores.items():
        attention = naive_attention(model, branch, regions)
        psi = naive_attribute_scores(model, branch, attention, regions)
        torch.testing.assert_close(model.attribute_scores(regions)[branch], psi, atol=1e-12, rtol=0)
        torch.testing.assert_close(ours, naive_classes(psi, model.classes), atol=1e-12, rtol=0)


def test_both_branches_predict_by_their_weights_and_one_by_itself(make_model: Callable[..., Msdn]) -> None:
    model = make_model()
    scores = model(random_regions())
    torch.testing.assert_close(model.class_scores(scores), 0.7 * scores["av"] + 0.3 * scores["va"])
    for branch in ("av", "va"):
        alone = make_model(branches=branch)(random_regions())
        assert torch.equal(make_model(branches=branch, alpha=(0.0, 0.0)).class_scores(alone), alone[branch])


@pytest.mark.parametrize("settings", [RELEASED, PAPER])
def test_loss_is_the_weighted_sum_of_its_terms(make_model: Callable[..., Msdn], settings: dict) -> None:
    model = make_model(**settings)
    terms = model.losses(model(random_regions()), LABELS)
    expected = (
        terms["ce_av"] + terms["ce_va"] + 0.3 * (terms["cal_av"] + terms["cal_va"]) + 0.2 * terms["distill"]
    )
    torch.testing.assert_close(terms["loss"], expected)
    assert list(terms) == ["loss", "ce_av", "cal_av", "ce_va", "cal_va", "distill"]


@pytest.mark.parametrize(("branch", "parameters"), [("av", AV_PARAMETERS), ("va", VA_PARAMETERS)])
def test_one_branch_has_its_own_parameters_and_terms_only(
    make_model: Callable[..., Msdn], branch: str, parameters: list[str]
) -> None:
    model = make_model(branches=branch)
    assert [name for name, _ in model.named_parameters()] == parameters
    terms = model.losses(model(random_regions()), LABELS)
    assert list(terms) == ["loss", f"ce_{branch}", f"cal_{branch}"]
    torch.testing.assert_close(terms["loss"], terms[f"ce_{branch}"] + 0.3 * terms[f"cal_{branch}"])


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("parts", ["both", "divergence", "distance"])
def test_distillation_has_the_parts_asked_for(make_model: Callable[..., Msdn], form: str, parts: str) -> None:
    model = make_model(distillation=form, distill_parts=parts)
    scores = model(random_regions())
    expected = DISTILLATIONS[form](scores["av"], scores["va"], model.classes, parts)
    assert torch.equal(model.losses(scores, LABELS)["distill"], expected)


@pytest.mark.parametrize("va_form", ["released", "paper"])
def test_one_seed_starts_all_variants_alike(va_form: str) -> None:
    both = fresh_model(va_form=va_form).state_dict()
    for branch in ("av", "va"):
        alone = fresh_model(va_form=va_form, branches=branch).state_dict()
        assert alone and all(torch.equal(value, both[name]) for name, value in alone.items())


@pytest.mark.parametrize(
    "changes",
    [
        RELEASED,
        PAPER,
        {"normalize_vectors": True},
        *({name: "paper"} for name in PAPER if PAPER[name] == "paper"),
        *({"branches": branch, "va_form": form} for branch in ("av", "va") for form in ("released", "paper")),
        *({"distill_parts": parts} for parts in ("divergence", "distance")),
    ],
)
def test_gradients_of_the_loss(make_model: Callable[..., Msdn], changes: dict) -> None:
    loss, parameters = loss_of_parameters(make_model(**changes), random_regions())
    assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_attention_sums_to_one(make_model: Callable[..., Msdn]) -> None:
    model = make_model()
    attention = model.attention(random_regions())
    for branch, over in (("av", 1), ("va", 2)):
        assert attention[branch].shape == (B, R, K)
        total = attention[branch].sum(dim=over)
        torch.testing.assert_close(total, torch.ones_like(total))
        expected = naive_attention(model, branch, random_regions())
        torch.testing.assert_close(attention[branch], expected)


def test_initial_values_are_the_published_ones() -> None:
    torch.manual_seed(0)
    classes = ClassSpace(torch.eye(C, K), SEEN, UNSEEN, margin=1.0)
    model = Msdn(classes, 3 * torch.rand(K, 200), 300, **RELEASED)
    start = {name: value.detach() for name, value in model.named_parameters()}
    assert float(start["av_score"].std()) == pytest.approx(1, abs=0.01)
    assert not any(start[name].any() for name in ("av_attention", "va_attention", "va_score"))
    torch.testing.assert_close(start["word_vectors"].norm(dim=1), torch.ones(K))


def test_learned_vectors_start_as_normalised_normal_ones() -> None:
    problem = Problem(np.eye(C, 400), None, SEEN, UNSEEN, regions=R, channels=F)
    torch.manual_seed(0)
    model = build_model(problem, settings_of(vectors="learned"))
    torch.manual_seed(0)
    expected = torch.nn.functional.normalize(torch.randn(400, 300), dim=1)
    assert torch.equal(model.get_parameter("word_vectors").detach(), expected)
    assert model.get_parameter("av_score").shape == (300, F)


def test_settings_reach_the_model() -> None:
    problem = Problem(np.eye(C, K), np.ones((K, D)), SEEN, UNSEEN, regions=R, channels=F)
    changes = {"branches": "va", "distill_parts": "distance", "alpha": (0.4, 0.6), "normalize_vectors": True}
    model = build_model(problem, settings_of(**changes, lambda_distill=0.5, lambda_cal=0.7))
    assert isinstance(model, Msdn)
    assert [branch.name for branch in model.branches] == ["va"]
    assert (model.distill_parts, model.alpha, model.normalize_vectors) == ("distance", (0.4, 0.6), True)
    assert (model.lambda_distill, model.lambda_cal) == (0.5, 0.7)


@pytest.mark.parametrize("va_form", ["released", "paper"])
@pytest.mark.parametrize("branches", ["both", "av", "va"])
def test_every_parameter_learns(va_form: str, branches: str) -> None:
    model = fresh_model(va_form=va_form, branches=branches)
    assert unlearned(model, random_regions().float(), LABELS) == []


@pytest.mark.parametrize("grid", [7, 14])
@pytest.mark.parametrize("branches", ["both", "av", "va"])
def test_grids_and_a_single_image(grid: int, branches: str) -> None:
    model = fresh_model(branches=branches)
    scores = model(torch.rand(1, grid * grid, F))
    losses = model.losses(scores, LABELS[:1])
    assert model.class_scores(scores).shape == (1, C)
    assert all(torch.isfinite(value) for value in losses.values())


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
    assert all(torch.isfinite(score).all() for score in scores.values())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_no_tensor_of_images_by_attributes_by_channels(make_model: Callable[..., Msdn]) -> None:
    regions = random_regions()[:, :1].repeat(4, 1, 1)
    assert largest_saved(make_model(), regions, LABELS.repeat(4)) < 4 * B * K * F
