"""The whole of stage one on a toy dataset: right features, and bad images never pass for good ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms
from toy_cache import make_annotations
from toy_dataset import TOY
from toy_extraction import CACHE, SETTINGS, StoppedError, interrupt_after, make_home, notes_of

from msdn.cache import FeatureCache
from msdn.cache.home import Home
from msdn.extract.backbones import Backbone, Preparation
from msdn.extract.backbones.entry import GLOBAL, MapChoice, Plan
from msdn.extract.backbones.frozen import Computed, FrozenNetwork
from msdn.extract.backbones.network import restore_statistics
from msdn.extract.backbones.registry import find_backbone
from msdn.extract.backbones.weights import load_network
from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError, ExtractError
from msdn.extract.pipeline import extraction, writing
from msdn.extract.pipeline.extraction import describe_annotations, extract
from msdn.extract.pipeline.reading import read_image


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return make_home(tmp_path, monkeypatch)


def test_features_are_those_of_a_naive_loop(home: Home) -> None:
    done = extract(SETTINGS, home)
    assert done.path == home.features / CACHE and done.weights_kind == "random"
    with FeatureCache(done.path) as cache:
        entry = find_backbone("resnet101")
        network, _ = load_network(entry, "random", 224, Home(Path("unused")))
        restore_statistics(network, cache.backbone_state)
        trunk = torch.nn.Sequential(*list(network.children())[:-2])
        usual = entry.preparation
        prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(usual.mean, usual.std)])
        for row in (0, 13, 29):
            image = read_image(home.data / TOY.images / cache.annotations.image_paths[row], usual)
            with torch.no_grad():
                expected = trunk(prepare(image.copy())[None])[0].permute(1, 2, 0).reshape(49, 2048)
            np.testing.assert_allclose(cache.read_rows([row])[0], expected, rtol=2e-3, atol=2e-3)
        assert cache.annotations.attribute_names[0] == "part 0 color: red"
        assert cache.provenance["weights"]["seed"] == 0


@pytest.mark.parametrize("image_size, dtype", [(448, "float16"), (224, "float32")])
def test_other_sizes_and_types(home: Home, image_size: int, dtype: str) -> None:
    done = extract(replace(SETTINGS, image_size=image_size, dtype=dtype), home)
    with FeatureCache(done.path) as cache:
        assert cache.shape == (30, image_size // 32, image_size // 32, 2048) and cache.dtype == dtype
    assert str(image_size) in done.path.name


def break_images(home: Home) -> dict[Path, bytes]:
    """Spoil three images, each in another way; return what they held."""
    paths = [home.data / "TOY/images" / name for name in ("class_0/2.jpg", "class_1/7.jpg", "class_5/29.jpg")]
    before = {path: path.read_bytes() for path in paths}
    paths[0].write_bytes(b"")
    paths[1].write_text("not an image")
    paths[2].write_bytes(before[paths[2]][:900])
    return before


def test_bad_images_stop_after_all_others_are_done_and_are_listed(home: Home) -> None:
    before = break_images(home)
    listed = r"(?s)3 images cannot be used:.*2.jpg: .*7.jpg: not an image.*29.jpg"
    with pytest.raises(ExtractError, match=listed):
        extract(replace(SETTINGS, out=home.root / "a.h5"), home)
    assert not (home.root / "a.h5").exists()
    for path, content in before.items():
        path.write_bytes(content)
    done = extract(replace(SETTINGS, out=home.root / "a.h5"), home)
    assert done.progress.computed == 3
    with FeatureCache(done.path) as cache:
        assert not len(cache.masked_rows)


def test_mended_images_fit_in_bit_by_bit(home: Home) -> None:
    """With calibration out of the way (a file's weights), mending leaves no trace."""
    torch.save(torchvision.models.resnet101(zero_init_residual=True).state_dict(), home.root / "w.pth")
    settings = replace(SETTINGS, weights=str(home.root / "w.pth"))
    whole = extract(replace(settings, out=home.root / "whole.h5"), home).path
    before = break_images(home)
    with pytest.raises(ExtractError, match="3 images cannot be used"):
        extract(replace(settings, out=home.root / "a.h5"), home)
    for path, content in before.items():
        path.write_bytes(content)
    assert extract(replace(settings, out=home.root / "a.h5"), home).path.read_bytes() == whole.read_bytes()


def test_palettes_with_transparency_warn_nobody(home: Home) -> None:
    palette = Image.effect_noise((64, 64), 90).convert("P")
    palette.save(home.data / "TOY/images/class_0/2.jpg", "PNG", transparency=bytes(range(256)))
    assert extract(SETTINGS, home).progress.computed == 30


def test_bad_images_can_be_masked(home: Home) -> None:
    break_images(home)
    (home.data / "TOY/images/class_0/2.jpg").unlink()
    done = extract(replace(SETTINGS, bad_images="mask"), home)
    assert [Path(path).name for path in done.masked] == ["2.jpg", "7.jpg", "29.jpg"]
    with FeatureCache(done.path) as cache:
        assert cache.masked_rows.tolist() == [2, 7, 29]
        assert cache.mask_reasons[2] == "no such file"
        assert 29 not in cache.rows("test_unseen") and 2 not in cache.rows("trainval")


class Enlarging(nn.Module):
    """Gives the images' pixels, between 0 and 1 for this entry, times what it holds for each of them."""

    def __init__(self, factors: list[float]) -> None:
        super().__init__()
        self.factors = torch.tensor(factors)
        self.last = nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.last(pixels * self.factors[: len(pixels), None, None, None])


ENLARGING = Backbone(build=Enlarging, layer="last", preparation=Preparation(2, mean=(0,) * 3, std=(1,) * 3))


@pytest.mark.parametrize("value", [70000.0, -70000.0, np.nan, np.inf, 65510.0])
def test_a_value_too_large_for_float16_names_image_and_remedy(value: float) -> None:
    white, paths = np.full((4, 2, 2, 3), 255, np.uint8), [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]
    plan = Plan(ENLARGING, ENLARGING.preparation, (MapChoice(), GLOBAL))
    network = FrozenNetwork(
        Enlarging([1.0, 2.0, value, 3.0]), plan, torch.device("cpu"), "float32", "float16"
    )
    computed = network.compute(white)
    assert computed.maps["regions"].dtype == np.float16 and computed.maps["regions"][3, 0, 0, 0] == 3
    with pytest.raises(ExtractError, match=r"b.jpg: its features hold .* '--dtype float32 --restart'"):
        writing.require_fitting(computed, {0: 0, 2: 1, 3: 2}, paths)
    writing.require_fitting(computed, {0: 0, 1: 1, 3: 2}, paths)
    only_there = Computed(computed.maps, {**computed.peaks, "regions": np.zeros(4)})
    assert "in map 'global'" in writing.misfit(only_there, 2)


def test_float32_holds_more_but_not_everything() -> None:
    white, plan = np.full((1, 2, 2, 3), 255, np.uint8), Plan(ENLARGING, ENLARGING.preparation)
    for value, fits in ((70000.0, True), (np.inf, False), (np.nan, False)):
        network = FrozenNetwork(Enlarging([value]), plan, torch.device("cpu"), "float32", "float32")
        computed = network.compute(white)
        assert (writing.misfit(computed, 0) == "") == fits
        assert not fits or computed.maps["regions"][0, 0, 0, 0] == 70000


def test_missing_images_are_counted_before_anything_is_computed(home: Home) -> None:
    for path in sorted((home.data / "TOY/images").rglob("*.jpg"))[:12]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"(?s)12 of 30 images are missing:(\n  [^\n]+){10}\n  and 2 more"):
        extract(SETTINGS, home)
    assert not list(home.features.glob("*.partial"))


def test_missing_parts_of_a_dataset_are_named(home: Home) -> None:
    splits = home.data / "xlsa17/data/TOY/att_splits.mat"
    splits.write_bytes(b"x" * 500)
    with pytest.raises(DatasetError, match=r"att_splits.mat: cannot be read as a MATLAB 5 file"):
        extract(SETTINGS, home)
    splits.unlink()
    with pytest.raises(
        DatasetError, match=r"att_splits.mat: no such file; it belongs to the Proposed Splits"
    ):
        extract(SETTINGS, home)
    (home.data / "TOY/images").rename(home.data / "TOY/other")
    with pytest.raises(DatasetError, match=r"dataset 'toy' is not in .*TOY/images is missing; put it there"):
        extract(SETTINGS, home)
    assert not list(home.features.glob("*")) if home.features.exists() else True


def test_no_readable_training_image_at_all(home: Home) -> None:
    for path in (home.data / "TOY/images").rglob("*.jpg"):
        path.write_text("x")
    with pytest.raises(ExtractError, match="fewer than two of 16 training images can be read, first: "):
        extract(SETTINGS, home)


@pytest.mark.parametrize(("created", "told"), [("2017-03-14", True), ("undated", False)])
def test_the_lists_date_is_told_where_there_is_one(created: str, told: bool, tmp_path: Path) -> None:
    dataset = Dataset(make_annotations(), tmp_path, {"lists": {"att_splits.mat": created}})
    line = describe_annotations(dataset)
    assert line.startswith("toy: 30 images of 4 seen and 2 unseen classes")
    assert line.endswith(", by the splits of 2017-03-14") is told
    assert ("splits" in line) is told


def test_several_maps_come_from_one_pass(home: Home) -> None:
    also = ("global", "early=layer3,pool=2x2")
    settings = replace(SETTINGS, backbone="resnet18", image_size=64, dtype="float32")
    done = extract(replace(settings, also=also), home)
    assert done.path.name == "toy-64-resnet18+early@layer3_2x2+global_random.h5"
    alone = extract(settings, home).path
    assert alone.name == "toy-64-resnet18_random.h5"
    early = extract(replace(settings, layer="layer3"), home).path
    with FeatureCache(done.path) as cache, FeatureCache(alone) as main, FeatureCache(early) as layer3:
        rows = np.arange(30)
        regions = cache.read_rows(rows)
        np.testing.assert_array_equal(regions, main.read_rows(rows))
        np.testing.assert_allclose(
            cache.read_rows(rows, map="global")[:, 0], regions.mean(axis=1), rtol=1e-5, atol=1e-6
        )
        pooled = layer3.read_rows(rows).reshape(30, 2, 2, 2, 2, 256).mean(axis=(2, 4))
        np.testing.assert_allclose(
            cache.read_rows(rows, map="early"), pooled.reshape(30, 4, 256), rtol=1e-4, atol=1e-5
        )
        assert [spec.signed for spec in cache.maps.values()] == [False, False, False]
        assert cache.provenance["maps"]["early"] == {"layer": "layer3", "pool": "2x2"}
        assert cache.provenance["backbone"]["name"] == "resnet18"


def test_flags_are_set_before_anything_computes_and_come_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn, seen = torch.backends.cudnn, []
    before = torch.get_num_threads(), cudnn.deterministic, cudnn.allow_tf32

    def see(*arguments: object) -> dict:
        seen.append((torch.get_num_threads(), cudnn.deterministic, cudnn.allow_tf32))
        return calibrate(*arguments)

    calibrate = extraction.calibrate
    monkeypatch.setattr(extraction, "calibrate", see)
    done = extract(replace(SETTINGS, backbone="resnet18", image_size=32, threads=before[0] + 1), home)
    assert seen == [(before[0] + 1, True, False)]
    assert before == (torch.get_num_threads(), cudnn.deterministic, cudnn.allow_tf32)
    with FeatureCache(done.path) as cache:
        assert cache.provenance["device"]["threads"] == before[0] + 1


def test_a_resume_takes_the_caches_threads_and_gives_the_callers_back(home: Home) -> None:
    settings = replace(SETTINGS, backbone="resnet18", image_size=32)
    before = torch.get_num_threads()
    with pytest.raises(StoppedError):
        extract(replace(settings, threads=before + 1), home, interrupt_after(1))
    assert extract(settings, home).progress.computed < 30
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_memory_that_runs_out_names_what_can_be_followed(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    settings = replace(SETTINGS, backbone="resnet18", image_size=32)
    with monkeypatch.context() as patched:
        patched.setattr(writing.RowWriter, "put", fail)
        with pytest.raises(ExtractError, match=r"out of memory with 4 .*'--restart --batch-size 2'"):
            extract(settings, home)
    assert extract(replace(settings, restart=True, batch_size=2), home).progress.computed == 30


def test_random_weights_of_no_use_are_said_to_be(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "dull.py"
    file.write_text(DULL)
    _, notes = notes_of(replace(SETTINGS, backbone=str(file), image_size=32), home)
    assert "random weights do not work with dull" in notes
    _, notes = notes_of(replace(SETTINGS, backbone="resnet18", image_size=32), home)
    assert "of no use" not in notes


DULL = """
import torch
from msdn.extract.backbones import Backbone

class Dull(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Conv2d(3, 4, 16, 16)
        self.map.weight.data *= 1e-6
        self.map.bias.data = torch.arange(4.0)

    def forward(self, pixels):
        return self.map(pixels)

BACKBONE = Backbone(build=Dull, layer="map")
"""
