"""What a run keeps so that it predicts without its cache, on any machine: its classes, and how features are made.

It holds arrays and plain JSON only; reading it runs nothing.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from msdn.cache import FeatureCache
from msdn.cache.provenance import check_provenance
from msdn.cache.records import Kind, find_misfit, is_flag, is_table, is_text, one_of, parse_json, whole
from msdn.cache.zips import check_unpacked
from msdn.train.errors import RunError
from msdn.train.models.parts.problem import AttributeGroup, Problem, problem_of
from msdn.train.runs.run import Run

FILE = "basis.npz"
_FACTS = "facts"
_STATISTICS = "backbone/"
_KINDS: dict[str, Kind] = {
    "class_names": [is_text],
    "attribute_names": [is_text],
    "map": is_text,
    "grid": [whole(1)],
    "channels": whole(1),
    "signed?": is_flag,
    "dtype": one_of(("float16", "float32")),
    "recipe": is_table,
}


@dataclass(frozen=True)
class Basis:
    """The classes that a run knows, and the features that it was trained on.

    Attributes:
        class_names: C names.
        attribute_names: K names, or none.
        problem: what its model is built for, with all classes.
        map: the map of the features.
        dtype: the type that features are rounded to.
        recipe: how they were made, as the cache says it.
        statistics: batch-norm statistics of a backbone of random weights.
    """

    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    problem: Problem
    map: str
    dtype: np.dtype
    recipe: Mapping[str, Any]
    statistics: Mapping[str, np.ndarray]


def basis_of(cache: FeatureCache, groups: tuple[AttributeGroup, ...] = ()) -> Basis:
    """What a model trained on a cache's chosen map predicts by: classes without images too, which no training sees."""
    known = cache.annotations
    problem = replace(
        problem_of(cache, groups),
        attributes=known.attributes,
        seen=known.seen_classes,
        unseen=np.setdiff1d(np.arange(len(known.class_names)), known.seen_classes),
    )
    return Basis(
        class_names=known.class_names,
        attribute_names=known.attribute_names,
        problem=problem,
        map=cache.map.name,
        dtype=np.dtype(cache.dtype),
        recipe=cache.provenance,
        statistics=cache.backbone_state,
    )


def pack_basis(basis: Basis) -> bytes:
    """The content of a run's file."""
    problem = basis.problem
    facts = {
        "class_names": basis.class_names,
        "attribute_names": basis.attribute_names,
        "map": basis.map,
        "grid": problem.grid,
        "channels": problem.channels,
        "signed": problem.signed,
        "dtype": basis.dtype.name,
        "recipe": basis.recipe,
    }
    arrays: dict[str, Any] = {
        _FACTS: np.frombuffer(json.dumps(facts).encode(), np.uint8),
        "attributes": problem.attributes,
        "seen": problem.seen,
        "unseen": problem.unseen,
    }
    if problem.attribute_vectors is not None:
        arrays["attribute_vectors"] = problem.attribute_vectors
    arrays |= {_STATISTICS + name: array for name, array in basis.statistics.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def load_basis(run: Run) -> Basis:
    """Read what a run keeps; raises a `RunError` where that is missing, or not what the run wrote."""
    path = run.path / FILE
    if not path.is_file():
        raise RunError(f"{path}: there is no such file, and predictions need it; train the model again")
    content = path.read_bytes()
    damaged = RunError(
        f"{path}: damaged, not what the run wrote; copy the run again, or train the model again"
    )
    if sha256(content).hexdigest() != run.manifest.get("basis"):
        raise damaged
    try:
        check_unpacked(io.BytesIO(content))
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = parse_json(arrays.pop(_FACTS).tobytes().decode())
        if find_misfit(facts, _KINDS):
            raise damaged
        check_provenance(facts["recipe"])
        height, width = facts["grid"]
        problem = Problem(
            attributes=arrays["attributes"],
            attribute_vectors=arrays.get("attribute_vectors"),
            seen=arrays["seen"],
            unseen=arrays["unseen"],
            regions=height * width,
            channels=facts["channels"],
            grid=(height, width),
            signed=facts["signed"],
        )
    except (
        ValueError,
        KeyError,
        OSError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
        AttributeError,
    ) as error:
        raise damaged from error
    return Basis(
        class_names=tuple(facts["class_names"]),
        attribute_names=tuple(facts["attribute_names"]),
        problem=replace(problem, groups=run.groups(problem.attributes.shape[1])),
        map=facts["map"],
        dtype=np.dtype(facts["dtype"]),
        recipe=facts["recipe"],
        statistics={
            name.removeprefix(_STATISTICS): array
            for name, array in arrays.items()
            if name.startswith(_STATISTICS)
        },
    )
