"""What `import msdn` offers: each stage as a plain function. They print nothing, and raise `MsdnError` for bad input.

`home` is the folder of everything made: by default $MSDN_HOME, else ./msdn-home, as on the command line.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msdn.app.predict.classes import KINDS, Wanted, choose_candidates
from msdn.app.predict.options import FILLS, find_images
from msdn.app.predict.predictor import Prediction, Predictor
from msdn.cache import FeatureCache, Home
from msdn.cache.errors import UnknownNameError, WrongUsageError
from msdn.cache.home import DEFAULT_HOME, choose_cache, dataset_name
from msdn.cache.layout import MAIN
from msdn.cache.merging import merge_parts
from msdn.extract.backbones.frozen import fixed_arithmetic
from msdn.extract.pipeline import extraction
from msdn.extract.pipeline.outcome import Extraction
from msdn.extract.pipeline.progress import Progress, Watcher
from msdn.extract.pipeline.settings import BAD_IMAGES, COMPILE, DTYPES, PRECISIONS, ExtractSettings
from msdn.extract.pipeline.worker import Worker
from msdn.machine import keep_threads
from msdn.train.errors import RunError
from msdn.train.groups.choose import choose_groups
from msdn.train.loop.options import check_groups, choose_settings
from msdn.train.loop.training import train_model
from msdn.train.measure.evaluate import evaluate_run, keep_results
from msdn.train.models import registry
from msdn.train.models.presets import PRESET_NAMES, known_datasets
from msdn.train.models.rule import amounts_of
from msdn.train.runs.basis import load_basis
from msdn.train.runs.results import check_kept
from msdn.train.runs.run import Run, find_run, open_run_cache

Place = str | os.PathLike[str]
_DEFAULT = ExtractSettings(dataset="")
_CACHE_ENDING = ".h5"


def open_cache(features: Place, *, map: str = MAIN, home: Place | None = None) -> FeatureCache:
    """Open a finished cache of features; use it in a `with` block, or close it.

    Args:
        features: a cache's file, or the name of a dataset (the folder of your own) that has one cache in the home.
        map: the map to read, where the cache holds several.
        home: the folder of everything made.

    Example:
        with msdn.open_cache("plumage") as cache:
            regions = cache.read_rows(cache.rows("train")[:8])  # [8, 49, 2048]
            labels = cache.annotations.labels
    """
    if os.fspath(features).endswith(_CACHE_ENDING):
        return FeatureCache(Path(features).expanduser(), map)
    return FeatureCache(
        choose_cache(_home(home), dataset_name(os.fspath(features)), None, known_datasets()), map
    )


def extract(
    dataset: Place,
    *,
    backbone: str = _DEFAULT.backbone,
    weights: str = _DEFAULT.weights,
    image_size: int | None = None,
    layer: str = _DEFAULT.layer,
    also: Sequence[str] = (),
    device: str = _DEFAULT.device,
    precision: str = _DEFAULT.precision,
    compile: str = _DEFAULT.compile,
    dtype: str = _DEFAULT.dtype,
    batch_size: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    bad_images: str = _DEFAULT.bad_images,
    exif: str | None = None,
    out: Place | None = None,
    restart: bool = False,
    retry_bad: bool = False,
    shard: tuple[int, int] | None = None,
    devices: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    home: Place | None = None,
) -> Extraction:
    """Run a frozen network over all images once; repeated after an interruption, it goes on where it stopped.

    The options are those of `msdn extract`.

    Args:
        dataset: cub, sun, awa2, flo, plumage, or a folder of your own.
        backbone: the frozen network: a name, "timm:NAME", or the path of a file that is run.
        weights: "imagenet" (the backbone's own), a file, or "random" ("random:SEED").
        image_size: pixels; None is the backbone's own.
        layer: another block's map; "" is the backbone's own.
        also: more maps in the same cache, as `--also` names them.
        device: "auto" (a GPU where there is one), "cpu", "cuda:0" …
        precision: arithmetic of the backbone: float32, bfloat16 or float16; "auto" is what this machine is fast at.
        compile: whether the network is compiled first: "yes", "no", or "auto", for large datasets.
        dtype: how features are stored: float16 or float32.
        batch_size: images computed at once; belongs to the cache.
        workers: decoding threads.
        threads: CPU threads that compute; belongs to the cache.
        bad_images: "stop" lists bad images in an error, "mask" leaves them out.
        exif: "upright" turns images as their EXIF data say, "keep" leaves them; None turns those of your own.
        out: the cache to write, instead of one named after the dataset in the home.
        restart: start again, whatever an earlier extraction left.
        retry_bad: of a finished cache, try masked images again, make damaged rows again, and no others.
        shard: (i, n) is worker i of n, counted from 0: it writes its shards beside the cache, for `merge`.
        devices: several at once, a process for each: "all", or a list such as "cuda:0,cuda:1". In a script, call it
            below `if __name__ == "__main__":`, for each process reads the script again.
        on_progress: called as it goes on.
        home: the folder of everything made.

    Returns:
        The cache's `path`, what it cost (`progress`), and the images that were masked with their reasons (`masked`).
        Of one worker of many also its `shards`; the cache is there when they are merged.

    Example:
        done = msdn.extract("plumage", weights="random")
        print(done.path, done.masked)
    """
    _check_choice("precision", precision, PRECISIONS)
    _check_choice("compile", compile, COMPILE)
    _check_choice("dtype", dtype, DTYPES)
    _check_choice("bad_images", bad_images, BAD_IMAGES)
    _check_positive(image_size=image_size, batch_size=batch_size, workers=workers, threads=threads)
    settings = ExtractSettings(
        dataset=os.fspath(dataset),
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        layer=layer,
        also=tuple(also),
        device=device,
        precision=precision,
        compile=compile,
        dtype=dtype,
        batch_size=batch_size,
        workers=workers,
        threads=threads,
        bad_images=bad_images,
        exif=exif,
        out=None if out is None else Path(out).expanduser(),
        restart=restart,
        retry_bad=retry_bad,
        worker=None if shard is None else Worker(*shard, f"shard={shard}"),
        devices=devices,
    )
    watcher = extraction.SILENT if on_progress is None else Watcher(on_progress=on_progress)
    return extraction.extract(settings, _home(home), watcher)


def merge(cache: Place, *, allow_mixed: bool = False, remove_parts: bool = False) -> Path:
    """Make a cache of the shards that workers wrote beside it; each row is compared with its checksums.

    Args:
        cache: the file to write: the `path` of what `extract` gave.
        allow_mixed: take shards made on different devices or by different versions; the cache says which are whose.
        remove_parts: remove the shards when the cache is complete.

    Returns:
        The cache's path.

    Example:
        for i in range(2):
            path = msdn.extract("plumage", weights="random", out="shared.h5", shard=(i, 2)).path
        print(msdn.merge(path))
    """
    return merge_parts(Path(cache).expanduser(), allow_mixed=allow_mixed, remove=remove_parts).path


def train(
    features: Place,
    *,
    model: Place = registry.DEFAULT,
    preset: Place = PRESET_NAMES[0],
    map: str = MAIN,
    groups: Place | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    home: Place | None = None,
    **settings: Any,
) -> Run:
    """Train a model on a dataset's features, by the preset's settings where no others are given.

    Args:
        features: what `open_cache` takes: a dataset's name or folder, or a cache's file.
        model: msdn, msdn++, dedn, dazle, baseline, or the path of your own.
        preset: "released", "paper", or a .toml file of your own.
        map: the map to train on, where the cache holds several.
        groups: for DEDN: a CSV of attribute and group.
        device: "auto" (a GPU where there is one), "cpu", "cuda:0" …
        precision: of the large products: "float32", "bfloat16", or "auto": bfloat16 where it is much faster.
        threads: CPU threads that compute.
        on_epoch: called with each epoch's record.
        home: the folder of everything made; the run's folder is in its `runs`.
        settings: any setting by the name that `msdn presets` shows, such as seed=1, epochs=60 or select="val".

    Returns:
        The run: its folder is `path`, what was trained is `settings`, and `chosen` says what was chosen on what.

    Example:
        run = msdn.train("plumage", model="msdn", seed=1)
        print(run.path)
    """
    _check_positive(threads=threads)
    place = _opened_home(home)
    found = _find_model(model)
    with open_cache(features, map=map, home=place.root) as cache:
        overrides = {"model": found, **settings}
        amounts = amounts_of(cache.annotations, cache.masked_rows)
        chosen = choose_settings(cache.annotations.dataset, os.fspath(preset), overrides, amounts=amounts)
        registry.find_model(found).check_effect(chosen.settings, overrides)
        check_groups(found, None if groups is None else Path(groups))
        registry.remember(place, found)
        with keep_threads(threads):
            return train_model(
                cache,
                chosen.settings,
                place.runs,
                **chosen.origin,
                groups=None if groups is None else choose_groups(cache.annotations, Path(groups)),
                device=device,
                precision=precision,
                on_epoch=on_epoch,
            )


def load_run(
    run: Place | None = None,
    *,
    dataset: Place | None = None,
    model: Place | None = None,
    home: Place | None = None,
) -> Run:
    """Open a run by its folder or name, or the latest finished one (of a dataset or model, where given).

    Example:
        run = msdn.load_run(dataset="plumage", model="msdn")
        print(run.settings.seed, run.manifest["started"])
    """
    of = None if dataset is None else dataset_name(os.fspath(dataset))
    place = _opened_home(home)
    name = None if model is None else _find_model(model)
    return find_run(place.runs, None if run is None else Path(run).expanduser(), dataset=of, model=name)


def evaluate(
    run: Run | Place | None = None,
    *,
    cache: Place | None = None,
    margin: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    home: Place | None = None,
) -> dict[str, Any]:
    """Measure a finished run on the test images, as `msdn evaluate` does; the run's folder keeps the figures.

    Args:
        run: a run, its folder or name; None is the latest finished one.
        cache: the features, where they are no longer where they were.
        margin: for unseen against seen classes, instead of the run's own; figures of another margin are not kept.
        device: where to compute.
        threads: CPU threads that compute.
        home: the folder of everything made.

    Returns:
        Figures in percent by name ("U", "S", "H", "AUSUC", "acc" …), what guessing would reach ("chance"), each class's
        accuracy ("per_class"), and what they belong to.

    Example:
        figures = msdn.evaluate()
        print(figures["H"], figures["chance"]["H"])
    """
    _check_finite("margin", margin)
    _check_positive(threads=threads)
    place = _opened_home(home)
    opened = run if isinstance(run, Run) else load_run(run, home=place.root)
    file = None if cache is None else Path(cache).expanduser()
    with keep_threads(threads), open_run_cache(place, opened, file) as features:
        figures = evaluate_run(opened, features, margin=margin, device=device)
    if margin is None:
        check_kept(opened)
        keep_results(opened, figures)
    return figures


def predict(
    images: Place | Iterable[Place],
    *,
    run: Run | Place | None = None,
    top: int = 5,
    among: Literal["all", "seen", "unseen"] = "all",
    drop: Sequence[str] = (),
    classes: Place | None = None,
    only: bool = False,
    fill: Literal["mean"] | None = None,
    like: str | None = None,
    changes: Mapping[str, float] | None = None,
    name: str | None = None,
    margin: float | None = None,
    reject: float | None = None,
    strict: bool = False,
    backbone: Place | None = None,
    weights: Place | None = None,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    home: Place | None = None,
) -> list[Prediction]:
    """Say what images show, among the classes that a run knows and new ones described by their attributes.

    Args:
        images: an image, a folder of images, or several of either.
        run: a run, its folder or name; None is the latest finished one.
        top: classes to name for an image.
        among: the known classes that compete.
        drop: known classes to leave out.
        classes: a CSV of new classes, in the units of attributes.csv.
        only: nothing but the new classes competes.
        fill: "mean" fills attributes that `classes` has no column for; without it they are an error.
        like: a known class that one more new class resembles.
        changes: the attributes in which it differs, with their values.
        name: what that class is called.
        margin: for unseen and new against seen classes, instead of the run's own.
        reject: the confidence (0 to 1) below which the answer is none of the classes.
        strict: raise at the first image that cannot be used, instead of telling it in its prediction's `error`.
        backbone: its file, where the features come from one of your own.
        weights: their file, where the features come from a file of weights.
        device: where to compute.
        threads: CPU threads that compute.
        workers: decoding threads.
        home: the folder of everything made.

    Returns:
        A prediction for each image, in order: `answer`, `classes` best first, the attributes that `spoke_for` and
        `spoke_against` the best one, its `confidence` where the run has one, or the `error`.

    Example:
        swallows = "msdn-home/data/plumage/images/019.Gale_Swallow"
        for one in msdn.predict(swallows, like="019.Gale_Swallow", changes={"size: small": 100}, name="Dwarf Swallow"):
            print(one.image, one.answer, one.classes[0].kind)
    """
    _check_positive(top=top, threads=threads, workers=workers)
    _check_finite("margin", margin)
    _check_choice("among", among, ("all", *KINDS))
    if fill is not None:
        _check_choice("fill", fill, FILLS)
    if reject is not None and not 0 <= reject <= 1:
        raise WrongUsageError(f"reject is {reject}, expected a number from 0 to 1")
    if bool(changes) != (like is not None) or (name is not None and like is None):
        raise WrongUsageError(
            "like, changes (and name) go together: like names a class, changes its attributes"
        )
    place = _opened_home(home)
    opened = run if isinstance(run, Run) else load_run(run, home=place.root)
    wanted = Wanted(
        among=KINDS if among == "all" else (among,),
        drop=tuple(drop),
        file=None if classes is None else Path(classes).expanduser(),
        only=only,
        fill=fill,
        like=like,
        changes=changes or {},
        name=name,
    )
    given = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    paths = list(find_images([Path(one).expanduser() for one in given]))
    with keep_threads(threads), fixed_arithmetic():
        predictor = Predictor(
            opened,
            place,
            candidates=choose_candidates(load_basis(opened), wanted),
            margin=margin,
            device=device,
            top=top,
            reject=reject,
        )
        repeater = predictor.repeater(
            *(None if one is None else os.fspath(one) for one in (backbone, weights))
        )
        found = []
        for one in predictor.predict_images(paths, repeater, workers):
            if one.error and strict:
                raise RunError(f"{one.image}: {one.error}; leave out strict to go on with the others")
            found.append(one)
    return found


def _home(given: Place | None) -> Home:
    """As the command line's `--home`."""
    return Home(Path(given or os.environ.get("MSDN_HOME") or DEFAULT_HOME).expanduser())


def _opened_home(given: Place | None) -> Home:
    """The home, with the models of the user's own that it remembers."""
    home = _home(given)
    registry.use_home(home)
    return home


def _find_model(given: Place) -> str:
    return registry.choose_model(os.fspath(given)).name


def _check_choice(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UnknownNameError(f"value of {option},", value, known)


def _check_positive(**given: int | None) -> None:
    for option, value in given.items():
        if value is not None and value < 1:
            raise WrongUsageError(f"{option} is {value}, expected 1 or more")


def _check_finite(option: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise WrongUsageError(f"{option} is {value}, expected a finite number")
