"""No cliff: one image a step, more than there are, one seen class, five thousand classes."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_cache import make_annotations
from toy_runs import read_records

from msdn.cache import FeatureCache
from msdn.cache.annotations import Annotations
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run
from msdn.train.models.parts.problem import AttributeGroup
from msdn.train.models.registry import find_model, model_names, settings_of

GROUPS = AttributeGroups("test", (AttributeGroup("a", np.arange(3)), AttributeGroup("b", np.arange(3, 7))))


@pytest.mark.parametrize(
    ("model", "precision"),
    [(name, "float32") for name in model_names()]
    + [(name, "bfloat16") for name in model_names() if find_model(name).narrows],
)
@pytest.mark.parametrize("batch", [1, 10_000])
def test_any_batch_trains(
    make_cache: Callable[..., Path], tmp_path: Path, model: str, precision: str, batch: int
) -> None:
    settings = settings_of(model, epochs=2, batch_size=batch)
    with FeatureCache(make_cache(n_classes=4, per_class=3)) as cache:
        groups = GROUPS if model == "dedn" else None
        run = train_model(cache, settings, tmp_path / "runs", precision=precision, groups=groups)
        assert all(math.isfinite(record["loss"]) for record in read_records(run))
        assert evaluate_run(run, cache)["precision"] == precision


@pytest.mark.parametrize("model", ["msdn", "dazle", "baseline"])
@pytest.mark.parametrize("seen", [1, 4000])
def test_any_number_of_classes_trains(
    make_cache: Callable[..., Path], tmp_path: Path, model: str, seen: int
) -> None:
    classes = 2 if seen == 1 else 5000
    annotations = make_annotations(n_classes=classes, per_class=2)
    unseen = annotations.labels >= seen
    rows = np.arange(len(annotations.labels))
    first = rows % 2 == 0
    splits = {
        "trainval": rows[~unseen & first],
        "train": rows[~unseen & first],
        "val": rows[:0],
        "test_seen": rows[~unseen & ~first],
        "test_unseen": rows[unseen],
    }
    annotations = Annotations(**{**vars(annotations), "splits": splits})
    with FeatureCache(make_cache(annotations=annotations, grid=1, channels=4)) as cache:
        run = train_model(cache, settings_of(model, epochs=1), tmp_path / "runs")
        figures = evaluate_run(run, cache)
        assert math.isfinite(read_records(run)[-1]["loss"])
        assert len(cache.annotations.seen_classes) == seen and 0 <= figures["H"] <= 100
