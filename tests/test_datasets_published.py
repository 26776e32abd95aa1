"""What is particular to each published dataset: where things lie, odd values, FLO's embeddings without names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from toy_cache import make_annotations
from toy_dataset import write_toy_annotations

from msdn.extract.datasets.known.awa2 import AWA2
from msdn.extract.datasets.known.cub import CUB
from msdn.extract.datasets.known.flo import FLO
from msdn.extract.datasets.known.sun import SUN
from msdn.extract.datasets.proposed_splits import cut_image_root, read_dataset
from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.errors import DatasetError


def write_lists(data: Path, spec: DatasetSpec, annotations) -> DatasetSpec:
    """Write small lists where `spec` expects them, and return the spec without the real counts."""
    write_toy_annotations(data, annotations)
    (data / spec.annotations).parent.mkdir(parents=True, exist_ok=True)
    (data / "xlsa17/data/TOY").rename(data / spec.annotations)
    return replace(spec, counts={})


def change(path: Path, **changes: object) -> None:
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    scipy.io.savemat(path, {k: v for k, v in (content | changes).items() if v is not None})


@pytest.mark.parametrize("spec", [CUB, SUN, AWA2, FLO], ids=lambda spec: spec.name)
def test_the_known_counts_guard_every_published_dataset(tmp_path: Path, spec: DatasetSpec) -> None:
    write_lists(tmp_path, spec, make_annotations())
    expected = f"holds 16 trainval, .* but '{spec.name}' has {spec.counts['trainval']} trainval"
    with pytest.raises(DatasetError, match=rf"att_splits.mat \(file of .*\): {expected}"):
        read_dataset(spec, tmp_path)


def test_missing_attribute_values_of_awa2_stay_negative(tmp_path: Path) -> None:
    annotations = make_annotations()
    annotations.attributes[2, 3] = annotations.attributes[4, 0] = -1
    got = read_dataset(write_lists(tmp_path, AWA2, annotations), tmp_path).annotations
    assert np.argwhere(got.attributes == -1).tolist() == [[2, 3], [4, 0]]


def test_flo_has_unnamed_attributes_and_images_in_one_folder(tmp_path: Path) -> None:
    annotations = replace(
        make_annotations(), image_paths=tuple(f"image_{row:05}.jpg" for row in range(30)), attribute_names=()
    )
    spec = write_lists(tmp_path, FLO, annotations)
    att = np.random.RandomState(0).standard_normal((1024, 6))
    change(tmp_path / FLO.annotations / "att_splits.mat", original_att=None, att=att, allclasses_names=None)
    got = read_dataset(spec, tmp_path)
    assert got.annotations.attribute_names == () and got.annotations.attribute_vectors is None
    np.testing.assert_array_equal(got.annotations.attributes, att.T)
    assert got.image_path(3) == tmp_path / "FLO/jpg/image_00003.jpg"
    assert got.annotations.class_names == tuple(f"class {number}" for number in range(1, 7))
    assert cut_image_root("/BS/data/Flowers/anything/image_00003.jpg", flat=True) == "image_00003.jpg"


def test_images_in_no_split_are_refused(tmp_path: Path) -> None:
    spec = write_lists(tmp_path, CUB, make_annotations())
    file = tmp_path / CUB.annotations / "att_splits.mat"
    rows = scipy.io.loadmat(file)["test_seen_loc"]
    change(file, test_seen_loc=rows[:-1])
    with pytest.raises(DatasetError, match="1 of 30 images are in no split"):
        read_dataset(spec, tmp_path)


def test_which_copy_of_the_lists_was_read_is_told(tmp_path: Path) -> None:
    lists = read_dataset(write_lists(tmp_path, SUN, make_annotations()), tmp_path).sources["lists"]
    assert set(lists) == {"res101.mat", "att_splits.mat", "res101.mat sha256", "att_splits.mat sha256"}
    assert "20" in lists["att_splits.mat"] and len(lists["att_splits.mat sha256"]) == 64
