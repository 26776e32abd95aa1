"""Run folders: one for each training, with a manifest, metrics and a checkpoint; nothing is overwritten."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache
from msdn.cache.errors import WrongUsageError
from msdn.cache.files import FileLock, replace_file
from msdn.train.errors import RunError
from msdn.train.groups.groups import AttributeGroups
from msdn.train.loop.settings import RunSettings
from msdn.train.models.parts.problem import AttributeGroup
from msdn.train.models.registry import find_model, settings_from_json
from msdn.train.runs.manifest import (
    FINISHED,
    MANIFEST,
    VALIDATED,
    VERSION,
    check_chosen,
    read_manifest,
    write_manifest,
)

log = logging.getLogger(__name__)


class Run:
    """One run's folder.

    Attributes:
        path: the folder.
        manifest: what was trained on what, how far it is, and with which versions.
    """

    def __init__(self, path: Path) -> None:
        """Open a run that exists."""
        self.path = path
        self.manifest = read_manifest(path)
        try:
            self.settings = settings_from_json(self.manifest["settings"])
            find_model(self.settings.model)
        except WrongUsageError as error:  # of who wrote the file, not of who reads it
            raise RunError(f"{path / MANIFEST}: {error}; train the model again") from error
        check_chosen(path, self.manifest, self.settings)

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

    def groups(self, cache: FeatureCache) -> tuple[AttributeGroup, ...]:
        """The groups of attributes that the model was built with; empty where it takes none."""
        stored, attributes = self.manifest.get("groups"), cache.annotations.attributes.shape[1]
        if not find_model(self.settings.model).takes_groups:
            return ()
        return AttributeGroups.from_json(stored, attributes, self.path / MANIFEST).groups

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.manifest["dataset"])

    @property
    def finished(self) -> bool:
        """Whether all epochs were trained."""
        return bool(self.manifest["status"] == FINISHED)

    @property
    def waiting(self) -> bool:
        """Whether it was stopped in the middle: neither finished, nor left on purpose after its validation."""
        return self.manifest["status"] not in (FINISHED, VALIDATED)

    def update(self, **changes: Any) -> None:
        """Change the manifest, in memory and on disk."""
        self.manifest.update(changes)
        write_manifest(self.path, self.manifest)

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Write the records of all epochs so far, in place of what was there."""
        lines = "".join(json.dumps(record) + "\n" for record in records)
        replace_file(self.metrics, lines.encode())

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one epoch's record."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def lock(self) -> FileLock:
        """A lock for the length of training: two processes never continue one run."""
        return FileLock(self.path / "train.lock", "training this run")


def create_run(runs: Path, dataset: str, settings: RunSettings, facts: dict[str, Any]) -> Run:
    """Make a new folder below `runs` with a manifest of the settings and `facts`."""
    now = datetime.now(UTC).astimezone()
    name = f"{dataset}-{settings.model}-s{settings.seed}-{now:%Y%m%d-%H%M%S}"
    path = _make_folder(runs, name)
    manifest = {
        "version": VERSION,
        "status": "running",
        "dataset": dataset,
        "model": settings.model,
        "started": now.isoformat(),
        "finished": None,
        "settings": settings.as_json(),
        **facts,
    }
    write_manifest(path, manifest)
    return Run(path)


def open_run(runs: Path, given: Path) -> Run:
    """Open a run by its folder, or by its name below `runs`."""
    named = runs / given
    return Run(named if not given.exists() and named.exists() else given)


def find_runs(runs: Path, *, dataset: str | None = None, model: str | None = None) -> list[Run]:
    """List the runs below a folder, oldest first, of a dataset and model where given."""
    found = []
    for manifest in sorted(runs.glob(f"*/{MANIFEST}")):
        try:
            run = Run(manifest.parent)
        except RunError as error:
            log.warning("left out: %s", error)
            continue
        if dataset in (None, run.dataset) and model in (None, run.settings.model):
            found.append(run)
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
    raise RunError(f"no {what}{of} in {runs}; {_advice(candidates, finished, dataset)}")


def _advice(others: list[Run], finished: bool, dataset: str | None) -> str:
    if not others:
        return f"start one with 'msdn train --dataset {dataset or 'NAME'}'"
    if finished:
        return f"finish {others[-1].path.name} with 'msdn train --resume {others[-1].path}'"
    return f"{others[-1].path.name} is finished: see it with 'msdn evaluate --run {others[-1].path}'"


def _make_folder(runs: Path, name: str) -> Path:
    try:
        runs.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = runs / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise RunError(
            f"{runs}: cannot make a run folder there ({error.strerror}); choose another --home"
        ) from error
