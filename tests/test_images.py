"""Decoding: the published preprocessing, any image mode, and a reason for every bad file."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.models import get_model_weights

from msdn.extract.backbones import Preparation
from msdn.extract.backbones.network import mean_and_std, normalise
from msdn.extract.backbones.registry import find_backbone
from msdn.extract.errors import BadImageError
from msdn.extract.pipeline.reading import prepare, read_image

EXIF_ORIENTATION = 0x0112


def make_image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 255, (height, width, 3), np.uint8))


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), size=st.sampled_from([32, 64, 224]))
def test_preprocessing_is_the_published_one(width: int, height: int, size: int) -> None:
    image = make_image(width, height)
    published = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    ours = prepare(image, Preparation(size))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(published(image)))


@pytest.mark.parametrize("name", ["swin_t", "efficientnet_b0", "timm:vit_tiny_patch16_224"])
@pytest.mark.parametrize(("width", "height"), [(301, 200), (150, 260), (224, 224)])
def test_each_network_gets_what_its_own_evaluation_gives_it(name: str, width: int, height: int) -> None:
    image, preparation = make_image(width, height), find_backbone(name).preparation
    if name.startswith("timm:"):
        config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name[5:]).to_dict())
        theirs = timm.data.create_transform(**config)(image)
    else:
        theirs = get_model_weights(name).IMAGENET1K_V1.transforms()(image)
    pixels = torch.from_numpy(np.array(prepare(image, preparation)))[None]
    torch.testing.assert_close(
        normalise(pixels, *mean_and_std(preparation, pixels.device))[0], theirs, rtol=1e-5, atol=1e-5
    )


def test_squashing_keeps_no_aspect() -> None:
    image = make_image(90, 40)
    ours = prepare(image, Preparation(32, squash=True, interpolation="bicubic"))
    theirs = transforms.Resize((32, 32), transforms.InterpolationMode.BICUBIC)(image)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_any_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "I", "F", "LA", "I;16") else "a.png")
    image = make_image(40, 30)
    if mode in ("I;16", "I"):
        grey = np.asarray(image.convert("L")).astype(np.uint16 if mode == "I;16" else np.int32) * 257
        Image.fromarray(grey).save(path)
    else:
        image.convert(mode).save(path)
    pixels = read_image(path, Preparation(32))
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8 and pixels.std() > 5


def test_sixteen_bit_grey_does_not_clip_to_white(tmp_path: Path) -> None:
    grey = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(grey).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", Preparation(64))
    np.testing.assert_array_equal(pixels[0, :, 0], grey[0] >> 8)


def test_a_picture_far_too_narrow_is_refused_before_it_takes_gigabytes(tmp_path: Path) -> None:
    make_image(1, 20000).save(tmp_path / "a.png")
    with pytest.raises(BadImageError, match="1x20000 pixels are too long and narrow"):
        read_image(tmp_path / "a.png", Preparation(224))


def test_exif_rotation_is_ignored_as_published(tmp_path: Path) -> None:
    image, exif = make_image(64, 32), Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "plain.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "turned.png", Preparation(32)),
        read_image(tmp_path / "plain.png", Preparation(32)),
    )


def test_every_bad_file_has_its_reason(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    make_image(300, 300).save(whole)
    (tmp_path / "truncated.jpg").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {
        "missing.jpg": "no such file",
        "truncated.jpg": "cannot be decoded: .*truncated",
        "text.jpg": "not an image",
        "empty.jpg": "not an image",
        "folder.jpg": "cannot be decoded: .*directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImageError, match=reason):
            read_image(tmp_path / name, Preparation(32))


@settings(max_examples=60, deadline=None)
@given(where=st.integers(0, 10_000), value=st.binary(min_size=1, max_size=20))
def test_a_damaged_file_is_read_or_refused_never_worse(tmp_path_factory, where: int, value: bytes) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    make_image(50, 50).save(path)
    data = bytearray(path.read_bytes())
    data[where % len(data) : where % len(data) + len(value)] = value
    path.write_bytes(data)
    try:
        assert read_image(path, Preparation(32)).shape == (32, 32, 3)
    except BadImageError as error:
        assert str(error)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_images_are_turned_upright_where_the_preparation_says_so(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    upright, exif = Image.new("RGB", (64, 64)), Image.Exif()
    upright.paste((250, 10, 10), (0, 0, 32, 24))  # in one corner, unlike in width and height
    exif[EXIF_ORIENTATION] = orientation
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's numbers of what undoes each turn
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    stored.save(tmp_path / f"a.{ending}", exif=exif, quality=95)
    pixels = read_image(tmp_path / f"a.{ending}", Preparation(64, upright=True))
    np.testing.assert_allclose(pixels, np.asarray(upright), atol=90)


@pytest.mark.filterwarnings("ignore::UserWarning")  # as during an extraction
def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    image = make_image(64, 32)
    image.save(tmp_path / "odd.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01")
    image.save(tmp_path / "plain.jpg")
    np.testing.assert_array_equal(
        read_image(tmp_path / "odd.jpg", Preparation(32, upright=True)),
        read_image(tmp_path / "plain.jpg", Preparation(32)),
    )


def test_the_recipe_says_whether_images_are_turned() -> None:
    assert "no EXIF rotation" in Preparation().text
    assert "turned upright by EXIF" in Preparation(upright=True).text
