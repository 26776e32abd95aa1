"""Runs compared bit by bit, and a small dataset on which the choice of an epoch matters."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toy_cache import make_annotations, write_cache

from msdn.cache.annotations import Annotations
from msdn.train.loop.checkpoints import load_checkpoint
from msdn.train.loop.settings import RunSettings
from msdn.train.models.registry import find_model
from msdn.train.runs.run import Run

VAL_CLASSES = 3


def split_annotations(**shape: int) -> Annotations:
    """Twelve classes: three to validate, five to train, four unseen; one image of each seen one is tested."""
    annotations = make_annotations(**{"n_classes": 12, "per_class": 7, "seed": 1, **shape})
    trainval = annotations.splits["trainval"]
    is_val = annotations.labels[trainval] < VAL_CLASSES
    splits = annotations.splits | {"train": trainval[~is_val], "val": trainval[is_val]}
    return dataclasses.replace(annotations, splits=splits)


def write_split_cache(
    path: Path,
    annotations: Annotations | None = None,
    masked: dict[int, str] | None = None,
    test_features: float | None = None,
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Features that attributes explain in part; `test_features` takes the place of all those of test images."""
    annotations = annotations or split_annotations()
    rng = np.random.RandomState(1)
    shape = (2, 2, 16)
    map_ = rng.standard_normal((annotations.attributes.shape[1], int(np.prod(shape)))) / 100
    features = (annotations.attributes @ map_)[annotations.labels].reshape(-1, *shape)
    features += 0.5 * rng.standard_normal(features.shape)
    if test_features is not None:
        features[rows_of_test(annotations)] = test_features
    return write_cache(path, annotations, features.astype(np.float16), masked, provenance)


def rows_of_test(annotations: Annotations) -> np.ndarray:
    """All test images."""
    return np.concatenate([annotations.splits["test_seen"], annotations.splits["test_unseen"]])


def final_state(run: Run) -> dict[str, Any]:
    """What a checkpoint continues from, in comparable form."""
    trainer = load_checkpoint(run.checkpoint)["trainer"]
    optimizer = trainer["optimizer"]["state"] if "optimizer" in trainer else {}  # none of what is solved
    tensors = {f"{n}.{name}": value for n, state in optimizer.items() for name, value in state.items()}
    return {**trainer["model"], **tensors, "rng": trainer["torch_rng"], "sampler": trainer.get("sampler")}


def kept_weights(run: Run) -> dict[str, Any]:
    """The weights that were kept as the best of each task."""
    kept = load_checkpoint(run.checkpoint)["kept"]
    return {f"{task} {name}": value for task, best in kept.items() for name, value in best["weights"].items()}


def read_records(run: Run) -> list[dict[str, Any]]:
    """Each epoch's record, but for the time that it took."""
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def assert_same_bits(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The same names with the same values."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, name


def assert_same_run(first: Run, second: Run) -> None:
    """The same weights to the bit, the same records, and the same choice."""
    assert_same_bits(final_state(first), final_state(second))
    assert_same_bits(kept_weights(first), kept_weights(second))
    assert read_records(first) == read_records(second)
    assert first.chosen == second.chosen
    assert first.finished and second.finished


def changed(settings: RunSettings, **changes: Any) -> Any:
    """The settings with changes, of another model too, which keeps those that it has."""
    model = find_model(changes.get("model", settings.model))
    return model.default(**{**model.select(dataclasses.asdict(settings)), **changes})
