"""The papers' tables made again: features where they are missing, then all seeds of each model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache, Home
from msdn.cache.errors import UnknownNameError
from msdn.extract.datasets.registry import DATASETS
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.train.models.presets import preset_settings
from msdn.train.models.published import published_figures
from msdn.train.models.registry import find_model, model_names
from msdn.train.studies.family import MODEL, family_rows
from msdn.train.studies.rows import Facts, RowResult, StudyRow

TASK = "task"  # the column that tells a model's two rows apart


@dataclass(frozen=True)
class Reproduction:
    """What to reproduce.

    Attributes:
        extraction: the dataset, and how to get its features where they are missing.
        cache: features that are there already, instead.
        models: each is trained by its own preset.
        seeds: each model's.
        overrides: what is changed of the presets: how the weights are chosen.
    """

    extraction: ExtractSettings
    cache: Path | None
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the study's files."""
        select = self.overrides.get("select", "last")
        return f"reproduce-{self.extraction.dataset}" + ("" if select == "last" else f"-{select}")


def check_reproduction(wanted: Reproduction) -> tuple[StudyRow, ...]:
    """The rows to train; refuses unknown names before anything is extracted."""
    if wanted.extraction.dataset not in DATASETS:
        raise UnknownNameError("dataset", wanted.extraction.dataset, DATASETS)
    for model in wanted.models:
        find_model(model)
    return reproduction_rows(wanted.extraction.dataset, wanted.models, wanted.overrides)


def default_models(dataset: str) -> tuple[str, ...]:
    """MSDN, or where no figures of it are published on a dataset, the first model of which there are some."""
    known = [model for model in model_names() if published_figures(model, dataset)]
    return (known[0] if known else "msdn",)


def reproduction_rows(
    dataset: str, models: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[StudyRow, ...]:
    """One row for each model, and one more for acc where that is trained otherwise than for U, S and H."""
    rows = []
    for model in models:
        for task in ("gzsl", "czsl") if needs_two(dataset, model, overrides) else ("gzsl",):
            (row,) = family_rows(dataset, [(model, {})], {**overrides, "task": task})
            label = row.label if task == "gzsl" else f"{row.label} for acc"
            rows.append(dataclasses.replace(row, label=label, facts={MODEL: model, TASK: task}))
    return tuple(rows)


def needs_two(dataset: str, model: str, overrides: Mapping[str, Any]) -> bool:
    """Whether acc takes a training of its own: another preset, or an epoch chosen by acc on validation classes."""
    gzsl, czsl = (preset_settings(model, dataset, task=task) for task in ("gzsl", "czsl"))
    chosen_by_task = overrides.get("select", gzsl.select) != "last" and not overrides.get("paper_style")
    return chosen_by_task or dataclasses.replace(czsl, task="gzsl") != gzsl


def features_for(wanted: Reproduction, home: Home, watch: Callable[[], Any]) -> Path:
    """The features' file, extracted first where it is missing; `watch` opens a view of the progress."""
    if wanted.cache is not None:
        return wanted.cache
    from msdn.extract.pipeline.extraction import extract

    with watch() as view:
        return extract(wanted.extraction, home, view.watcher).path


def train_and_measure(
    wanted: Reproduction,
    home: Home,
    cache: FeatureCache,
    rows: tuple[StudyRow, ...],
    workers: int | None,
    device: str,
) -> tuple[Facts, list[RowResult]]:
    """Train what is missing, measure all, and write the study's files."""
    from msdn.train.studies.measure import keep_study, measure_study
    from msdn.train.studies.study import Study

    study = Study(wanted.name, rows, wanted.seeds)
    facts, done = measure_study(cache, study, home, workers=workers, device=device)
    keep_study(home, facts, done, {})
    return facts, done
