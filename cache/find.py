"""Which caches a home holds for a dataset, and which one a command means."""

from pathlib import Path

from msdn.cache.errors import CacheError
from msdn.cache.home import Home


def name_cache(dataset: str, image_size: int, weights_tag: str) -> str:
    """Return a cache's file name: dataset, image size and weights, so that different ones never collide."""
    return f"{dataset}-{image_size}-{weights_tag}.h5"


def find_caches(home: Home, dataset: str) -> list[Path]:
    """List the finished caches of a dataset, by name."""
    caches = sorted(home.features.glob("*.h5"))
    return [path for path in caches if path.name.rsplit("-", 2)[0] == dataset and path.is_file()]


def choose_cache(home: Home, dataset: str, given: Path | None) -> Path:
    """Return the given cache, or the only one of the dataset; several fitting ones are listed."""
    if given is not None:
        return given
    found = find_caches(home, dataset)
    if not found:
        raise CacheError(
            f"no cache of '{dataset}' in {home.features}; run 'msdn extract --dataset {dataset}' first "
            "(with the folder's path, where the data are your own)"
        )
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise CacheError(f"several caches of '{dataset}' fit: {names}; choose one with --cache FILE")
    return found[0]
