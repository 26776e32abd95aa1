"""Looks whether every image is there, before hours are spent on the others."""

from collections.abc import Iterable

from msdn.extract.datasets.spec import Dataset
from msdn.extract.errors import DatasetError

NAMED = 10


def require_images(dataset: Dataset, rows: Iterable[int]) -> None:
    """Raise unless the images of all `rows` are files: all missing ones are counted, the first ten named."""
    missing = [path for path in map(dataset.image_path, rows) if not path.is_file()]
    if missing:
        named = "".join(f"\n  {path}" for path in missing[:NAMED])
        more = f"\n  and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DatasetError(
            f"{dataset.image_folder}: {len(missing)} of {len(dataset.annotations.image_paths)} images are "
            f"missing:{named}{more}\nPut them there and repeat the command, or extract without "
            "them: 'msdn extract' with '--bad-images mask'."
        )
