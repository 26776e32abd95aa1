"""The backbone: folding and leaving out silent branches change nothing that matters."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.models import resnet101

from msdn.cache.home import Home
from msdn.extract.backbones.calibration import calibrate, read_statistics, restore_statistics
from msdn.extract.backbones.resnet import MEAN, STD, Backbone, build_trunk, normalise
from msdn.extract.backbones.weights import Weights, load_weights
from msdn.extract.errors import WeightsError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.RandomState(0).randint(0, 255, (4, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def lively() -> Weights:
    """Random weights in which every branch and every batch norm matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = resnet101()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.data.uniform_(0.4, 0.6)
                module.bias.data.uniform_(-0.1, 0.1)
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
    return Weights("file", "lively", network.state_dict(), {})


def compute_naively(state: dict, images: np.ndarray) -> np.ndarray:
    """torchvision's own network, one image at a time, stopped before its average pool."""
    network = resnet101()
    network.load_state_dict(state, strict=False)
    network.eval()
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    features = []
    with torch.no_grad():
        for image in images:
            x = network.maxpool(network.relu(network.bn1(network.conv1(prepare(image)[None]))))
            x = network.layer4(network.layer3(network.layer2(network.layer1(x))))
            features.append(x[0].permute(1, 2, 0).numpy())
    return np.stack(features)


def test_normalisation_is_torchvisions(images: np.ndarray) -> None:
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    for image, ours in zip(images, normalise(torch.from_numpy(images)), strict=True):
        torch.testing.assert_close(ours, prepare(image), rtol=1e-6, atol=1e-6)


def test_folded_backbone_computes_what_torchvision_computes(lively: Weights, images: np.ndarray) -> None:
    ours = Backbone(build_trunk(lively), CPU, "float32").compute(images)
    expected = compute_naively(lively.state, images)
    assert ours.shape == (4, 2, 2, 2048)
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_stays_close(lively: Weights, images: np.ndarray) -> None:
    precise, quick = (Backbone(build_trunk(lively), CPU, p).compute(images) for p in ("float32", "bfloat16"))
    assert 0 < np.abs(quick - precise).max() < 0.1 * np.abs(precise).max()


def test_silent_branches_add_nothing(images: np.ndarray) -> None:
    weights = load_weights("random", Home(Path("unused")))
    trunk = build_trunk(weights)
    calibrate(trunk, [images], CPU)
    statistics = read_statistics(trunk)
    ours = Backbone(trunk, CPU, "float32").compute(images)
    # the whole network with the same statistics where they matter: silent branches keep their own
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    state = dict(weights.state)
    for name, value in statistics.items():
        number, _, rest = name.partition(".")
        inner = rest.replace("0.0.1.", "0.downsample.1.") if int(number) >= 4 else rest
        key = f"{names[int(number)]}.{inner}"
        assert key in state
        state[key] = torch.from_numpy(value)
    np.testing.assert_allclose(ours, compute_naively(state, images), rtol=1e-3, atol=1e-4 * ours.max())


def test_calibration_centres_every_batch_norm(images: np.ndarray) -> None:
    trunk = build_trunk(load_weights("random", Home(Path("unused"))))
    calibrate(trunk, [images], CPU)
    with torch.no_grad():
        normed = trunk[1](trunk[0](normalise(torch.from_numpy(images))))
    np.testing.assert_allclose(normed.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(normed.var((0, 2, 3)), 1, atol=1e-2)


def test_stored_statistics_rebuild_the_same_backbone(images: np.ndarray) -> None:
    weights = load_weights("random", Home(Path("unused")))
    first, second = build_trunk(weights), build_trunk(weights)
    calibrate(first, [images], CPU)
    statistics = read_statistics(first)
    restore_statistics(second, statistics)
    np.testing.assert_array_equal(
        Backbone(first, CPU, "float32").compute(images), Backbone(second, CPU, "float32").compute(images)
    )
    with pytest.raises(WeightsError, match="no fitting batch-norm statistics for '1'"):
        restore_statistics(build_trunk(weights), {})


def test_a_row_does_not_depend_on_its_neighbours(lively: Weights, images: np.ndarray) -> None:
    backbone = Backbone(build_trunk(lively), CPU, "float32")
    whole = backbone.compute(images)
    for row in range(len(images)):
        alone = np.zeros_like(images)
        alone[row] = images[row]
        np.testing.assert_array_equal(backbone.compute(alone)[row], whole[row])
