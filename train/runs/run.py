"""Run folders: one for each training, with a manifest, metrics and a checkpoint; nothing is overwritten."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from reprlib import repr as shorten
from types import MappingProxyType
from typing import Any

from msdn.cache import CacheError, FeatureCache, Home
from msdn.cache.errors import UnknownNameError, WrongUsageError, nearest
from msdn.cache.files import (
    FileLock,
    create_folder,
    flush_file,
    make_folder,
    named,
    open_itself,
    replace_file,
)
from msdn.cache.home import cached_datasets, choose_cache, command_line, find_caches
from msdn.cache.layout import MAIN
from msdn.cache.records import (
    Kind,
    find_misfit,
    fits,
    is_figure,
    is_flag,
    is_number,
    is_table,
    is_text,
    is_time,
    one_of,
    read_sealed,
    seal,
    whole,
    write_sealed,
)
from msdn.train.errors import ForeignModelError, RunError
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.settings import PRECISIONS, RunSettings
from msdn.train.measure.selection import COMPARED, KEPT, RATE, kept_tasks
from msdn.train.models import registry
from msdn.train.models.parts.problem import AttributeGroup
from msdn.train.models.presets import known_datasets

log = logging.getLogger(__name__)
VERSION = 1
MANIFEST = "manifest.json"
ALL_MANIFESTS = f"[!.]*/{MANIFEST}"  # hidden folders are being made, or deleted
FINISHED = "finished"
VALIDATED = "validated"  # the status of a run that was only to choose on validation classes
VALIDATION_FIGURES: dict[str, Kind] = {
    **{f"val_{name}": is_figure for name in COMPARED},
    "val_margin": is_number,
    "val_temperature": is_number,
}
_MANIFEST: dict[str, Kind] = {
    "status": one_of(("running", "interrupted", "failed", FINISHED, VALIDATED)),
    "dataset": is_text,
    "settings": is_table,
    "cache": {"path": is_text, "fingerprint": is_text, "map?": is_text},
    "weights": is_text,
    "masked_images": whole(0),
    "device": is_text,
    "precision": one_of(PRECISIONS),
    "features": one_of(("auto", "memory", "map")),
    "environment": {"*": lambda value: isinstance(value, (str, int))},
    "started": is_time,
    "model_file?": {"path": is_text, "sha256": is_text},
    "features_in?": {"*": {"*": is_text}},
    "preset?": is_text,
    "overrides?": is_table,
    "rule?": {"*": is_text},
    "basis?": is_text,
    "checkpoint?": is_text,
    "metrics?": is_text,
    "watch_test?": is_flag,
    "name?": is_text,
    "config?": is_table,
    "reason?": lambda value: isinstance(value, str),
}
_CHOSEN_ON_VALIDATION: dict[str, Kind] = {
    "epochs": whole(1),
    "margin": is_number,
    f"{RATE}?": is_number,
    "validation_epochs?": whole(1),
    **VALIDATION_FIGURES,
}
_CHOSEN_ON_TEST: dict[str, Kind] = {"epoch": whole(1), **dict.fromkeys(KEPT, is_figure)}


class Run:
    """One run's folder.

    Attributes:
        path: the folder.
        manifest: what was trained on what, how far it is, and with which versions.
        settings: what is trained, and how.
    """

    def __init__(self, path: Path, manifest: dict[str, Any] | None = None) -> None:
        """Open a run that exists; `manifest` where the caller has just written it."""
        self.path = path
        self.manifest = _read_manifest(path) if manifest is None else manifest
        try:
            self.settings = registry.settings_from_json(self.manifest["settings"])
        except WrongUsageError as error:  # of who wrote the file, not of who reads it
            raise self._explain(error) from error
        self._check_chosen()

    def __repr__(self) -> str:
        """What it is, in one line."""
        return f"<Run {self.path}: {self.settings.model} on {self.dataset}, {self.manifest['status']}>"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.path / "checkpoint.pt"

    @property
    def metrics(self) -> Path:
        """The file of metrics, one JSON line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The file of test figures, as `msdn evaluate` found them."""
        return self.path / "results.json"

    @property
    def chosen(self) -> dict[str, Any] | None:
        """What was chosen, by which figures; None where nothing was, or not yet."""
        return self.manifest.get("chosen")

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.manifest["dataset"])

    @property
    def precision(self) -> str:
        """Of the large products, in training and wherever the run is used."""
        return str(self.manifest["precision"])

    @property
    def name(self) -> str | None:
        """The name that the user gave it, if any."""
        return self.manifest.get("name")

    @property
    def map(self) -> str:
        """The map that was trained on, where the features have several."""
        return str(self.manifest["cache"].get("map") or MAIN)

    @property
    def finished(self) -> bool:
        """Whether all epochs were trained."""
        return bool(self.manifest["status"] == FINISHED)

    @property
    def waiting(self) -> bool:
        """Whether it was stopped in the middle: neither finished, nor left on purpose after its validation."""
        return self.manifest["status"] not in (FINISHED, VALIDATED)

    def groups(self, attributes: int) -> tuple[AttributeGroup, ...]:
        """The attributes, so many, in the groups that its model was built with; none for a model that takes none."""
        if not registry.find_model(self.settings.model).takes_groups:
            return ()
        stored = self.manifest.get("groups")
        return AttributeGroups.from_json(stored, attributes, self.path / MANIFEST).groups

    def is_of(self, cache: FeatureCache) -> bool:
        """Whether it was trained on these features, and on the map of them that was chosen."""
        return (self.manifest["cache"]["fingerprint"], self.map) == (cache.fingerprint, cache.map.name)

    def check_finished(self) -> None:
        """Refuse a run whose training was not finished."""
        if not self.finished:
            again = command_line("train", "--resume", self.path)
            raise RunError(f"{self.path}: not finished ({self.manifest['status']}); finish it with: {again}")

    def check_features(self, cache: FeatureCache) -> None:
        """Refuse features that are not those it was trained on."""
        trained_on = self.manifest["cache"]["fingerprint"]
        if cache.fingerprint != trained_on:
            raise RunError(
                f"{cache.path}: not the features that {self.path.name} was trained on (fingerprint "
                f"{cache.fingerprint[:12]}, expected {trained_on[:12]}); give those with --cache, or train again"
            )
        if cache.map.name != self.map:
            raise RunError(
                f"{cache.path}: {self.path.name} was trained on its map '{self.map}', not on '{cache.map.name}'; "
                "leave --map out, or train again"
            )

    def check_model(self) -> None:
        """Refuse a user's own model whose file is not what it was when the run was trained."""
        stored, loaded = self.manifest.get("model_file"), registry.model_file(self.settings.model)
        if stored and loaded and loaded.sha256 != stored["sha256"]:
            raise RunError(
                f"{loaded.path}: not the model that {self.path.name} was trained with (sha256 {loaded.sha256[:12]}, "
                f"expected {stored['sha256'][:12]}, as in {stored['path']}); give that one with --model, or train again"
            )

    def update(self, **changes: Any) -> None:
        """Change the manifest, in memory and on disk; a status comes after the metrics that it speaks of."""
        if "status" in changes and self.metrics.exists():
            flush_file(self.metrics)
        self.manifest.update(changes)
        write_sealed(self.path / MANIFEST, self.manifest)

    def leave(self, **changes: Any) -> None:
        """Change the manifest where an error ends the training; if that fails too, the first error counts."""
        with suppress(OSError):
            self.update(**changes)

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Write the records of all epochs so far, in place of what was there."""
        replace_file(self.metrics, metrics_lines(records))

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one epoch's record."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with named(self.metrics), os.fdopen(open_itself(self.metrics, flags), "ab") as file:
            file.write(metrics_lines([record]))

    def lock(self) -> AbstractContextManager[Any]:
        """A lock for the length of training: two processes never continue one run."""
        return lock_of(self.path)

    def _explain(self, error: WrongUsageError) -> RunError:
        """Why the stored settings cannot be used: damage, or a model that is not available now."""
        file, model = self.path / MANIFEST, self.manifest["settings"].get("model")
        own = self.manifest.get("model_file")
        if own is None:
            return RunError(f"{file}: {error}; train the model again")
        reason = str(error)
        if isinstance(error, UnknownNameError):
            reason = f"unknown model '{model}', which came from {own['path']}; give it with --model FILE"
        return ForeignModelError(f"{file}: {reason}", str(model))

    def _check_chosen(self) -> None:
        """Refuse a choice that training with these settings, so far, cannot have made."""
        select, chosen = self.settings.select, self.chosen
        if chosen is None:
            good = select == "last" or self.waiting
        elif select == "val":
            good = fits(chosen, _CHOSEN_ON_VALIDATION) and chosen["epochs"] <= self.settings.passes
        else:
            kinds: dict[str, Kind] = dict.fromkeys(kept_tasks(self.settings), _CHOSEN_ON_TEST)
            good = bool(kinds) and fits(chosen, kinds) and chosen.keys() == kinds.keys()
            good = good and all(best["epoch"] <= self.settings.passes for best in chosen.values())
        if not good:
            raise _damaged(self.path / MANIFEST, "chosen", chosen)


class FollowedRun(Run):
    """A run that another process trains along with this one and writes: here, nothing reaches the disk."""

    def update(self, **changes: Any) -> None:
        """Change the manifest in memory."""
        self.manifest.update(changes)

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Leave it to the other process."""

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Leave it to the other process."""

    def lock(self) -> AbstractContextManager[Any]:
        """The other process holds it."""
        return nullcontext()


def metrics_lines(records: list[dict[str, Any]]) -> bytes:
    """The records of epochs as `metrics.jsonl` has them."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def create_run(
    runs: Path,
    dataset: str,
    settings: RunSettings,
    facts: dict[str, Any],
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Run:
    """Make a new folder below `runs` with a manifest of the settings and `facts`, and other files by their names."""
    now = datetime.now(UTC).astimezone()
    name = f"{dataset}-{settings.model}-s{settings.seed}-{now:%Y%m%d-%H%M%S}"
    own = registry.model_file(settings.model)
    manifest = {
        "version": VERSION,
        "status": "running",
        "dataset": dataset,
        "model": settings.model,
        "model_file": own and {"path": str(own.path), "sha256": own.sha256},
        "started": now.isoformat(),
        "finished": None,
        "settings": settings.as_json(),
        **facts,
    }
    try:
        make_folder(runs)
        path = create_folder(runs / name, {**files, MANIFEST: seal(manifest)})
    except OSError as error:
        raise RunError(
            f"{runs}: cannot make a run folder there ({error.strerror}); choose another --home"
        ) from error
    return Run(path, manifest)


def lock_of(path: Path) -> FileLock:
    """The lock of the run in a folder."""
    return FileLock(path / "train.lock", "training this run")


def open_run(runs: Path, given: Path) -> Run:
    """Open a run by its folder, by its folder's name below `runs`, or by the name that the user gave it."""
    named = runs / given
    if given.exists() or named.exists():
        return Run(given if given.exists() else named)
    names = given_names(runs)
    if str(given) in names:
        return Run(names[str(given)])
    hint = nearest(str(given), {*names, *(path.parent.name for path in runs.glob(ALL_MANIFESTS))})
    listed = command_line("runs", home=Home(runs.parent))
    raise RunError(
        f"{given}: no such run in {runs.absolute()}, and no such folder. {hint}To list them: {listed}"
    )


def given_names(runs: Path) -> dict[str, Path]:
    """The names that the user gave to runs below a folder, with their folders; what cannot be read has none."""
    found = {}
    for manifest in sorted(runs.glob(ALL_MANIFESTS)):
        with suppress(OSError, ValueError):
            name = read_sealed(manifest).get("name")
            if isinstance(name, str) and name:
                found[name] = manifest.parent
    return found


def check_name(runs: Path, name: str) -> None:
    """Refuse a name for a run that no command could tell from a path, an option, or another run."""
    if not name.isprintable() or not name.strip() or name[0] in "-. " or Path(name).name != name:
        raise WrongUsageError(
            f"'{name}' is not a name for a run; expected one without a folder, such as first-try"
        )
    if (runs / name).exists():
        raise RunError(f"{runs / name}: is a run's folder already; choose another name")
    other = given_names(runs).get(name)
    if other is not None:
        raise RunError(
            f"{other} is named '{name}' already; choose another name, or give that run another one"
        )


def find_run(runs: Path, given: Path | None, *, dataset: str | None = None, model: str | None = None) -> Run:
    """The run that a user means: a folder or name, which has to fit what else is said, or the latest finished one."""
    if given is None:
        return latest_run(runs, finished=True, dataset=dataset, model=model)
    run = open_run(runs, given)
    for name, asked, is_ in (("dataset", dataset, run.dataset), ("model", model, run.settings.model)):
        if asked not in (None, is_):
            raise RunError(
                f"{run.path}: a run of the {name} '{is_}', not '{asked}'; leave out --{name} or --run"
            )
    return run


def find_runs(runs: Path, *, dataset: str | None = None, model: str | None = None) -> list[Run]:
    """List the runs below a folder, oldest first, of a dataset and model where given."""
    found, foreign = [], dict[str, tuple[ForeignModelError, int]]()
    for manifest in sorted(runs.glob(ALL_MANIFESTS)):
        try:
            run = Run(manifest.parent)
        except ForeignModelError as error:
            first, count = foreign.get(error.model, (error, 0))
            foreign[error.model] = first, count + 1
            continue
        except RunError as error:
            log.warning("left out: %s", error)
            continue
        if dataset in (None, run.dataset) and model in (None, run.settings.model):
            found.append(run)
    for name, (first, count) in foreign.items():
        log.warning("left out: %d run(s) of '%s', the first is %s", count, name, first)
    return sorted(found, key=lambda run: (datetime.fromisoformat(run.manifest["started"]), run.path.name))


def latest_run(runs: Path, *, finished: bool, dataset: str | None = None, model: str | None = None) -> Run:
    """The latest finished, or unfinished, run; raises a `RunError` that says what there is instead.

    Of unfinished ones a failed run comes last: continued, it most likely fails again.
    """
    candidates = find_runs(runs, dataset=dataset, model=model)
    fitting = [run for run in candidates if (run.finished if finished else run.waiting)]
    if fitting:
        return ([run for run in fitting if run.manifest["status"] != "failed"] or fitting)[-1]
    what = " ".join(filter(None, ("finished" if finished else "unfinished", model, "run")))
    of = f" of '{dataset}'" if dataset else ""
    advice = _advice(candidates, finished, dataset, Home(runs.parent))
    raise RunError(f"no {what}{of} in {runs.absolute()}. {advice}")


def how_to_train(home: Home, dataset: str | None) -> str:
    """The command that trains on a dataset; where nobody knows that one, the names that there are."""
    trained = {run.dataset for run in find_runs(home.runs)}
    known = {*known_datasets(), *cached_datasets(home), *trained}
    if dataset is None or dataset in known:
        return f"Train one with: {command_line('train', '--dataset', dataset or 'NAME', home=home)}"
    return f"{nearest(dataset, known)}Known: {', '.join(sorted(known))}"


def open_dataset_cache(
    home: Home, dataset: str | None, given: Path | None, map: str | None = None
) -> FeatureCache:
    """Open the given cache, else the only one of the dataset; one of another dataset is refused."""
    if given is None and dataset is None:
        raise WrongUsageError("which features? Give their file with --cache, or --dataset NAME")
    path = given or choose_cache(home, dataset or "", None, known_datasets())
    cache = FeatureCache(path, map or MAIN)
    found = cache.annotations.dataset
    if dataset not in (None, found):
        cache.close()
        raise RunError(f"{path}: features of '{found}', not of '{dataset}'; give others with --cache")
    return cache


def open_run_cache(home: Home, run: Run, given: Path | None = None) -> FeatureCache:
    """Open the run's map of the given cache, else of the one with its fingerprint: where it was, or in the home."""
    if given is not None:
        return FeatureCache(given, run.map)
    recorded = Path(run.manifest["cache"]["path"])
    replaced = ""
    others = [path for path in find_caches(home, run.dataset) if path.resolve() != recorded.resolve()]
    for path in [recorded] * recorded.is_file() + others:
        try:
            cache = FeatureCache(path, run.map)
        except (CacheError, UnknownNameError) as error:
            log.warning("left out: %s", error)
            continue
        if cache.fingerprint == run.manifest["cache"]["fingerprint"]:
            return cache
        cache.close()
        if path == recorded:
            replaced = " (the file there was annotated or made again since)"
    raise RunError(
        f"the features that {run.path.name} was trained on are neither at {recorded}{replaced} nor in {home.features}; "
        f"give their file with --cache, or train again on what there is"
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest in a run's folder; the settings in it are the caller's to check."""
    file = path / MANIFEST
    try:
        manifest = read_sealed(file)
    except FileNotFoundError as error:
        raise RunError(f"{path}: not a run folder, it has no {MANIFEST}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: cannot be read as a manifest ({error}); train the model again") from error
    version = manifest.get("version")
    if version != VERSION:
        raise RunError(
            f"{file}: manifest version {shorten(version)}, expected {VERSION}; train the model again"
        )
    wrong = find_misfit(manifest, _MANIFEST)
    if wrong is not None:
        if wrong not in manifest:
            raise RunError(f"{file}: damaged, '{wrong}' is missing; train the model again")
        raise _damaged(file, wrong, manifest[wrong])
    return manifest


def _damaged(file: Path, key: str, value: Any) -> RunError:
    return RunError(f"{file}: damaged, '{key}' is {shorten(value)}; train the model again")


def _advice(others: list[Run], finished: bool, dataset: str | None, home: Home) -> str:
    if not others:
        return how_to_train(home, dataset)
    last = others[-1].path
    if finished:
        return f"Finish {last.name} with: {command_line('train', '--resume', last, home=home)}"
    return f"{last.name} is finished: see it with: {command_line('evaluate', '--run', last, home=home)}"
