"""The reconstruction of MSDN++: every counterfactual against loops, its draws, and how its gradients start."""

from collections.abc import Callable
from copy import deepcopy
from itertools import permutations
from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from naive_branches import (
    LABELS,
    OVER_ATTRIBUTES,
    OVER_REGIONS,
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
    naive_logits,
    naive_softmax,
    random_regions,
    randomize,
    small_classes,
    unlearned,
)
from torch import Tensor

from msdn.train.errors import SettingsError
from msdn.train.loop.trainer import Trainer
from msdn.train.models.msdn.network import Msdn
from msdn.train.models.msdn_plus import COUNTERFACTUALS as NAMES
from msdn.train.models.msdn_plus.network import COUNTERFACTUALS, MsdnPlus, random_attention
from msdn.train.models.parts.base import build_model
from msdn.train.models.parts.classes import ClassSpace
from msdn.train.models.parts.losses import CROSS_ENTROPIES
from msdn.train.models.parts.problem import Problem
from msdn.train.models.registry import settings_of

pytestmark = pytest.mark.usefixtures("one_thread")

MSDN: dict[str, Any] = {
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
CAUSAL: dict[str, Any] = {"lambda_causal": 0.4, "counterfactual": "random", "causal_branches": "both"}
FORMS = ("released", "paper")
WITHOUT_EFFECT_AT_THE_START = ("uniform", "reversed", "shuffle")
SEED = 3  # its first two permutations of three move images


@pytest.fixture
def make_model() -> Callable[..., MsdnPlus]:
    """Return a function that makes a small model in float64 whose every parameter is random."""

    def make(vectors: Tensor | None = None, **changes: Any) -> MsdnPlus:
        torch.manual_seed(0)
        vectors = torch.randn(K, D, dtype=torch.float64) if vectors is None else vectors
        arguments = {**MSDN, **CAUSAL, **changes}
        model = MsdnPlus(classes=small_classes(), word_vectors=vectors, channels=F, **arguments)
        randomize(model)
        return model

    return make


def effects_of(model: MsdnPlus, regions: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each causal branch's attention adds to the class scores, by the branch's name."""
    return {
        name.removeprefix("effect_"): value
        for name, value in model(regions).items()
        if name.startswith("effect_")
    }


def fresh_model(**changes: Any) -> MsdnPlus:
    """A model in float32 as training starts with it."""
    torch.manual_seed(0)
    classes = ClassSpace(torch.rand(C, K), SEEN, UNSEEN, margin=1.0)
    arguments = {**MSDN, **CAUSAL, **changes}
    return MsdnPlus(classes=classes, word_vectors=torch.rand(K, D), channels=F, **arguments)


def problem() -> Problem:
    random = np.random.RandomState(0)
    return Problem(random.rand(C, K), random.rand(K, D), SEEN, UNSEEN, regions=R, channels=F)


def naive_effect(model: MsdnPlus, branch: str, instead: Tensor, regions: Tensor) -> Tensor:
    """`s(attention) − s(instead)` [B, C]."""
    attention = naive_attention(model, branch, regions)
    factual, other = (naive_attribute_scores(model, branch, a, regions) for a in (attention, instead))
    return naive_classes(factual, model.classes) - naive_classes(other, model.classes)


def naive_counterfactual(model: MsdnPlus, branch: str, name: str, regions: Tensor) -> Tensor:
    """The attention [B, R, K] that a counterfactual of this name puts in its place; draws as it should."""
    over, number = (OVER_REGIONS, R) if branch == "av" else (OVER_ATTRIBUTES, K)
    attention = naive_attention(model, branch, regions)
    if name == "random":
        return 2 * torch.rand(K, B, R, dtype=torch.float64).permute(1, 2, 0) / number
    if name == "uniform":
        return torch.full((B, R, K), 1 / number, dtype=torch.float64)
    if name == "reversed":
        return naive_softmax(-naive_logits(model, branch, regions), over)
    return torch.stack([attention[b] for b in torch.randperm(B)])


def test_every_setting_has_its_counterfactual() -> None:
    assert tuple(COUNTERFACTUALS) == NAMES


@pytest.mark.parametrize("va_form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_effects_follow_the_equation(make_model: Callable[..., MsdnPlus], name: str, va_form: str) -> None:
    model, regions = make_model(counterfactual=name, va_form=va_form), random_regions()
    torch.manual_seed(SEED)
    effects = effects_of(model, regions)
    torch.manual_seed(SEED)
    assert list(effects) == ["av", "va"]
    for branch, effect in effects.items():
        instead = naive_counterfactual(model, branch, name, regions)
        expected = naive_effect(model, branch, instead, regions)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(effect, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("va_form", FORMS)
def test_factual_scores_are_msdns_and_alone_predict(
    make_model: Callable[..., MsdnPlus], va_form: str
) -> None:
    model, regions = make_model(va_form=va_form), random_regions()
    plain = Msdn(small_classes(), torch.rand(K, D).double(), F, **{**MSDN, "va_form": va_form})
    plain.load_state_dict(model.state_dict())
    ours, theirs = model(regions), plain(regions)
    assert all(torch.equal(ours[branch], theirs[branch]) for branch in ("av", "va"))
    assert torch.equal(model.class_scores(ours), plain.class_scores(theirs))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("causal", ["both", "av", "va"])
def test_loss_adds_the_cross_entropy_of_each_effect(
    make_model: Callable[..., MsdnPlus], causal: str, form: str
) -> None:
    model = make_model(causal_branches=causal, cross_entropy=form)
    scores = model(random_regions())
    terms, plain = model.losses(scores, LABELS), Msdn.losses(model, scores, LABELS)
    expected = plain["loss"]
    among = list(range(C)) if form == "released" else SEEN.tolist()
    wanted = ["av", "va"] if causal == "both" else [causal]
    for branch in wanted:
        naive = 0.0
        for effect, label in zip(scores[f"effect_{branch}"], LABELS, strict=True):
            naive -= (effect[label].exp() / sum(effect[c].exp() for c in among)).log() / B
        torch.testing.assert_close(terms[f"causal_{branch}"], naive)
        expected = expected + 0.4 * terms[f"causal_{branch}"]
        shown = [effect[label] for effect, label in zip(scores[f"effect_{branch}"], LABELS, strict=True)]
        torch.testing.assert_close(terms[f"effect_{branch}"], torch.stack(shown).mean().detach())
    torch.testing.assert_close(terms["loss"], expected)
    added = [f"{kind}_{branch}" for branch in wanted for kind in ("causal", "effect")]
    assert list(terms) == [*plain, *added]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changes", [{}, {"va_form": "paper", "cross_entropy": "paper"}])
def test_gradients_of_the_loss(make_model: Callable[..., MsdnPlus], name: str, changes: dict) -> None:
    model = make_model(counterfactual=name, **changes)
    loss, parameters = loss_of_parameters(model, random_regions(), seed=SEED)
    assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_one_branch_alone(make_model: Callable[..., MsdnPlus], name: str) -> None:
    for branch in ("av", "va"):
        model = make_model(branches=branch, counterfactual=name)
        scores = model(random_regions())
        assert list(model.losses(scores, LABELS)) == [
            "loss",
            f"ce_{branch}",
            f"cal_{branch}",
            f"causal_{branch}",
            f"effect_{branch}",
        ]
        assert torch.equal(model.class_scores(scores), scores[branch])


def test_only_training_draws(make_model: Callable[..., MsdnPlus]) -> None:
    for name in ("random", "shuffle"):
        model = make_model(counterfactual=name)
        before = torch.get_rng_state()
        effects_of(model.eval(), random_regions())
        assert torch.equal(torch.get_rng_state(), before)
        effects_of(model.train(), random_regions())
        assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("va_form", FORMS)
def test_outside_training_shuffle_shows_the_mean_effect(
    make_model: Callable[..., MsdnPlus], va_form: str
) -> None:
    model, regions = make_model(counterfactual="shuffle", va_form=va_form), random_regions()
    for branch, effect in effects_of(model.eval(), regions).items():
        attention = naive_attention(model, branch, regions)
        orders = [list(order) for order in permutations(range(B))]
        effects = [naive_effect(model, branch, attention[order], regions) for order in orders]
        torch.testing.assert_close(effect, torch.stack(effects).mean(dim=0), atol=1e-12, rtol=0)


def test_outside_training_random_shows_the_mean_effect(make_model: Callable[..., MsdnPlus]) -> None:
    model, regions = make_model(counterfactual="random"), random_regions()
    draws = [effects_of(model, regions) for _ in range(4000)]
    for branch, effect in effects_of(model.eval(), regions).items():
        drawn = torch.stack([draw[branch] for draw in draws])
        error = drawn.std(dim=0) / len(draws) ** 0.5
        assert ((drawn.mean(dim=0) - effect).abs() < 5 * error).all()


def test_random_attention_lies_between_0_and_2_parts() -> None:
    torch.manual_seed(0)
    values = random_attention(torch.zeros(20, 10, 30), torch.zeros(()), OVER_REGIONS)
    assert 0 <= values.min() < 0.001 and 0.199 < values.max() <= 0.2
    assert float(values.mean()) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("va_form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_effects_at_the_start(name: str, va_form: str) -> None:
    model = fresh_model(counterfactual=name, va_form=va_form)
    effects = effects_of(model, random_regions().float())
    causal = CROSS_ENTROPIES["released"](effects["av"], LABELS, model.classes)
    causal = causal + CROSS_ENTROPIES["released"](effects["va"], LABELS, model.classes)
    causal.backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-6}
    if name in WITHOUT_EFFECT_AT_THE_START:
        # Equal attentions: the score matrices get nothing from the effect yet, A→V's attention does.
        assert all(effect.abs().max() < 1e-5 for effect in effects.values())
        assert float(causal.detach()) == pytest.approx(2 * log(C), abs=1e-5)
        assert moved == {"av_attention"}
    else:
        assert effects["av"].abs().max() > 0.01 and not effects["va"].any()  # V→A's scores start at zero
        assert moved == {"word_vectors", "av_attention", "av_score", "va_score"}


@pytest.mark.parametrize("va_form", FORMS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("branches", ["both", "av", "va"])
def test_every_parameter_learns(name: str, va_form: str, branches: str) -> None:
    model = fresh_model(counterfactual=name, va_form=va_form, branches=branches)
    assert unlearned(model, random_regions().float(), LABELS, steps=12) == []
    effects = effects_of(model.eval(), random_regions().float())
    assert all(effect.abs().max() > 1e-4 for effect in effects.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", [7, 14])
def test_grids_and_a_single_image(grid: int, name: str) -> None:
    model = fresh_model(counterfactual=name)
    scores = model(torch.rand(1, grid * grid, F))
    losses = model.losses(scores, LABELS[:1])
    assert all(torch.isfinite(value) for value in losses.values())
    if name == "shuffle":  # an image alone keeps its attention
        assert not scores["effect_av"].any()
        assert float(losses["causal_av"].detach()) == pytest.approx(log(C))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("normalize_vectors", [False, True])
def test_a_zero_word_vector_and_a_zero_region_give_no_nan(
    make_model: Callable[..., MsdnPlus], name: str, normalize_vectors: bool
) -> None:
    vectors = torch.rand(K, D, dtype=torch.float64)
    vectors[2] = 0
    model = make_model(vectors, counterfactual=name, normalize_vectors=normalize_vectors)
    regions = random_regions()
    regions[0, 1] = 0
    scores = model(regions)
    model.losses(scores, LABELS)["loss"].backward()
    assert all(torch.isfinite(score).all() for score in scores.values())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_of_images_by_attributes_by_channels(
    make_model: Callable[..., MsdnPlus], name: str
) -> None:
    model = make_model(counterfactual=name)
    regions = random_regions()[:, :1].repeat(4, 1, 1)
    assert largest_saved(model, regions, LABELS.repeat(4)) < 4 * B * K * F


def test_it_starts_as_msdn_and_its_settings_reach_it() -> None:
    settings = settings_of(
        model="msdn++", counterfactual="reversed", causal_branches="va", lambda_causal=0.6, lambda_cal=0.7
    )
    torch.manual_seed(2)
    model = build_model(problem(), settings)
    torch.manual_seed(2)
    plain = build_model(problem(), settings_of()).state_dict()
    assert isinstance(model, MsdnPlus)
    assert (model.counterfactual, model.lambda_causal, model.lambda_cal) == ("reversed", 0.6, 0.7)
    assert [branch.name for branch in model.causal] == ["va"]
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())


def test_vectors_can_be_learned() -> None:
    torch.manual_seed(0)
    model = build_model(problem(), settings_of("msdn++", vectors="learned"))
    torch.manual_seed(0)
    expected = torch.nn.functional.normalize(torch.randn(K, 300), dim=1)
    assert torch.equal(model.get_parameter("word_vectors").detach(), expected)


@pytest.mark.parametrize(("branches", "causal"), [("av", "va"), ("va", "av")])
def test_a_causal_term_of_a_branch_left_out_is_refused(branches: str, causal: str) -> None:
    with pytest.raises(SettingsError, match=f"--causal-branches is {causal}, but --branches {branches}"):
        settings_of("msdn++", branches=branches, causal_branches=causal)


@pytest.mark.parametrize("name", ["random", "shuffle"])
def test_a_restored_training_draws_what_the_whole_one_drew(name: str) -> None:
    settings = settings_of("msdn++", counterfactual=name, batch_size=4)
    features = torch.rand(12, R, F, generator=torch.Generator().manual_seed(1))
    labels = np.resize(SEEN, 12)

    def new_trainer(seed: int) -> Trainer:
        torch.manual_seed(seed)
        source: Any = SimpleNamespace(
            batches=lambda plan: (features[torch.from_numpy(rows)] for rows in plan)
        )
        model = build_model(problem(), settings)
        return Trainer(model, settings, source, np.arange(12), labels, torch.device("cpu"))

    whole = new_trainer(0)
    whole.train_epoch(1)
    state = deepcopy(whole.state())
    restored = new_trainer(9)
    restored.restore(state)
    drawn = restored.train_epoch(2)
    torch.set_rng_state(state["torch_rng"])
    assert whole.train_epoch(2) == drawn
    assert all(
        torch.equal(value, restored.model.state_dict()[name])
        for name, value in whole.model.state_dict().items()
    )
