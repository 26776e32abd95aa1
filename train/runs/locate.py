"""Finds the cache that a dataset means, or that a run was trained on, also after it or the home was moved."""

import logging
from pathlib import Path

from msdn.cache import CacheError, FeatureCache, Home
from msdn.cache.errors import WrongUsageError
from msdn.cache.home import choose_cache, find_caches
from msdn.train.errors import RunError
from msdn.train.runs.run import Run

log = logging.getLogger(__name__)


def open_dataset_cache(home: Home, dataset: str | None, given: Path | None) -> FeatureCache:
    """Open the given cache, else the only one of the dataset; one of another dataset is refused."""
    if given is not None:
        path = given
    elif dataset is not None:
        path = choose_cache(home, dataset, None)
    else:
        raise WrongUsageError("which features? Give their file with --cache, or --dataset NAME")
    cache = FeatureCache(path)
    found = cache.annotations.dataset
    if dataset not in (None, found):
        cache.close()
        raise RunError(f"{path}: features of '{found}', not of '{dataset}'; give others with --cache")
    return cache


def open_run_cache(home: Home, run: Run, given: Path | None = None) -> FeatureCache:
    """Open the given cache, else the one with the run's fingerprint: where it was, or in the home."""
    if given is not None:
        return FeatureCache(given)
    recorded = Path(run.manifest["cache"]["path"])
    others = [path for path in find_caches(home, run.dataset) if path != recorded]
    for path in [recorded] * recorded.is_file() + others:
        try:
            cache = FeatureCache(path)
        except CacheError as error:
            log.warning("left out: %s", error)
            continue
        if cache.fingerprint == run.manifest["cache"]["fingerprint"]:
            return cache
        cache.close()
    replaced = " (what lies there was annotated or made anew since)" if recorded.is_file() else ""
    raise RunError(
        f"the features that {run.path.name} was trained on are neither at {recorded}{replaced} nor in {home.features}; "
        f"give their file with --cache, or train again on what there is"
    )
