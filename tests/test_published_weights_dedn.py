"""State dicts of the published DEDN: the scores of its code, the groups of its scripts, and every refusal."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from golden_dedn import groups_of
from torch import Tensor
from torch.nn.functional import normalize
from toy_cache import make_annotations, write_cache
from toy_published_weights import State, golden_annotations, save, with_backbone

from msdn.cache import FeatureCache
from msdn.cache.annotations import Annotations
from msdn.cli import main
from msdn.train.errors import CheckpointError, SettingsError
from msdn.train.groups.groups import collect_groups, is_partition, write_groups
from msdn.train.groups.tables import published_groups, scripted_groups
from msdn.train.measure.evaluate import evaluate_published
from msdn.train.measure.published_weights import load_published
from msdn.train.models.dedn.network import Dedn
from msdn.train.models.presets import preset_settings

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = Path(__file__).parent / "golden"
D, RANK, SIDE, CHANNELS = 6, 4, 3, 16


def class_tensors(annotations: Annotations, indicator: np.ndarray) -> State:
    """What the published class stores of the classes: the columns of `att` come group by group."""
    attributes = torch.tensor(np.maximum(annotations.attributes, 0)).float()
    margins = torch.ones(1, len(attributes))
    margins[:, annotations.seen_classes] = -1
    return {
        "att": normalize(attributes[:, np.argsort(indicator, kind="stable")]),
        "weight_ce": torch.eye(len(attributes)),
        "bias": torch.tensor(1),
        "mask_bias": margins,
    }


def published_state(annotations: Annotations, indicator: np.ndarray, *, product: bool = False) -> State:
    """A state dict as the published class has it, every parameter random; `product` as the class for SUN."""
    generator = torch.Generator().manual_seed(8)
    score = {"H_1": (D, RANK), "H_3": (RANK, CHANNELS)} if product else {"H_1": (D, CHANNELS)}
    attentions = ("H_4", "H_5") if product else ("H_3", "H_4")
    shapes = {**score, "H_2": (D, CHANNELS), **dict.fromkeys(attentions, (D, SIDE**2))}
    groups = [np.flatnonzero(indicator == group) for group in range(indicator.max() + 1)]
    rows = {"GNet": len(indicator), **{f"Snet{number}": len(group) for number, group in enumerate(groups)}}
    return class_tensors(annotations, indicator) | {
        f"{net}.{name}": torch.randn(shape, generator=generator)
        for net, count in rows.items()
        for name, shape in {"V": (count, D), **shapes}.items()
    }


def net_scores(state: State, net: str, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Region and channel scores of one published sub-net, in float64 and equation by equation."""
    own = {name.rpartition(".")[2]: t.double() for name, t in state.items() if name.startswith(f"{net}.")}
    product = "H_5" in own
    score = own["H_1"] @ own["H_3"] if product else own["H_1"]
    channel_score, channel_attention = (own[name] for name in (("H_4", "H_5") if product else ("H_3", "H_4")))
    unit = normalize(regions.double(), dim=2)  # [B, R, F]
    weights = torch.softmax(torch.einsum("kd,df,brf->bkr", own["V"], own["H_2"], unit), dim=2)
    region = (weights * torch.einsum("kd,df,brf->bkr", own["V"], score, unit)).sum(2)
    weights = torch.softmax(torch.einsum("kd,dr,brf->bkf", own["V"], channel_attention, unit), dim=2)
    return region, (weights * torch.einsum("kd,dr,brf->bkf", own["V"], channel_score, unit)).sum(2)


def published_scores(
    state: State, indicator: np.ndarray, regions: Tensor, c_mix: float, e_mix: float
) -> Tensor:
    """The published prediction without margin: both experts' attributes group by group, as `att` has them."""
    order = np.argsort(indicator, kind="stable")
    coarse = [part[:, order] for part in net_scores(state, "GNet", regions)]
    nets = [net_scores(state, f"Snet{number}", regions) for number in range(indicator.max() + 1)]
    fine = [torch.cat(part, dim=1) for part in zip(*nets, strict=True)]
    experts = [
        (c_mix * region + (1 - c_mix) * channel) @ state["att"].double().T
        for region, channel in (coarse, fine)
    ]
    return e_mix * experts[0] + (1 - e_mix) * experts[1]


def our_scores(path: Path, cache: FeatureCache, **changes: Any) -> tuple[Dedn, Tensor]:
    """The model of a file, and its class scores of all images."""
    groups = changes.pop("groups", None)
    settings = dataclasses.replace(preset_settings("dedn", cache.annotations.dataset), **changes)
    model = load_published(path, cache, settings, groups).model
    assert isinstance(model, Dedn)
    with torch.no_grad():
        return model, model.class_scores(model(model.prepare(regions_of(cache), torch.float32)))


def regions_of(cache: FeatureCache) -> Tensor:
    rows = cache.read_rows(np.arange(len(cache.annotations.labels)))
    return torch.from_numpy(rows).float().flatten(1, -2)


def dataset_cache(make_cache: Callable[..., Path], name: str, attributes: int, **shape: int) -> FeatureCache:
    """A small cache that says it is this dataset."""
    annotations = dataclasses.replace(
        make_annotations(n_attributes=attributes), dataset=name, attribute_vectors=None
    )
    return FeatureCache(make_cache(annotations=annotations, dtype=np.float32, **shape))


SCRIPTED_SUN = np.zeros(102, np.int64)
SCRIPTED_SUN[38:65], SCRIPTED_SUN[77:85] = 1, 2  # the two ranges that the script has
SCRIPTED_SUN[-9], SCRIPTED_SUN[-3], SCRIPTED_SUN[-17] = 2, 3, 3  # 65 - 74, 74 - 77, 85 - 102
COMMENTED_SUN = np.repeat([0, 1, 2, 3, 2, 3], [38, 27, 9, 3, 8, 17])
TOY = np.array([1, 0, 1, 0, 0, 1, 1])


@pytest.fixture
def toy(make_cache: Callable[..., Path]) -> FeatureCache:
    """A small cache without word vectors, whose attributes' names give no groups of TOY's."""
    return dataset_cache(make_cache, "toy", len(TOY))


@pytest.fixture
def toy_groups(tmp_path: Path) -> Path:
    """A file of TOY's groups; the published order is another one."""
    path = tmp_path / "groups.csv"
    write_groups(path, collect_groups("test", [str(group) for group in TOY]), ())
    return path


@pytest.mark.parametrize("dataset", ["cub", "awa2"])
def test_scores_are_those_of_the_published_implementation(tmp_path: Path, dataset: str) -> None:
    with np.load(GOLDEN / f"dedn_{dataset}.npz") as file:
        golden = dict(file)
    images, indicator = len(golden["labels"]), golden["indicator"]
    annotations = golden_annotations(golden, dataset)
    features = np.zeros((len(annotations.labels), SIDE, SIDE, CHANNELS), np.float32)
    features[:images] = golden["features_nchw"].transpose(0, 2, 3, 1)
    state = class_tensors(annotations, indicator)
    state |= {
        name.removeprefix("param__"): torch.tensor(value)
        for name, value in golden.items()
        if name.startswith("param__")
    }
    written = write_cache(tmp_path / "golden.h5", annotations, features)
    path = save(tmp_path / "a.pth", state)
    coarse, fine = (torch.tensor(golden[f"eval_scores_{one}_with_margin"]) for one in ("coarse", "fine"))
    with FeatureCache(written) as cache:
        settings = preset_settings("dedn", dataset)
        assert float(golden["c_mix"]) == settings.region_mix
        published = load_published(path, cache, settings)
        assert [one.tolist() for one in groups_of(golden)] == [
            group.attributes.tolist() for group in published.groups.groups
        ]
        model = published.model
        with torch.no_grad():
            scores = model(model.prepare(regions_of(cache)[:images], torch.float32))
            ours = *model.test_scores(scores), model.class_scores(scores)
    e_mix = settings.coarse_mix  # the margin is in both experts' scores: mixed, it counts once
    expected = coarse, fine, e_mix * coarse + (1 - e_mix) * fine
    for one, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(
            one + published.margin * model.classes.margins, theirs.float(), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("dataset", "indicator", "product"),
    [
        ("sun", SCRIPTED_SUN, True),
        ("sun", COMMENTED_SUN, True),
        ("sun", SCRIPTED_SUN, False),
    ],
    ids=["script", "comment", "whole matrix"],
)
def test_sun_is_scored_as_its_class_does(
    make_cache: Callable[..., Path], tmp_path: Path, dataset: str, indicator: np.ndarray, product: bool
) -> None:
    cache = dataset_cache(make_cache, dataset, 102)
    state = published_state(cache.annotations, indicator, product=product)
    path = save(tmp_path / "a.pth", state)
    model, scores = our_scores(path, cache)
    expected = published_scores(state, indicator, regions_of(cache), c_mix=0.95, e_mix=0.3)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(scores, expected.float(), atol=1e-4, rtol=1e-4)
    assert [len(net.word_vectors) for net in model.fine] == np.bincount(indicator).tolist()
    slipped = evaluate_published(path, cache, model="dedn")["groups"]["source"]
    assert ("slips" in slipped) == (indicator is SCRIPTED_SUN)


def test_the_slipped_table_is_the_scripts() -> None:
    (found,) = scripted_groups("sun", 102)
    assert found.sizes == [64, 27, 9, 2] and is_partition(found.groups, 102)
    for number, group in enumerate(found.groups):
        assert group.attributes.tolist() == np.flatnonzero(number == SCRIPTED_SUN).tolist()
    commented = published_groups("sun", 102)
    assert commented is not None and commented.sizes == np.bincount(COMMENTED_SUN).tolist()
    assert scripted_groups("sun", 101) == scripted_groups("cub", 312) == []


WAYS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "as parameters": lambda s: {k: torch.nn.Parameter(v, v.is_floating_point()) for k, v in s.items()},
    "of DataParallel": lambda s: {"state_dict": {f"module.{k}": v for k, v in with_backbone(s).items()}},
    "in model": lambda s: {"model": s, "epoch": 80},
    "without unused": lambda s: {k: v for k, v in s.items() if k != "weight_ce"},
    "in another order": lambda s: dict(reversed(s.items())),
    "double": lambda s: {k: v.double() for k, v in s.items()},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_layout_gives_the_same_scores(
    toy: FeatureCache, toy_groups: Path, tmp_path: Path, way: str
) -> None:
    state = published_state(toy.annotations, TOY)
    _, scores = our_scores(save(tmp_path / "a.pth", WAYS[way](state)), toy, groups=toy_groups)
    mixes = preset_settings("dedn", "toy")
    expected = published_scores(state, TOY, regions_of(toy), mixes.region_mix, mixes.coarse_mix)
    torch.testing.assert_close(scores, expected.float(), atol=1e-5, rtol=1e-5)


def test_groups_of_one_size_are_told_apart_by_their_attributes(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    indicator = np.array([2, 1, 0, 0, 1, 2])
    cache = dataset_cache(make_cache, "toy", 6)
    file = tmp_path / "groups.csv"
    write_groups(file, collect_groups("test", ["a", "b", "c", "c", "b", "a"]), ())
    state = published_state(cache.annotations, indicator)
    model, scores = our_scores(
        save(tmp_path / "a.pth", state), cache, groups=file, region_mix=0.3, coarse_mix=0.2
    )
    expected = published_scores(state, indicator, regions_of(cache), 0.3, 0.2)
    torch.testing.assert_close(scores, expected.float(), atol=1e-5, rtol=1e-5)
    assert model.position.tolist() == np.argsort(np.argsort(indicator, kind="stable")).tolist()


def changed(name: str, change: Callable[[Tensor], Any]) -> Callable[[State], State]:
    return lambda state: {**state, name: change(state[name].clone())}


def without(*names: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name not in names}


def swap(first: int, second: int) -> Callable[[Tensor], Tensor]:
    def change(table: Tensor) -> Tensor:
        order = list(range(table.shape[1]))
        order[first], order[second] = second, first
        return table[:, order]

    return change


MISTAKES: dict[str, tuple[Callable[[State], Any], str]] = {
    "one missing": (without("Snet0.H_3"), r"published DEDN: it lacks Snet0\.H_3;"),
    "a sub-net missing": (
        lambda s: {k: v for k, v in s.items() if not k.startswith("Snet0.")} | {"Snet2.V": s["Snet0.V"]},
        r"it lacks Snet0\.V, Snet0\.H_1",
    ),
    "MSDN's": (
        lambda s: {"V": s["GNet.V"], "W_1": s["GNet.H_1"]},
        r"it lacks att, .* and \d+ more; .*--model",
    ),
    "no classes": (without("att", "mask_bias"), "it lacks att, mask_bias"),
    "one too many": (lambda s: {**s, "GNet.H_6": torch.ones(1)}, r"which has no GNet\.H_6"),
    "half of SUN's": (lambda s: {**s, "GNet.H_5": s["GNet.H_4"]}, r"it lacks Snet0\.H_5"),
    "a list": (lambda s: list(s.values()), "holds a list, expected a state dict of DEDN"),
    "no tensor": (changed("Snet1.V", lambda t: t.tolist()), r"Snet1\.V is not a table of numbers"),
    "nan": (
        changed("Snet1.H_2", lambda t: t * float("nan")),
        r"Snet1\.H_2 holds numbers that are not finite",
    ),
    "other grid": (
        changed("GNet.H_3", lambda t: torch.ones(D, 196)),
        r"GNet\.H_3 is \[6, 196\], expected \[6, 9\] for .*3×3 regions.*image size",
    ),
    "transposed": (changed("Snet1.H_1", lambda t: t.T), r"Snet1\.H_1 is \[16, 6\], expected \[6, 16\]"),
    "other attributes": (changed("GNet.V", lambda t: t[:5]), r"GNet\.V is \[5, 6\], expected \[7, 6\]"),
    "no vectors": (changed("GNet.V", lambda t: t[0, 0]), r"GNet\.V is \[\], expected \[7, 0\]"),
    "flat group": (changed("Snet0.V", lambda t: t[:, 0]), r"Snet0\.V is \[3\], expected \[3, 6\]"),
    "other sizes": (
        changed("Snet0.V", lambda t: t[:2]),
        r"groups of 2, 4 attributes, expected 4, 3 \(file groups",
    ),
    "an empty group": (
        changed("Snet0.V", lambda t: t[:0]),
        r"groups of 0, 4 attributes, expected .*--groups FILE",
    ),
    "columns of another group": (changed("att", swap(0, 6)), "attributes differ .*in 6 of 6 classes.*groups"),
    "columns in the dataset's order": (
        changed("att", lambda t: t[:, np.argsort(np.argsort(TOY, kind="stable"))]),
        "attributes differ .*in 6 of 6 classes",
    ),
    "classes swapped": (
        changed("att", lambda t: t[[1, 0, 2, 3, 4, 5]]),
        "in 2 of 6 classes, first 'class_0'",
    ),
    "other splits": (
        changed("mask_bias", lambda t: -t),
        r"margin of class 'class_0' is \+1, expected -1, .*6 of 6",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_named(
    toy: FeatureCache, toy_groups: Path, tmp_path: Path, mistake: str
) -> None:
    change, message = MISTAKES[mistake]
    path = save(tmp_path / "wrong.pth", change(published_state(toy.annotations, TOY)))
    with pytest.raises(CheckpointError, match=rf"wrong\.pth: .*{message}"):
        evaluate_published(path, toy, model="dedn", groups=toy_groups)


PRODUCT_MISTAKES: dict[str, tuple[Callable[[State], Any], str]] = {
    "a rank of its own": (
        changed("Snet1.H_1", lambda t: t[:, :2]),
        r"Snet1\.H_1 is \[6, 2\], expected \[6, 4\]",
    ),
    "no rank": (changed("GNet.H_1", lambda t: t[:, :0]), r"GNet\.H_1 is \[6, 0\], expected \[6, 1\]"),
    "one factor alone": (without("Snet1.H_3"), r"it lacks Snet1\.H_3"),
    "a fifth matrix missing": (without("GNet.H_5"), r"which has no Snet0\.H_5, Snet1\.H_5"),
}


@pytest.mark.parametrize("mistake", PRODUCT_MISTAKES)
def test_what_does_not_fit_in_suns_class_is_named(
    toy: FeatureCache, toy_groups: Path, tmp_path: Path, mistake: str
) -> None:
    change, message = PRODUCT_MISTAKES[mistake]
    path = save(tmp_path / "wrong.pth", change(published_state(toy.annotations, TOY, product=True)))
    with pytest.raises(CheckpointError, match=rf"wrong\.pth: .*{message}"):
        evaluate_published(path, toy, model="dedn", groups=toy_groups)


def test_sizes_that_no_table_has_name_all_tables(make_cache: Callable[..., Path], tmp_path: Path) -> None:
    cache = dataset_cache(make_cache, "sun", 102)
    state = published_state(cache.annotations, np.repeat([0, 1], [60, 42]))
    with pytest.raises(CheckpointError, match=r"of 60, 42 attributes, .*38, 27, 17, 20 .* or 64, 27, 9, 2 "):
        evaluate_published(save(tmp_path / "a.pth", state), cache, model="dedn")


def test_a_model_without_published_weights_is_named(toy: FeatureCache, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", published_state(toy.annotations, TOY))
    with pytest.raises(SettingsError, match=r"'dazle'.*--run"):
        evaluate_published(path, toy, model="dazle")


def msdn(cache: FeatureCache, *arguments: str | Path) -> Result:
    home = cache.path.parents[1]
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--home", str(home)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("task", ["gzsl", "czsl"])
def test_evaluate_predicts_as_published_for_the_dataset_and_task(
    make_cache: Callable[..., Path], tmp_path: Path, task: str
) -> None:
    cache = dataset_cache(make_cache, "cub", 312)
    table = published_groups("cub", 312)
    assert table is not None
    indicator = np.zeros(312, np.int64)
    for number, group in enumerate(table.groups):
        indicator[group.attributes] = number
    path = save(tmp_path / "CUB_DEDN.pth", published_state(cache.annotations, indicator))
    arguments = ["--checkpoint", path, "--model", "dedn", "--cache", cache.path, f"--{task}"]
    result = msdn(cache, *arguments)
    assert result.exit_code == 0, result.output
    for line in (
        f"checkpoint: {path}",
        f"region_mix: {'0.8' if task == 'gzsl' else '0.6'}",
        "coarse_mix: 0.9",
        "attribute groups: published table of DEDN "
        "(head 112, torso 87, wing 24, tail 40, leg 15, whole body 34)",
        "margin: 1",
    ):
        assert line in result.stdout.splitlines()
    figures = json.loads(msdn(cache, *arguments, "--json").stdout)
    whole = evaluate_published(path, cache, model="dedn", task=task)
    assert figures == {name: value for name, value in whole.items() if name in figures}
    assert figures["model"] == "dedn" and "alpha" not in figures


def test_a_file_of_groups_is_given_on_the_command_line(
    toy: FeatureCache, toy_groups: Path, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.pth", published_state(toy.annotations, TOY))
    arguments = ["--checkpoint", path, "--model", "dedn", "--dataset", "toy"]
    refused = msdn(toy, *arguments)
    assert refused.exit_code == 1 and "--groups FILE" in refused.stderr and refused.stdout == ""
    result = msdn(toy, *arguments, "--groups", toy_groups)
    assert result.exit_code == 0, result.output
    assert "attribute groups: file groups.csv (0 3, 1 4)" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--checkpoint", "FILE", "--model", "dedn", "--alpha", "1", "0"], 2, "--alpha is not a setting of"),
        (["--checkpoint", "FILE", "--model", "msdn", "--groups", "GROUPS"], 2, "--groups is not a setting of"),
        (["--groups", "GROUPS"], 2, "--groups goes with --checkpoint"),
        (["--checkpoint", "FILE"], 1, "not a checkpoint of the published MSDN"),
        (["--checkpoint", "FILE", "--model", "dedn", "--groups", "FILE"], 1, "a.pth"),
        (["--checkpoint", "GROUPS", "--model", "dedn"], 1, "not a readable file of weights"),
        (["--checkpoint", "FILE", "--model", "dednn"], 2, "dedn"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(
    toy: FeatureCache, toy_groups: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    path = save(tmp_path / "a.pth", published_state(toy.annotations, TOY))
    places = {"FILE": path, "GROUPS": toy_groups}
    result = msdn(toy, *(places.get(word, word) for word in arguments), "--dataset", "toy")
    assert result.exit_code == code, result.output
    assert message in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
