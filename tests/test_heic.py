"""HEIC images take an extra: one sentence names it where it is missing, and one place registers it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from own_data import write_folder
from PIL import Image

from msdn.extract.backbones.entry import Preparation
from msdn.extract.errors import BadImageError, DatasetError
from msdn.extract.own.folder import find_mistakes
from msdn.extract.pipeline.reading import read_image, require_readers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two of robin's images are called HEIC."""
    folder = write_folder(tmp_path / "birds")
    for number in (1, 2):
        path = folder / f"images/robin/{number}.png"
        path.rename(path.with_suffix(".HEIC"))
    return folder


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.init()
    monkeypatch.setattr(Image, "EXTENSION", {k: v for k, v in Image.EXTENSION.items() if "hei" not in k})
    yield


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_one_sentence_names_it(folder: Path) -> None:
    (mistake,) = find_mistakes(folder)
    for said in ("2 images are HEIC", "1.HEIC", "pip install -e '.[heic]'"):
        assert said in mistake.message
    paths = sorted((folder / "images/robin").iterdir())
    with pytest.raises(DatasetError, match=r"2 images are HEIC.*'\.\[heic\]'"):
        require_readers(paths)
    with pytest.raises(BadImageError, match=r"^is a HEIC image.*'\.\[heic\]'"):
        read_image(paths[0], Preparation(32))


@pytest.mark.usefixtures("without_extra")
def test_the_extra_is_registered_where_an_image_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register() -> None:
        Image.EXTENSION[".heic"] = "PNG"  # what the file of the fixture is

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    assert find_mistakes(folder) == []
    assert read_image(folder / "images/robin/1.HEIC", Preparation(32)).shape == (32, 32, 3)


def test_a_real_heic_image_is_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra 'heic' is not installed")
    heif.register_heif_opener()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "a.heic")
    pixels = read_image(tmp_path / "a.heic", Preparation(32, upright=True))
    np.testing.assert_allclose(pixels[16, 16], (200, 30, 30), atol=8)
