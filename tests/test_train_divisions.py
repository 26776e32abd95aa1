"""What the stages of training see: which rows and classes, above all that no test image is among them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_runs import VAL_CLASSES, rows_of_test, split_annotations, write_split_cache

from msdn.cache import FeatureCache
from msdn.cache.annotations import Annotations
from msdn.train.errors import TrainError
from msdn.train.loop.batches import Division, validation_division
from msdn.train.loop.batches import test_division as division_of_test
from msdn.train.loop.training import train_model
from msdn.train.models.parts.base import build_model
from msdn.train.models.parts.problem import AttributeGroup
from msdn.train.models.registry import settings_of

Open = Callable[..., FeatureCache]


@pytest.fixture
def open_cache(tmp_path: Path) -> Open:
    """Return a function that writes a cache of annotations and opens it."""

    def make(annotations: Annotations | None = None, masked: list[int] | None = None) -> FeatureCache:
        reasons = dict.fromkeys(masked or [], "truncated")
        return FeatureCache(write_split_cache(tmp_path / "toy.h5", annotations, reasons))

    return make


def with_val_classes(annotations: Annotations, val: list[int]) -> Annotations:
    """The same images, with other training classes to validate."""
    trainval = annotations.splits["trainval"]
    is_val = np.isin(annotations.labels[trainval], val)
    splits = annotations.splits | {"train": trainval[~is_val], "val": trainval[is_val]}
    return dataclasses.replace(annotations, splits=splits)


def naive_stage(cache: FeatureCache) -> dict[str, list[int]]:
    """Every image in turn: is it trained on, held out, of a validation class, or nothing to this stage?"""
    annotations, masked = cache.annotations, set(cache.masked_rows.tolist())
    train, val = (set(annotations.splits[name].tolist()) - masked for name in ("train", "val"))
    label_of = annotations.labels.tolist()
    seen = sorted({label_of[row] for row in train})
    unseen = sorted({label_of[row] for row in val} - set(seen))
    classes = sorted(seen + unseen)
    stage: dict[str, list[int]] = {"rows": [], "seen_rows": [], "unseen_rows": [], "labels": []}
    met = dict.fromkeys(classes, 0)
    for row, label in enumerate(label_of):
        stage["labels"].append(classes.index(label) if label in classes else -1)
        if row in train:
            stage["seen_rows" if met[label] % 5 == 1 else "rows"].append(row)
            met[label] += 1
        elif row in val and label in unseen:
            stage["unseen_rows"].append(row)
    return stage | {
        "classes": classes,
        "seen": [classes.index(c) for c in seen],
        "unseen": [classes.index(c) for c in unseen],
    }


def measured_rows(stage: Division) -> np.ndarray:
    """All rows that a stage names."""
    return np.concatenate([stage.rows, stage.seen_rows, stage.unseen_rows])


@pytest.mark.parametrize(
    ("per_class", "val", "masked"),
    [
        (7, [0, 1, 2], []),
        (7, [6, 1, 4], []),  # numbers of classes are no longer in order
        (14, [0, 7], []),
        (3, [0], []),
        (7, [0, 1, 2], [1, 2, 22, 23, 24, 25, 50, 83]),
        (7, [0, 1, 2], list(range(1, 7))),  # all training images of a validation class
        (7, [0, 1, 2], list(range(22, 28))),  # and of a train class
    ],
)
def test_the_validation_stage_follows_a_naive_loop(
    open_cache: Open, per_class: int, val: list[int], masked: list[int]
) -> None:
    with open_cache(with_val_classes(split_annotations(per_class=per_class), val), masked) as cache:
        stage, naive = validation_division(cache), naive_stage(cache)
        for name in ("rows", "seen_rows", "unseen_rows", "labels"):
            assert getattr(stage, name).tolist() == naive[name], name
        assert stage.problem.seen.tolist() == naive["seen"]
        assert stage.problem.unseen.tolist() == naive["unseen"]
        assert np.array_equal(stage.problem.attributes, cache.annotations.attributes[naive["classes"]])
        assert not np.isin(measured_rows(stage), masked).any()


def test_no_test_image_is_in_the_validation_stage_and_no_test_class_competes(open_cache: Open) -> None:
    with open_cache() as cache:
        annotations, stage = cache.annotations, validation_division(cache)
        assert np.array_equal(np.sort(measured_rows(stage)), annotations.splits["trainval"])
        assert not np.isin(measured_rows(stage), rows_of_test(annotations)).any()
        assert (stage.labels[annotations.splits["test_unseen"]] == -1).all()
        assert len(stage.problem.attributes) == len(annotations.seen_classes)
        model = build_model(stage.problem, settings_of("baseline"))
        assert len(model.classes.attributes) == len(annotations.seen_classes) < len(annotations.class_names)


def test_validation_classes_are_not_trained_on(open_cache: Open) -> None:
    with open_cache() as cache:
        stage = validation_division(cache)
        assert set(stage.labels[stage.rows]) == set(stage.labels[stage.seen_rows]) == set(stage.problem.seen)
        assert set(stage.labels[stage.unseen_rows]) == set(stage.problem.unseen) == set(range(VAL_CLASSES))
        assert not set(stage.problem.seen) & set(stage.problem.unseen)


@pytest.mark.parametrize(("images", "held_out"), [(2, 1), (5, 1), (6, 1), (7, 2), (11, 2), (12, 3)])
def test_one_image_in_five_is_held_out_of_each_train_class(
    open_cache: Open, images: int, held_out: int
) -> None:
    with open_cache(split_annotations(per_class=images + 1)) as cache:  # one more of each class is tested
        stage = validation_division(cache)
        assert not np.isin(stage.seen_rows, stage.rows).any()
        for rows, expected in ((stage.seen_rows, held_out), (stage.rows, images - held_out)):
            assert np.bincount(stage.labels[rows])[stage.problem.seen].tolist() == [expected] * 5


def test_a_class_of_one_image_is_trained_on_and_not_held_out(open_cache: Open) -> None:
    with open_cache(masked=[23, 24, 25, 26, 27]) as cache:  # of class 3, image 22 is left
        stage = validation_division(cache)
        assert 22 in stage.rows and stage.labels[22] not in stage.labels[stage.seen_rows]


def test_the_last_stage_is_the_datasets_own_split(open_cache: Open) -> None:
    with open_cache(masked=[1, 22, 0, 83]) as cache:
        stage, annotations = division_of_test(cache), cache.annotations
        for rows, split in (("rows", "trainval"), ("seen_rows", "test_seen"), ("unseen_rows", "test_unseen")):
            expected = [row for row in annotations.splits[split].tolist() if row not in (1, 22, 0, 83)]
            assert getattr(stage, rows).tolist() == expected
        assert np.array_equal(stage.labels, annotations.labels)
        assert np.array_equal(stage.problem.seen, annotations.seen_classes)
        assert np.array_equal(stage.problem.unseen, annotations.unseen_classes)


def test_both_stages_have_the_same_attribute_groups_and_vectors(open_cache: Open) -> None:
    groups = (AttributeGroup("wing", np.arange(3)), AttributeGroup("beak", np.arange(3, 7)))
    with open_cache() as cache:
        for stage in (validation_division(cache, groups), division_of_test(cache, groups)):
            assert stage.problem.groups == groups
            assert np.array_equal(stage.problem.attribute_vectors, cache.annotations.attribute_vectors)
            assert (stage.problem.regions, stage.problem.channels) == (4, 16)


def without_val(annotations: Annotations) -> Annotations:
    return with_val_classes(annotations, [])


def val_of_train_classes(annotations: Annotations) -> Annotations:
    """A 'val' split of other images of the train classes."""
    trainval = annotations.splits["trainval"]
    splits = annotations.splits | {"train": trainval[::2], "val": trainval[1::2]}
    return dataclasses.replace(annotations, splits=splits)


def without_train(annotations: Annotations) -> Annotations:
    return with_val_classes(annotations, list(range(8)))


_NO_CLASSES = "no validation classes: its 'val' split has no class that is not in 'train' too"
_NO_IMAGES = "no validation images: no training class has two images"


@pytest.mark.parametrize(
    ("change", "per_class", "message"),
    [
        (without_val, 7, _NO_CLASSES),
        (val_of_train_classes, 7, _NO_CLASSES),
        (without_train, 7, _NO_IMAGES),
        (lambda annotations: annotations, 2, _NO_IMAGES),  # one of two is a test image
    ],
)
def test_a_cache_that_cannot_validate_is_refused_before_there_is_a_run(
    open_cache: Open,
    tmp_path: Path,
    change: Callable[[Annotations], Annotations],
    per_class: int,
    message: str,
) -> None:
    with open_cache(change(split_annotations(per_class=per_class))) as cache:
        with pytest.raises(
            TrainError, match=rf"toy\.h5: {message}; use --select last, or annotate the cache"
        ):
            train_model(cache, settings_of("baseline", select="val"), tmp_path / "runs")
        assert not (tmp_path / "runs").exists()
        assert train_model(cache, settings_of("baseline", epochs=1), tmp_path / "runs").finished


def test_masked_validation_images_leave_nothing_to_validate_on(open_cache: Open) -> None:
    masked = split_annotations().splits["val"].tolist()
    with open_cache(masked=masked) as cache, pytest.raises(TrainError, match=_NO_CLASSES):
        validation_division(cache)
