"""Checkpoints of the published MSDN: the same scores as the model they hold, and every refusal."""

import dataclasses
import io
import os
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_cache import make_annotations, write_cache
from toy_published_weights import State, golden_annotations, random_model, released_state, save, with_backbone

from msdn.cache import FeatureCache
from msdn.train.errors import CheckpointError
from msdn.train.measure.evaluate import evaluate_published, score_model
from msdn.train.measure.evaluate import test_figures as figures_of_test
from msdn.train.measure.published_weights import load_published
from msdn.train.models.msdn.network import Msdn
from msdn.train.models.msdn.published_weights import PARAMETERS
from msdn.train.models.presets import preset_settings
from msdn.train.models.registry import settings_of

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = settings_of()
GOLDEN = sorted((Path(__file__).parent / "golden").glob("msdn_released*.npz"))


@pytest.fixture
def cache(make_cache: Callable[..., Path]) -> FeatureCache:
    """A small open cache without word vectors."""
    annotations = dataclasses.replace(make_annotations(), attribute_vectors=None)
    return FeatureCache(make_cache(annotations=annotations))


def class_scores(model: Msdn, cache: FeatureCache) -> Tensor:
    rows = np.arange(len(cache.annotations.labels))
    with torch.no_grad():
        return model.class_scores(
            model(model.prepare(torch.from_numpy(cache.read_rows(rows)), torch.float32))
        )


WAYS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "as parameters": lambda s: {k: torch.nn.Parameter(v, v.is_floating_point()) for k, v in s.items()},
    "in state_dict": lambda s: {"state_dict": s, "epoch": 30},
    "in model": lambda s: {"model": s},
    "of DataParallel": lambda s: {"state_dict": {f"module.{k}": v for k, v in with_backbone(s).items()}},
    "without unused": lambda s: {
        k: v for k, v in s.items() if k not in ("W_3", "W_3_1", "weight_ce", "prob_prune")
    },
    "bias per class": lambda s: {**s, "bias": torch.ones(1, 6)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_released_checkpoint_scores_as_the_model_it_was_made_from(
    cache: FeatureCache, tmp_path: Path, way: str, zipped: bool
) -> None:
    model = random_model(cache)
    path = save(
        tmp_path / "CUB_MSDN_GZSL.pth",
        WAYS[way](released_state(model)),
        _use_new_zipfile_serialization=zipped,
    )
    released = load_published(path, cache, SETTINGS)
    expected = class_scores(model, cache)
    assert float(expected.std()) > 0.1
    assert torch.equal(class_scores(released.model, cache), expected)
    assert released.margin == 1
    assert released.backbone_tensors == (2 if way == "of DataParallel" else 0)
    figures = evaluate_published(path, cache)
    own = own_figures(model, cache, 1.0)
    assert {name: figures[name] for name in own} == own
    assert figures["sha256"] == sha256(path.read_bytes()).hexdigest()


def own_figures(model: Msdn, cache: FeatureCache, margin: float) -> dict:
    scored = score_model(model, cache, "cpu")
    return figures_of_test(scored, scored, cache, margin)


@pytest.mark.parametrize("precision", [torch.float16, torch.float64])
def test_other_precisions_are_read(cache: FeatureCache, tmp_path: Path, precision: torch.dtype) -> None:
    model = random_model(cache).to(precision).float()  # what the file can hold
    state = {name: value.to(precision) for name, value in released_state(model).items()}
    released = load_published(save(tmp_path / "a.pth", state), cache, SETTINGS)
    expected = random_model(cache)
    expected.load_state_dict(model.state_dict())
    assert torch.equal(class_scores(released.model, cache), class_scores(expected, cache))


@pytest.mark.parametrize("way", ["awa2", "flo"])
def test_the_settings_are_the_presets_of_the_dataset(
    make_cache: Callable[..., Path], tmp_path: Path, way: str
) -> None:
    plain = make_annotations()
    annotations = dataclasses.replace(
        plain, dataset=way, attributes=plain.attributes - 40, attribute_vectors=None
    )
    with FeatureCache(make_cache(annotations=annotations)) as cache:
        model = random_model(cache, preset_settings("msdn", way))
        assert bool((model.classes.attributes < 0).any()) == (way == "flo")
        assert model.normalize_vectors == (way == "awa2")
        path = save(tmp_path / "a.pth", released_state(model))
        assert evaluate_published(path, cache)["alpha"] == list(model.alpha)
        released = load_published(path, cache, preset_settings("msdn", way))
        assert torch.equal(class_scores(released.model, cache), class_scores(model, cache))


def test_alpha_and_margin_can_be_given(cache: FeatureCache, tmp_path: Path) -> None:
    model = random_model(cache)
    path = save(tmp_path / "a.pth", {**released_state(model), "bias": torch.tensor(0.25)})
    model.alpha = (0.0, 2.0)
    for given, used in ((None, 0.25), (30.0, 30.0), (-30.0, -30.0)):
        figures = evaluate_published(path, cache, predict_with={"alpha": (0.0, 2.0)}, margin=given)
        own = own_figures(model, cache, used)
        assert {name: figures[name] for name in own} == own
        assert figures["alpha"] == [0.0, 2.0]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_scores_are_those_of_the_published_implementation(tmp_path: Path, path: Path) -> None:
    with np.load(path) as file:
        golden = dict(file)
    images = len(golden["labels"])
    annotations = golden_annotations(golden, "golden")
    features = np.zeros((len(annotations.labels), *golden["features_nchw"].transpose(0, 2, 3, 1).shape[1:]))
    features[:images] = golden["features_nchw"].transpose(0, 2, 3, 1)
    attributes = torch.nn.functional.normalize(torch.tensor(golden["att_raw"]).clamp_min(0))
    mask_bias = torch.ones(1, len(attributes))
    mask_bias[:, golden["seen"]] = -1
    state = {name: torch.tensor(golden[name]) for name in PARAMETERS}
    state |= {"att": attributes, "mask_bias": mask_bias, "bias": torch.tensor(1)}
    settings = settings_of(
        negative_attributes="missing", normalize_vectors=bool(golden["normalize_attribute_vectors"])
    )
    written = write_cache(tmp_path / "golden.h5", annotations, features.astype(np.float32))
    with FeatureCache(written) as cache, torch.no_grad():
        released = load_published(save(tmp_path / "a.pth", state), cache, settings)
        regions = torch.from_numpy(cache.read_rows(np.arange(images)))
        scores = released.model(released.model.prepare(regions, regions.dtype))
    for theirs, ours in scores.items():
        expected = torch.tensor(golden[f"scores_{theirs}_with_margin"]).float()
        torch.testing.assert_close(
            ours + released.model.classes.margins, expected, atol=1e-5, rtol=1e-5, check_dtype=False
        )


def changed(name: str, change: Callable[[Tensor], Any]) -> Callable[[State], State]:
    return lambda state: {**state, name: change(state[name].clone())}


def without(*names: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name not in names}


def put(value: float, *place: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.index_put_(tuple(torch.tensor(i) for i in place), torch.tensor(value))


MISTAKES: dict[str, tuple[Callable[[State], Any], str]] = {
    "one missing": (without("W_1_1"), r"not a checkpoint of the published MSDN: it lacks W_1_1; .*--run"),
    "a run's checkpoint": (
        lambda s: {"version": 1, "epoch": 3, "trainer": {"model": s}},
        "it lacks att, mask_bias, bias, V, .*msdn train.* with --run",
    ),
    "one too many": (
        lambda s: {**s, **{f"emb_func.{i}": torch.ones(1) for i in range(5)}},
        r"which has no emb_func\.0, emb_func\.1, emb_func\.2 and 2 more",
    ),
    "a list": (lambda s: list(s.values()), "holds a list, expected a state dict"),
    "a tensor": (lambda s: s["V"], "holds a Tensor, expected a state dict"),
    "no tensor": (changed("V", lambda t: t.tolist()), "V is not a table of numbers"),
    "complex": (changed("V", lambda t: t.to(torch.complex64)), "V is not a table of numbers"),
    "no storage": (changed("V", lambda t: t.to("meta")), "V is not a table of numbers"),
    "nan": (changed("W_2", put(float("nan"), 1, 2)), "W_2 holds numbers that are not finite"),
    "too large": (changed("W_2", lambda t: t.double() * 1e300), "W_2 holds numbers that are not finite"),
    "transposed": (
        changed("W_1", lambda t: t.T),
        r"W_1 is \[16, 9\], expected \[9, 16\] for .*16 channels",
    ),
    "other channels": (changed("W_1_1", lambda t: t[:8]), r"W_1_1 is \[8, 9\], expected \[16, 9\]"),
    "other classes": (
        changed("att", lambda t: t[:4]),
        r"att is \[4, 7\], expected \[6, 7\] for .*\(6 classes, 7 attributes",
    ),
    "other attributes": (changed("V", lambda t: t[:5]), r"V is \[5, 9\], expected \[7, 9\]"),
    "flat vectors": (changed("V", lambda t: t[:, 0]), r"V is \[7\], expected \[7, 7\]"),
    "one vector": (changed("V", lambda t: t[0, 0]), r"V is \[\], expected \[7, 0\]"),
    "flat mask": (changed("mask_bias", lambda t: t[0]), r"mask_bias is \[6\], expected \[1, 6\]"),
    "two biases": (changed("bias", lambda t: torch.ones(2)), r"bias is \[2\], expected \[1, 6\]"),
    "classes swapped": (
        changed("att", lambda t: t[[0, 1, 3, 2, 4, 5]]),
        r"differ from those of .* in 2 of 6 classes, first 'class_2' \(by up to 0\.\d+\); check .*order of its classes",
    ),
    "attributes swapped": (
        changed("att", lambda t: t[:, [1, 0, 2, 3, 4, 5, 6]]),
        "in 6 of 6 classes, first 'class_0' .*check the dataset, .*attributes",
    ),
    "other splits": (
        changed("mask_bias", put(1.0, 0, 3)),
        r"margin of class 'class_3' is \+1, expected -1, .* the class is seen \(1 of 6 classes differ\)",
    ),
    "other unseen": (
        changed("mask_bias", put(-1.0, 0, 5)),
        r"margin of class 'class_5' is -1, expected \+1, .* the class is not seen",
    ),
    "sign the other way": (changed("bias", lambda t: -t), r"margin of class 'class_0' is \+1, .*6 of 6"),
    "margins of two sizes": (changed("mask_bias", put(-0.5, 0, 1)), r"'class_1' is -0\.5, expected -1"),
    "no margin": (changed("bias", lambda t: 0 * t), r"'class_0' is [+-]0, expected -1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_named(cache: FeatureCache, tmp_path: Path, mistake: str) -> None:
    change, message = MISTAKES[mistake]
    path = save(tmp_path / "wrong.pth", change(released_state(random_model(cache))))
    with pytest.raises(CheckpointError, match=rf"wrong\.pth: .*{message}"):
        evaluate_published(path, cache)


class Bomb:
    """Pickled, it asks its reader to make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("way", ["torch", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_does_not(cache: FeatureCache, tmp_path: Path, way: str) -> None:
    path, proof = tmp_path / "bomb.pth", tmp_path / "proof"
    content = {**released_state(random_model(cache)), "V": Bomb(proof)}
    if way == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        save(path, content, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(CheckpointError, match="not a readable file of weights"):
        load_published(path, cache, SETTINGS)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Bomb(proof)))
    assert proof.exists()  # so it would have


def test_a_damaged_file_is_named(cache: FeatureCache, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(released_state(random_model(cache)), buffer)
    for content in (b"", b"no weights", buffer.getvalue()[:-2000]):
        path = tmp_path / "cut.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"cut\.pth: not a readable file of weights"):
            load_published(path, cache, SETTINGS)
