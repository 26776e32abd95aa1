"""DEDN against loops over its equations."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from msdn.train.models.dedn import dual_attention
from msdn.train.models.dedn.dual_attention import DualAttention, attend
from msdn.train.models.dedn.network import Dedn
from msdn.train.models.parts.base import build_model
from msdn.train.models.parts.classes import ClassSpace, normalize_attributes
from msdn.train.models.parts.problem import AttributeGroup, Problem
from msdn.train.models.registry import settings_of

B, R, F, K, D, C = 3, 4, 6, 5, 7, 8
SEEN, UNSEEN = np.array([0, 1, 3, 4, 7]), np.array([2, 5, 6])
LABELS = torch.tensor([0, 7, 3])
GROUPS = [np.array([1, 4]), np.array([3]), np.array([0, 2])]
SETTINGS = {
    "lambda_cal": 0.3,
    "lambda_experts": 0.2,
    "lambda_align": 0.05,
    "true_class_shift": 3.0,
    "region_mix": 0.8,
    "coarse_mix": 0.9,
    "score_rank": 0,
    "distance_epsilon": 0.0,
}


@pytest.fixture
def make_model() -> Callable[..., Dedn]:
    """Return a function that makes a small model in float64 whose every matrix is random."""

    def make(groups: Sequence[np.ndarray] = GROUPS, regions: int = R, **changes: Any) -> Dedn:
        torch.manual_seed(0)
        attributes = normalize_attributes(np.random.RandomState(0).rand(C, K))
        classes = ClassSpace(torch.from_numpy(attributes), SEEN, UNSEEN, margin=1.0)
        vectors = torch.randn(K, D, dtype=torch.float64)
        model = Dedn(classes, vectors, F, regions, groups, **{**SETTINGS, **changes})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
        return model

    return make


def random_regions(regions: int = R) -> Tensor:
    drawn = torch.rand(B, regions, F, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return drawn / drawn.norm(dim=2, keepdim=True)


def naive_net(net: DualAttention, regions: Tensor) -> tuple[Tensor, Tensor]:
    """p_region and p_channel of one sub-net, one attribute of one image at a time."""
    h_1 = net.region_score.detach()
    if net.score_rank:
        h_1 = h_1 @ net.region_score_right.detach()
    h_2, h_3, h_4 = (
        matrix.detach() for matrix in (net.region_attention, net.channel_score, net.channel_attention)
    )
    count = len(net.word_vectors)
    p_region, p_channel = torch.zeros(B, count).double(), torch.zeros(B, count).double()
    for b in range(B):
        x = torch.stack([region / region.norm() for region in regions[b]])  # [R, F]
        for k, a in enumerate(net.word_vectors.detach()):
            w1 = torch.stack([a @ h_2 @ x[r] for r in range(len(x))]).softmax(0)
            p_region[b, k] = sum(w1[r] * (a @ h_1 @ x[r]) for r in range(len(x)))
            w2 = torch.stack([a @ h_4 @ x[:, f] for f in range(F)]).softmax(0)
            p_channel[b, k] = sum(w2[f] * (a @ h_3 @ x[:, f]) for f in range(F))
    return p_region, p_channel


def naive_experts(
    model: Dedn, regions: Tensor, groups: Sequence[np.ndarray] = GROUPS
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """p_region, p_channel and the columns of z of both experts; the fine one's in the groups' order."""
    z = model.classes.attributes
    yield *naive_net(model.coarse, regions), z
    nets = [naive_net(net, regions) for net in model.fine]
    yield (
        torch.cat([one for one, _ in nets], 1),
        torch.cat([two for _, two in nets], 1),
        z[:, np.concatenate(groups)],
    )


def naive_distill(first: Tensor, second: Tensor, epsilon: float) -> float:
    """Jensen-Shannon divergence and weighted distance, one entry at a time."""
    total = 0.0
    for one, two in zip(first.tolist(), second.tolist(), strict=True):
        p, q = ([math.exp(s) / sum(math.exp(t) for t in row) for s in row] for row in (one, two))
        mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        total += sum(a * math.log(a / m) / 2 for a, m in zip(p, mean, strict=True))
        total += sum(b * math.log(b / m) / 2 for b, m in zip(q, mean, strict=True))
        distances = [abs(a - b) for a, b in zip(one, two, strict=True)]
        total += sum(d**3 for d in distances) / math.sqrt(sum(d**2 for d in distances) + epsilon)
    return total / len(first)


def naive_terms(model: Dedn, regions: Tensor) -> dict[str, float]:
    """Every loss term by loops over images and classes."""
    terms, with_margin = {}, []
    for name, (p_region, p_channel, z) in zip(("coarse", "fine"), naive_experts(model, regions), strict=True):
        scores = ((p_region + p_channel) @ z.T).tolist()
        ce, unseen_share, margin_rows = 0.0, 0.0, []
        for row, label in zip(scores, LABELS.tolist(), strict=True):
            shifted = [s + (c in SEEN) - model.true_class_shift * (c == label) for c, s in enumerate(row)]
            ce += math.log(sum(math.exp(s) for s in shifted)) - shifted[label]
            margin_rows.append([s + (-1 if c in SEEN else 1) for c, s in enumerate(row)])
            exps = [math.exp(s) for s in margin_rows[-1]]
            unseen_share += sum(exps[c] for c in UNSEEN) / sum(exps)
        terms[f"ce_{name}"] = ce / B
        terms[f"cal_{name}"] = -math.log(unseen_share / B)
        terms[f"align_{name}"] = naive_distill(p_region, p_channel, model.distance_epsilon)
        with_margin.append(torch.tensor(margin_rows, dtype=torch.float64))
    terms["distill"] = naive_distill(*with_margin, model.distance_epsilon)
    return terms


@pytest.mark.parametrize("score_rank", [0, 2])
@pytest.mark.parametrize("groups", [GROUPS, [np.arange(K)], [np.array([k]) for k in (3, 1, 4, 0, 2)]])
def test_scores_follow_the_equations(
    make_model: Callable[..., Dedn], groups: list[np.ndarray], score_rank: int
) -> None:
    model, regions = make_model(groups, score_rank=score_rank), random_regions()
    scores = model(regions)
    trained, tested = [], []
    for p_region, p_channel, z in naive_experts(model, regions, groups):
        trained.append((p_region + p_channel) @ z.T)
        tested.append((0.8 * p_region + 0.2 * p_channel) @ z.T)
    close = {"atol": 1e-12, "rtol": 1e-12}
    torch.testing.assert_close(model.training_scores(scores), tuple(trained), **close)
    torch.testing.assert_close(model.test_scores(scores), tuple(tested), **close)
    torch.testing.assert_close(model.class_scores(scores), 0.9 * tested[0] + 0.1 * tested[1], **close)


@pytest.mark.parametrize("score_rank", [0, 2])
def test_both_experts_say_where_they_look(make_model: Callable[..., Dedn], score_rank: int) -> None:
    model, regions = make_model(score_rank=score_rank), random_regions()
    owners = {"coarse": {k: (model.coarse, k) for k in range(K)}}
    owners["fine"] = {
        k: (net, n) for net, group in zip(model.fine, GROUPS, strict=True) for n, k in enumerate(group)
    }
    maps, scores = model.attention(regions), model.attribute_scores(regions)
    assert list(maps) == list(scores) == ["coarse", "fine"]
    for expert, nets in owners.items():
        for b, (k, (net, own)) in itertools.product(range(B), nets.items()):
            a, h_2 = net.word_vectors[own].detach(), net.region_attention.detach()
            exps = [math.exp(a @ h_2 @ (x / x.norm())) for x in regions[b]]
            expected = torch.tensor([one / sum(exps) for one in exps], dtype=torch.float64)
            torch.testing.assert_close(maps[expert][b, :, k], expected)
            p_region, _ = naive_net(net, regions)
            torch.testing.assert_close(scores[expert][b, k], p_region[b, own])


@pytest.mark.parametrize("side", [7, 14])
def test_grids_of_seven_and_fourteen(make_model: Callable[..., Dedn], side: int) -> None:
    model, regions = make_model(regions=side**2), random_regions(side**2)
    p_region, p_channel, z = next(naive_experts(model, regions))
    torch.testing.assert_close(model.training_scores(model(regions))[0], (p_region + p_channel) @ z.T)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("shift", [2.0, 3.0])
def test_losses_follow_the_equations(make_model: Callable[..., Dedn], epsilon: float, shift: float) -> None:
    model = make_model(distance_epsilon=epsilon, true_class_shift=shift)
    regions = random_regions()
    terms = {name: float(value.detach()) for name, value in model.losses(model(regions), LABELS).items()}
    expected = naive_terms(model, regions)
    assert set(terms) == {"loss", *expected}
    weights = {"ce": 1.0, "cal": 0.3, "align": 0.05, "distill": 0.2}
    total = sum(weights[name.split("_")[0]] * value for name, value in expected.items())
    assert terms == pytest.approx({"loss": total, **expected}, rel=1e-11)


@pytest.mark.parametrize("changes", [{}, {"score_rank": 2}, {"distance_epsilon": 1e-9}])
def test_gradients_of_the_loss(make_model: Callable[..., Dedn], changes: dict) -> None:
    model, regions = make_model(**changes), random_regions()
    names, parameters = zip(*model.named_parameters(), strict=True)

    def loss(*values: Tensor) -> Tensor:
        scores = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (regions,))
        return model.losses(scores, LABELS)["loss"]

    assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_equal_scores_and_a_black_region_give_no_nan(make_model: Callable[..., Dedn]) -> None:
    model, regions = make_model([np.arange(K)]), random_regions()
    with torch.no_grad():
        model.fine[0].load_state_dict(model.coarse.state_dict())
        for net in (model.coarse, *model.fine):
            net.region_score.zero_()
            net.channel_score.zero_()
    regions[0, 1] = 0
    terms = model.losses(model(regions), LABELS)
    assert [float(terms[name].detach()) for name in ("distill", "align_coarse", "align_fine")] == [0, 0, 0]
    terms["loss"].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_images_at_once_change_no_score(make_model: Callable[..., Dedn]) -> None:
    model, regions = make_model(), random_regions()
    alone = torch.cat([torch.stack(attend(model.coarse(), image[None]), 2) for image in regions])
    torch.testing.assert_close(torch.stack(attend(model.coarse(), regions), 2), alone)


def test_a_device_that_takes_the_batch_at_once_has_the_same_shapes(make_model: Callable[..., Dedn]) -> None:
    queries = make_model().coarse.to("meta")()
    assert [scores.shape for scores in attend(queries, random_regions().to("meta"))] == [(B, K), (B, K)]


def make_problem(vectors: np.ndarray | None, count: int = 40) -> Problem:
    halves = (np.arange(0, count, 2), np.arange(1, count, 2))
    groups = tuple(AttributeGroup(name, half) for name, half in zip(("even", "odd"), halves, strict=True))
    return Problem(np.eye(C, count), vectors, SEEN, UNSEEN, regions=49, channels=256, groups=groups)


@pytest.mark.parametrize("score_rank", [0, 64])
def test_initial_values_are_the_published_ones(score_rank: int) -> None:
    torch.manual_seed(0)
    vectors = 3 * np.random.RandomState(0).rand(40, 200)
    model = build_model(make_problem(vectors), settings_of("dedn", score_rank=score_rank))
    assert isinstance(model, Dedn)
    unit = torch.nn.functional.normalize(torch.tensor(vectors).float(), dim=1)
    for net, rows in ((model.coarse, unit), (model.fine[0], unit[::2]), (model.fine[1], unit[1::2])):
        assert torch.equal(net.word_vectors, rows)
        assert not net.region_attention.any() and not net.channel_attention.any()
        factors = [net.region_score_right] if score_rank else []
        for matrix in (net.region_score, net.channel_score, *factors):
            assert float(matrix.detach().std()) == pytest.approx(1, abs=0.03)
        assert net.region_score.shape == (200, score_rank or 256)
        assert net.channel_score.shape == net.channel_attention.shape == (200, 49)


def test_settings_reach_the_model() -> None:
    values = {**SETTINGS, "score_rank": 3, "distance_epsilon": 1e-9}
    model = build_model(make_problem(None), settings_of("dedn", vectors="learned", **values))
    found = {name: getattr(model, name) for name in values if name != "score_rank"}
    assert found == {name: value for name, value in values.items() if name != "score_rank"}
    assert model.get_parameter("coarse.region_score_right").shape == (3, 256)
    assert model.get_parameter("coarse.word_vectors").shape == (40, 300)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    problem = make_problem(np.random.RandomState(0).rand(40, 20))
    model = build_model(problem, settings_of("dedn"))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        model.losses(model(torch.rand(B, 49, 256)), LABELS)["loss"].backward()
        optimizer.step()
    assert all(not torch.equal(value, start[name]) for name, value in model.named_parameters())


def test_no_map_of_attributes_by_channels_is_kept(make_model: Callable[..., Dedn]) -> None:
    """Of w2 and s2 [B, K, F] of both experts only w2 is made, an image at a time, and again for its gradient."""
    model, kept = make_model(), set()

    def note(tensor: Tensor) -> Tensor:
        kept.add(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        scores = model(random_regions())
    assert kept and not [shape for shape in kept if shape[-2:] == (2 * K, F) and len(shape) == 3]
    del scores


def test_the_whole_batch_at_once_gives_the_same(
    make_model: Callable[..., Dedn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; a CPU takes an image at a time."""
    found = []
    for at_once in (1, B):
        monkeypatch.setattr(dual_attention, "_at_once", lambda regions, at_once=at_once: at_once)
        model = make_model()
        losses = model.losses(model(random_regions()), LABELS)
        losses["loss"].backward()
        found.append([losses["loss"], *(value.grad for value in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
