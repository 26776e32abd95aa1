"""The networks: their maps are what their own library computes, the right way up; folding changes last digits."""

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models, transforms

from msdn.cache.errors import UnknownNameError, WrongUsageError
from msdn.cache.home import Home
from msdn.extract.backbones import Backbone, Preparation
from msdn.extract.backbones.entry import Plan, features_tag, make_plan
from msdn.extract.backbones.families import FAMILY_OF
from msdn.extract.backbones.frozen import FrozenNetwork, fixed_arithmetic
from msdn.extract.backbones.network import (
    calibrate,
    list_layers,
    mean_and_std,
    measure_maps,
    normalise,
    restore_statistics,
)
from msdn.extract.backbones.registry import build_network, find_backbone
from msdn.extract.backbones.torchvision_networks import grid_of
from msdn.extract.backbones.weights import load_network
from msdn.extract.errors import ExtractError, WeightsError

CPU = torch.device("cpu")
HOME = Home(Path("unused"))
RESNET = find_backbone("resnet101")
pytestmark = pytest.mark.usefixtures("one_thread")


def make_images(size: int, count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 255, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return make_images(64, 4)


def plan_of(name: str, size: int, layer: str = "", also: tuple[str, ...] = ()) -> Plan:
    return make_plan(find_backbone(name), size, layer, also)


def random_network(plan: Plan) -> nn.Module:
    """With every branch alive and every batch norm doing something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = build_network(plan.backbone, plan.preparation.size).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.4, 0.6)
                module.bias.data.uniform_(-0.1, 0.1)
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
            elif isinstance(module, nn.LayerNorm):
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.uniform_(-0.1, 0.1)
    return network


@pytest.fixture(scope="module")
def lively() -> nn.Module:
    return random_network(plan_of("resnet101", 64))


def compute(network: nn.Module, plan: Plan, images: np.ndarray, precision: str = "float32") -> np.ndarray:
    return FrozenNetwork(copy.deepcopy(network), plan, CPU, precision).compute(images).maps["regions"]


def hook(network: nn.Module, layer: str, images: np.ndarray, preparation: Preparation) -> Tensor:
    """What the library's own forward hook gives for a whole pass of its own."""
    prepare = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(preparation.mean, preparation.std)]
    )
    given = []
    handle = network.get_submodule(layer).register_forward_hook(lambda _m, _i, output: given.append(output))
    with torch.inference_mode():
        network(torch.stack([prepare(image) for image in images]))
    handle.remove()
    return given[0]


def assert_same(ours: np.ndarray, theirs: Tensor) -> None:
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-6 * max(1, float(theirs.abs().max())))


def from_channels_first(output: Tensor) -> Tensor:
    return output.permute(0, 2, 3, 1)


def from_tokens(prefix: int, side: int) -> Callable[[Tensor], Tensor]:
    return lambda output: torch.stack(
        [
            torch.stack(
                [output[:, prefix + row * side + column] for column in range(side)],
                dim=1,
            )
            for row in range(side)
        ],
        dim=1,
    )


@functools.cache
def drawn(name: str, size: int) -> nn.Module:
    """A random network, made once for all tests that leave it as it is."""
    return random_network(plan_of(name, size))


LIBRARY = [  # name, image size, module whose output is looked at, how that becomes [B, h, w, C]
    ("resnet50", 64, "layer4", from_channels_first),
    ("convnext_tiny", 64, "features", from_channels_first),
    ("swin_t", 64, "norm", lambda output: output),
    ("vit_b_16", 64, "encoder.ln", from_tokens(1, 4)),
    ("timm:vit_tiny_patch16_224", 64, "norm", from_tokens(1, 4)),
    ("timm:vit_small_patch14_reg4_dinov2", 56, "norm", from_tokens(5, 4)),
    ("timm:test_convnext", 64, "stages.3", from_channels_first),
]


@pytest.mark.parametrize(("name", "size", "layer", "arrange"), LIBRARY, ids=[row[0] for row in LIBRARY])
def test_maps_are_those_of_the_librarys_own_hooks(
    name: str, size: int, layer: str, arrange: Callable[[Tensor], Tensor]
) -> None:
    plan = plan_of(name, size)
    network, images = drawn(name, size), make_images(size)
    theirs = arrange(hook(network, layer, images, plan.preparation))
    assert_same(compute(network, plan, images), theirs)
    shape = measure_maps(network, plan)["regions"]
    assert (shape.height, shape.width, shape.channels) == tuple(theirs.shape[1:])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 128),
        ("swin_t", 64),
        ("vit_b_16", 64),
        ("timm:vit_tiny_patch16_224", 64),
        ("convnext_tiny", 64),
    ],
)
def test_a_bright_corner_answers_in_that_corner(name: str, size: int) -> None:
    plan = plan_of(name, size)
    network, part = drawn(name, size), size // 4
    dark = np.zeros((1, size, size, 3), np.uint8)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        bright = dark.copy()
        bright[
            :,
            -row * part or None : (1 - row) * part or None,
            -column * part or None : (1 - column) * part or None,
        ] = 255
        change = np.abs(compute(network, plan, bright) - compute(network, plan, dark))[0].sum(axis=2)
        half = len(change) // 2
        quarters = change.reshape(2, half, 2, half).sum(axis=(1, 3))
        assert np.unravel_index(int(quarters.argmax()), (2, 2)) == (row, column)


def test_one_pass_gives_normed_tokens_raw_pooled_ones_and_the_class_token() -> None:
    also = ("coarse=blocks.10,pool=2x2", "global", "token,pool=class", "normed=blocks.3,norm")
    plan = plan_of("timm:vit_tiny_patch16_224", 64, also=also)
    network, images = drawn("timm:vit_tiny_patch16_224", 64), make_images(64)
    given = FrozenNetwork(network, plan, CPU, "float32").compute(images).maps
    raw = hook(network, "blocks.10", images, plan.preparation)
    final = hook(network, "norm", images, plan.preparation)
    early = hook(network, "blocks.3", images, plan.preparation)
    assert_same(given["regions"], from_tokens(1, 4)(final))
    coarse = from_tokens(1, 4)(raw).reshape(2, 2, 2, 2, 2, -1).mean((2, 4))
    assert_same(given["coarse"], coarse)
    assert_same(given["global"], final[:, 1:].mean(1)[:, None, None])
    assert_same(given["token"], final[:, :1, None])
    with torch.inference_mode():
        assert_same(given["normed"], from_tokens(1, 4)(network.norm(early)))


@pytest.mark.parametrize("norm", [True, False])
def test_norm_is_a_choice_per_map(norm: bool) -> None:
    plan = plan_of("timm:vit_tiny_patch16_224", 64, layer=f"blocks.5,{'norm' if norm else 'raw'}")
    network, images = drawn("timm:vit_tiny_patch16_224", 64), make_images(64)
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(images), *mean_and_std(plan.preparation, CPU))
        theirs = network.forward_intermediates(pixels, indices=[5], norm=norm, intermediates_only=True)[0]
    assert_same(compute(network, plan, images), from_channels_first(theirs))


def test_the_class_token_of_torchvisions_vit_and_its_inner_blocks() -> None:
    plan = plan_of("vit_b_16", 64, "encoder.layers.encoder_layer_2", ("global,pool=class",))
    network, images = drawn("vit_b_16", 64), make_images(64)
    given = FrozenNetwork(network, plan, CPU, "float32").compute(images).maps
    inner = hook(network, "encoder.layers.encoder_layer_2", images, plan.preparation)
    final = hook(network, "encoder.ln", images, plan.preparation)
    assert_same(given["regions"], from_tokens(1, 4)(inner))
    assert_same(given["global"], final[:, :1, None])


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "efficientnet_b0"])
def test_what_an_entry_says_of_its_map_is_true(name: str) -> None:
    plan = plan_of(name, find_backbone(name).preparation.size)
    shape = measure_maps(drawn(name, plan.preparation.size), plan)["regions"]
    family = FAMILY_OF[name]
    assert (shape.height, shape.width) == (grid_of(name), grid_of(name))
    assert (shape.channels, shape.signed) == (family.channels[name], family.signed)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILY_OF))
def test_what_every_entry_says_of_its_map_is_true(name: str) -> None:
    plan = plan_of(name, find_backbone(name).preparation.size)
    shape = measure_maps(random_network(plan), plan)["regions"]
    family = FAMILY_OF[name]
    assert (shape.height, shape.width) == (grid_of(name), grid_of(name))
    assert (shape.channels, shape.signed) == (family.channels[name], family.signed)


def test_an_entry_prepares_images_as_its_librarys_evaluation_does() -> None:
    assert find_backbone("resnet101").preparation == Preparation(224)
    swin = find_backbone("swin_t").preparation
    theirs = models.Swin_T_Weights.IMAGENET1K_V1.transforms()
    assert ([swin.size], [swin.resize]) == (theirs.crop_size, theirs.resize_size)
    assert swin.interpolation == theirs.interpolation.value == "bicubic"
    assert swin.scale_to(448).resize == 464
    dino = find_backbone("timm:vit_small_patch14_reg4_dinov2")
    assert dino.preparation.size == 518 and dino.preparation.interpolation == "bicubic"
    assert dino.pretrained_on == "LVD-142M" and dino.prefix_tokens == 5
    tiny = find_backbone("timm:vit_tiny_patch16_224")
    config = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg("vit_tiny_patch16_224").to_dict()
    )
    assert (
        tiny.preparation.resize == int(224 / config["crop_pct"]) and tiny.preparation.mean == config["mean"]
    )
    assert tiny.pretrained_on == "ImageNet-21k, then ImageNet-1k"


def test_files_are_named_by_all_that_differs_and_never_by_hyphens() -> None:
    def tag(*arguments: object) -> str:
        plan = plan_of(*arguments)
        return features_tag({**plan.describe(), "weights": {"kind": "imagenet"}})

    assert tag("resnet101", 224) == tag("resnet101", 448) == tag("resnet101", None, "layer4") == "imagenet"
    names = [
        tag("resnet101", None, "layer3"),
        tag("convnext_tiny", None),
        tag("vit_b_16", None, "", ("global",)),
        tag("vit_b_16", None, "", ("global,pool=class",)),
        tag("vit_b_16", None, "", ("coarse=encoder.layers.encoder_layer_10,pool=7x7",)),
        tag("timm:vit_tiny_patch16_224", None, "blocks.10,raw"),
        tag("timm:vit_tiny_patch16_224", None, "blocks.10,norm"),
    ]
    assert names[0] == "resnet101@layer3_imagenet" and names[1] == "convnext_tiny_imagenet"
    assert len(set(names)) == len(names)
    maps = plan_of("timm:vit_tiny_patch16_224", None, "", ("early=blocks.3",)).describe()["maps"]
    assert maps == {
        "regions": {"layer": "blocks.11", "norm": True},
        "early": {"layer": "blocks.3", "norm": False},
    }
    assert not any(set(name) & set("-/: ") for name in names)


@pytest.mark.parametrize(
    ("name", "layer", "also", "error", "parts"),
    [
        ("resnet18", "layer9", (), UnknownNameError, ["layer9", "layer4", "layer3.1"]),
        ("timm:vit_tiny_patch16_224", "blocks.12", (), UnknownNameError, ["blocks.11"]),
        ("resnet18", "layer3,norm", (), ExtractError, ["norm", "msdn backbones resnet18"]),
        ("resnet18", "", ("global,pool=class",), ExtractError, ["class token", "pool=mean"]),
        ("resnet18", "", ("part,pool=3x3",), ExtractError, ["2x2", "3x3"]),
        ("resnet18", "avgpool", ("whole=fc",), ExtractError, ["fc"]),
        ("timm:test_convnext", "", ("coarse=stages.2,norm",), ExtractError, ["norm"]),
    ],
)
def test_what_a_network_does_not_have_is_refused(
    name: str, layer: str, also: tuple[str, ...], error: type[Exception], parts: list[str]
) -> None:
    with pytest.raises(error) as caught:
        measure_maps(drawn(name, 64), plan_of(name, 64, layer, also))
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize(
    ("also", "part"),
    [
        (("a b",), "small letters"),
        (("x=layer1,pool=0x2",), "pool=0x2"),
        (("x=layer1,wide",), "wide"),
        (("global", "global=layer3"), "global"),
        (("regions",), "regions"),
    ],
)
def test_maps_that_make_no_sense_are_wrong_usage(also: tuple[str, ...], part: str) -> None:
    with pytest.raises(WrongUsageError, match=part):
        plan_of("resnet18", 64, "", also)


def test_sizes_that_a_network_does_not_take_name_its_own() -> None:
    with pytest.raises(ExtractError, match=r"vit_b_16.* 100 pixels.* 224"):
        build_network(find_backbone("vit_b_16"), 100)
    with pytest.raises(ExtractError, match=r"squeezenet1_1.* 16 pixels.* 224"):
        measure_maps(drawn("squeezenet1_1", 224), plan_of("squeezenet1_1", 16))
    with pytest.raises(WrongUsageError, match="Did you mean 'resnet50'"):
        find_backbone("resnet5")
    with pytest.raises(UnknownNameError, match="timm:vit_tiny_patch16_224"):
        find_backbone("timm:vit_tiny_patch16_225")


def test_layers_are_listed() -> None:
    vit = list_layers(drawn("vit_b_16", 64), find_backbone("vit_b_16"))
    assert {"encoder.layers.encoder_layer_11", "encoder.ln"} <= set(vit) and "heads" not in vit
    assert "layer3.1" in list_layers(drawn("resnet18", 64), find_backbone("resnet18"))


def test_normalisation_is_torchvisions(images: np.ndarray) -> None:
    usual = RESNET.preparation
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(usual.mean, usual.std)])
    for image, ours in zip(
        images, normalise(torch.from_numpy(images), *mean_and_std(usual, CPU)), strict=True
    ):
        torch.testing.assert_close(ours, prepare(image), rtol=1e-6, atol=1e-6)


def test_the_folded_resnet101_computes_what_torchvision_computes(
    lively: nn.Module, images: np.ndarray
) -> None:
    plan = plan_of("resnet101", 64)
    ours = compute(lively, plan, images)
    expected = from_channels_first(hook(lively, "layer4", images, plan.preparation)).numpy()
    assert ours.shape == (4, 2, 2, 2048)
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_stays_close(lively: nn.Module, images: np.ndarray) -> None:
    precise, quick = (compute(lively, plan_of("resnet101", 64), images, p) for p in ("float32", "bfloat16"))
    assert 0 < np.abs(quick - precise).max() < 0.1 * np.abs(precise).max()


def test_silent_branches_add_nothing(images: np.ndarray) -> None:
    plan = plan_of("resnet50", 64)
    network, _ = load_network(plan.backbone, "random", 64, HOME)
    statistics = calibrate(network, plan, [images], CPU)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = models.resnet50(zero_init_residual=True).eval()
    # the whole network with the same statistics where they matter: silent branches keep their own
    state = whole.state_dict()
    for name, value in statistics.items():
        key = name.replace("0.0.1.", "0.downsample.1.") if name.startswith("layer") else name
        assert key in state
        state[key] = torch.from_numpy(value)
    whole.load_state_dict(state)
    theirs = from_channels_first(hook(whole, "layer4", images, plan.preparation)).numpy()
    np.testing.assert_allclose(compute(network, plan, images), theirs, rtol=1e-3, atol=1e-4 * theirs.max())


def test_calibration_centres_every_batch_norm(images: np.ndarray) -> None:
    plan = plan_of("resnet18", 64)
    network, _ = load_network(plan.backbone, "random", 64, HOME)
    calibrate(network, plan, [images], CPU)
    with torch.no_grad():
        normed = network.bn1(
            network.conv1(normalise(torch.from_numpy(images), *mean_and_std(plan.preparation, CPU)))
        )
    np.testing.assert_allclose(normed.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(normed.var((0, 2, 3)), 1, atol=1e-2)


def test_calibration_leaves_dropout_off(images: np.ndarray) -> None:
    plan = plan_of("efficientnet_b0", 64)
    first, second = (
        calibrate(copy.deepcopy(drawn("efficientnet_b0", 64)), plan, [images], CPU) for _ in "ab"
    )
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_stored_statistics_rebuild_the_same_backbone(images: np.ndarray) -> None:
    plan = plan_of("resnet101", 64)
    first, _ = load_network(plan.backbone, "random", 64, HOME)
    second = copy.deepcopy(first)
    empty = copy.deepcopy(first)
    restore_statistics(second, calibrate(first, plan, [images], CPU))
    np.testing.assert_array_equal(compute(first, plan, images), compute(second, plan, images))
    with pytest.raises(WeightsError, match="no matching batch-norm statistics for 'bn1'"):
        restore_statistics(empty, {})


def test_a_row_does_not_depend_on_its_neighbours(lively: nn.Module, images: np.ndarray) -> None:
    network = FrozenNetwork(copy.deepcopy(lively), plan_of("resnet101", 64), CPU, "float32")
    whole = network.compute(images).maps["regions"]
    for row in range(len(images)):
        alone = np.zeros_like(images)
        alone[row] = images[row]
        np.testing.assert_array_equal(network.compute(alone).maps["regions"][row], whole[row])


def test_what_the_caller_had_set_comes_back() -> None:
    cudnn, before = torch.backends.cudnn, torch.get_num_threads()
    was = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    with fixed_arithmetic(threads=before + 1):
        assert torch.get_num_threads() == before + 1
        assert (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic) == (False, False, True)
    assert torch.get_num_threads() == before
    assert (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic) == was


class Tokens(nn.Module):
    """A network of nothing but patches, as tokens behind one that stands for the class."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 16, 16)
        self.block = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)
        return self.block(torch.cat([tokens.new_full((len(tokens), 1, 4), 9.0), tokens], dim=1))


def test_tokens_need_to_be_explained() -> None:
    entry = Backbone(build=Tokens, layer="block", name="tokens", preparation=Preparation(48))
    with pytest.raises(ExtractError, match="prefix_tokens=N"):
        measure_maps(Tokens(), Plan(entry, entry.preparation))
    with pytest.raises(ExtractError, match="do not form a square"):
        measure_maps(Tokens(), Plan(replace(entry, prefix_tokens=0), entry.preparation))
    shape = measure_maps(
        Tokens(), make_plan(replace(entry, prefix_tokens=1), None, "", ("global,pool=class",))
    )
    assert (shape["regions"].height, shape["regions"].channels) == (3, 4)
    assert (shape["global"].height, shape["global"].signed) == (1, None)
