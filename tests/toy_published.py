"""Small feature files as the published scripts wrote them, and a way to run `msdn cache` on them."""

from pathlib import Path

import h5py
import numpy as np
from click.testing import CliRunner, Result
from toy_cache import make_annotations

from msdn.cli import main


def run(*arguments: str | Path) -> Result:
    """Run `msdn` in this process."""
    return CliRunner().invoke(main, [*map(str, arguments)], prog_name="msdn", env={"COLUMNS": "200"})


def write_foreign(path: Path, **changes: object) -> Path:
    """A file as the published scripts wrote it: no names, gzip, chunks across images."""
    a = make_annotations()
    rng = np.random.RandomState(0)
    content = {
        "labels": a.labels,
        "att": a.attributes / np.linalg.norm(a.attributes, axis=1, keepdims=True),
        "original_att": a.attributes,
        "w2v_att": a.attribute_vectors,
        **{f"{name}_loc": a.splits[name] for name in ("trainval", "test_seen", "test_unseen")},
        "feature_map": rng.uniform(0, 2, (30, 16, 3, 3)).astype(np.float32),
    }
    with h5py.File(path, "w") as file:
        for name, value in (content | changes).items():
            if value is not None and name == "feature_map" and np.ndim(value) == 4:
                file.create_dataset(name, data=value, chunks=(7, 4, 1, 1), compression="gzip")
            elif value is not None:
                file[name] = value
    return path
