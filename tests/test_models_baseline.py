"""The pooled-feature baseline against a loop."""

import numpy as np
import pytest
import torch

from msdn.train.models.baseline.network import Baseline
from msdn.train.models.parts.classes import ClassSpace


@pytest.fixture
def model() -> Baseline:
    """A baseline of 4 attributes and 5 channels in float64, with random weights."""
    torch.manual_seed(1)
    classes = ClassSpace(torch.rand(3, 4, dtype=torch.float64), np.array([0, 2]), np.array([1]), margin=1.0)
    model = Baseline(classes, 5, lambda_cal=0.5, cross_entropy="released", calibration="released")
    with torch.no_grad():
        model.weight.normal_()
    return model


def test_scores_follow_the_equation(model: Baseline) -> None:
    regions = torch.rand(2, 6, 5, dtype=torch.float64)
    for b, scores in enumerate(model(model.prepare(regions, torch.float64))):
        pooled = sum(v / v.norm() for v in regions[b]) / 6
        psi = model.weight @ pooled
        expected = torch.stack([psi @ z for z in model.classes.attributes])
        torch.testing.assert_close(scores, expected, atol=1e-12, rtol=0)


def test_loss_and_its_gradient(model: Baseline) -> None:
    pooled, labels = torch.rand(2, 5, dtype=torch.float64), torch.tensor([0, 2])
    terms = model.losses(model(pooled), labels)
    torch.testing.assert_close(terms["loss"], terms["ce"] + 0.5 * terms["cal"])

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return model.losses(torch.func.functional_call(model, {"weight": weight}, (pooled,)), labels)["loss"]

    assert torch.autograd.gradcheck(loss, model.weight)


def test_it_starts_at_zero_and_learns() -> None:
    classes = ClassSpace(torch.rand(3, 4), np.array([0, 2]), np.array([1]), margin=1.0)
    model = Baseline(classes, 5, lambda_cal=0.1, cross_entropy="paper", calibration="paper")
    assert not model.weight.any()
    model.losses(model(torch.rand(2, 5)), torch.tensor([0, 2]))["loss"].backward()
    assert model.weight.grad is not None and model.weight.grad.abs().min() > 0
