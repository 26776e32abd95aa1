"""Products in bfloat16: chosen where they are fast, kept in the manifest, near float32, refused where they cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

from msdn.cache import FeatureCache
from msdn.cache.errors import UnknownNameError
from msdn.train.errors import TrainError
from msdn.train.loop import training
from msdn.train.loop.training import choose_precision
from msdn.train.models.model import Model
from msdn.train.models.parts.base import ZslModel, build_model, preparation
from msdn.train.models.parts.problem import AttributeGroup, problem_of
from msdn.train.models.registry import find_model, model_names, settings_of
from msdn.train.runs.run import Run

CPU = torch.device("cpu")
NARROW = [name for name in model_names() if find_model(name).narrows]


def made(cache: FeatureCache, name: str, seed: int = 0) -> ZslModel:
    torch.manual_seed(seed)
    groups = (AttributeGroup("all", np.arange(cache.annotations.attributes.shape[1])),)
    model = build_model(problem_of(cache, groups), settings_of(name))
    with torch.no_grad():
        for parameter in model.parameters():  # those that start at zero have nothing to be rounded
            parameter.copy_(torch.nn.functional.normalize(torch.randn_like(parameter), dim=-1))
    return model


@pytest.mark.parametrize("name", NARROW)
def test_scores_and_gradients_are_near_those_in_float32(make_cache: Callable[..., Path], name: str) -> None:
    with FeatureCache(make_cache()) as cache:
        rows = cache.rows("trainval")
        stored = torch.from_numpy(cache.read_rows(rows))
        labels = torch.from_numpy(cache.annotations.labels[rows])
        found = []
        for precision in ("float32", "bfloat16"):
            model = made(cache, name)
            torch.manual_seed(1)
            scores = model(preparation(model, precision)(stored))
            losses = model.losses(scores, labels)
            assert {value.dtype for value in losses.values()} == {torch.float32}
            assert model.class_scores(scores).dtype == torch.float32
            losses["loss"].backward()
            found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
            assert found[-1].dtype == torch.float32
        exact, narrow = found
        assert not torch.equal(exact, narrow), "the products were not narrowed"
        assert float((exact - narrow).norm() / exact.norm()) < 0.03


def test_auto_takes_what_the_device_is_good_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for chosen in ("bfloat16", "float32"):
        monkeypatch.setattr(training, "fastest_precision", lambda device, chosen=chosen: chosen)
        assert choose_precision("auto", "msdn", CPU) == chosen
        assert choose_precision("auto", "baseline", CPU) == "float32", "its regions are pooled once"
        assert choose_precision("bfloat16", "msdn", CPU) == "bfloat16"
    with pytest.raises(TrainError, match="'baseline' computes in float32 only; leave it out"):
        choose_precision("bfloat16", "baseline", CPU)
    with pytest.raises(UnknownNameError, match="unknown precision 'half'"):
        choose_precision("half", "msdn", CPU)
    assert not Model("own", "", type(settings_of("baseline")), "x:y").narrows, "a model says so itself"


def test_a_run_keeps_its_precision_wherever_it_is_used(
    make_cache: Callable[..., Path], run_msdn: Callable[..., Result]
) -> None:
    make_cache()
    options = ("train", "--dataset", "toy", "--epochs", "2", "--batch-size", "8", "--device", "cpu")
    done = run_msdn(*options, "--precision", "bfloat16", "--json")
    assert done.exit_code == 0 and "products in bfloat16" in done.stderr
    run = json.loads(done.stdout)["run"]
    assert Run(Path(run)).precision == "bfloat16"
    for command in (("evaluate", "--run"), ("runs", "show")):
        assert json.loads(run_msdn(*command, run, "--json").stdout)["precision"] == "bfloat16"
    refused = run_msdn("train", "--resume", "--precision", "float32")
    assert refused.exit_code == 1
    refused = run_msdn(*options, "--model", "baseline", "--precision", "bfloat16")
    assert refused.exit_code == 1 and "float32 only" in refused.stderr
