"""A leaderboard of runs: seeds put together, and lines ranked only on the same features by one protocol. No torch."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msdn.train.loop.settings import SELECTIONS, RunSettings
from msdn.train.measure.selection import describe_selection
from msdn.train.measure.summary import Spread, spread
from msdn.train.runs.results import COMPARED, Measured
from msdn.train.runs.run import Run


@dataclass(frozen=True)
class Protocol:
    """What two lines must have in common to be ranked against each other.

    Attributes:
        margin: the prediction's margin; None where each run chose its own on validation classes.
    """

    dataset: str
    fingerprint: str
    map: str
    task: str
    select: str
    paper_style: bool
    margin: float | None

    @property
    def ranked_by(self) -> str:
        """The figure that the task goes by."""
        return "H" if self.task == "gzsl" else "acc"

    @property
    def selection(self) -> str:
        """How the weights were chosen, in words."""
        settings = RunSettings(task=self.task, select=self.select, paper_style=self.paper_style)
        return describe_selection(settings, None)


@dataclass(frozen=True)
class Line:
    """Runs that differ only in their seed.

    Attributes:
        rank: from 1; None where the figure to rank by is not known.
        settings: those in which it differs from other lines of its model in the same table.
        seeds: ascending.
        runs: the folders, in the seeds' order.
        figures: mean and standard deviation over the seeds.
    """

    rank: int | None
    model: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Board:
    """One table: the lines of one protocol, the best first.

    Attributes:
        weights: the kind of the backbone's weights.
        masked_images: how many images could not be used.
        watched: runs whose test figures were shown while they trained.
        repeated: runs that do not count, as a later one has the same seed and settings.
    """

    protocol: Protocol
    weights: str
    masked_images: int
    lines: tuple[Line, ...]
    watched: tuple[str, ...]
    repeated: tuple[str, ...]


def compare_runs(measured: Iterable[Measured]) -> list[Board]:
    """Put runs into tables of one protocol each, and their seeds together."""
    by_protocol: dict[Protocol, list[Measured]] = {}
    for one in measured:
        by_protocol.setdefault(protocol_of(one.run), []).append(one)
    return [_board(protocol, by_protocol[protocol]) for protocol in sorted(by_protocol, key=_order)]


def protocol_of(run: Run) -> Protocol:
    """What a run may be ranked by."""
    settings = run.settings
    return Protocol(
        dataset=run.dataset,
        fingerprint=run.manifest["cache"]["fingerprint"],
        map=run.map,
        task=settings.task,
        select=settings.select,
        paper_style=settings.paper_style,
        margin=None if settings.select == "val" else settings.margin,
    )


def differences(protocols: Sequence[Protocol]) -> list[str]:
    """In which respects protocols differ, in words."""
    words = {
        "dataset": "dataset",
        "fingerprint": "features",
        "map": "map of the features",
        "task": "task",
        "select": "selection of the weights",
        "paper_style": "selection of the weights",
        "margin": "margin",
    }
    found = [word for name, word in words.items() if len({getattr(one, name) for one in protocols}) > 1]
    return list(dict.fromkeys(found))


def _board(protocol: Protocol, measured: list[Measured]) -> Board:
    alike: dict[tuple[RunSettings, str], dict[int, Measured]] = {}
    repeated = []
    for one in sorted(measured, key=_age):
        of_seed = alike.setdefault(_all_but_seed(one.run), {})
        earlier = of_seed.get(one.run.settings.seed)
        if earlier:
            repeated.append(str(earlier.run.path))
        of_seed[one.run.settings.seed] = one
    manifest = measured[0].run.manifest
    return Board(
        protocol=protocol,
        weights=manifest["weights"],
        masked_images=manifest["masked_images"],
        lines=_ranked(protocol.ranked_by, [sorted(seeds.items()) for seeds in alike.values()]),
        watched=tuple(str(one.run.path) for one in measured if one.run.manifest.get("watch_test")),
        repeated=tuple(repeated),
    )


def _ranked(by: str, groups: list[list[tuple[int, Measured]]]) -> tuple[Line, ...]:
    settings = _different_settings([seeds[0][1].run for seeds in groups])
    lines = [
        Line(
            rank=None,
            model=seeds[0][1].run.settings.model,
            settings=different,
            seeds=tuple(seed for seed, _ in seeds),
            runs=tuple(str(one.run.path) for _, one in seeds),
            figures={name: spread([one.figures[name] for _, one in seeds]) for name in COMPARED},
        )
        for seeds, different in zip(groups, settings, strict=True)
    ]
    means = [mean for line in lines if (mean := line.figures[by].mean) is not None]
    ranked = [_with_rank(line, line.figures[by].mean, means) for line in lines]
    return tuple(sorted(ranked, key=lambda line: (line.rank is None, line.rank, line.model)))


def _with_rank(line: Line, own: float | None, means: list[float]) -> Line:
    """The same line with its rank: one more than there are better ones, so that equals share it."""
    return line if own is None else dataclasses.replace(line, rank=1 + sum(mean > own for mean in means))


def _different_settings(runs: list[Run]) -> list[dict[str, Any]]:
    """For each run the settings, the seed aside, that are not the same in all runs of its model."""
    described = [_described(run) for run in runs]
    return [
        {
            name: value
            for name, value in own.items()
            if any(other["model"] == own["model"] and other[name] != value for other in described)
        }
        for own in described
    ]


def _described(run: Run) -> dict[str, Any]:
    """All that may differ between lines; of groups of attributes, where they come from and how many they are."""
    described = {name: value for name, value in run.settings.as_json().items() if name != "seed"}
    groups = _groups_of(run)
    source = f"{len(groups['groups'])} from {groups['source']}" if groups else "none"
    return {**described, "groups": source}


def _all_but_seed(run: Run) -> tuple[RunSettings, str]:
    return dataclasses.replace(run.settings, seed=0), json.dumps(_groups_of(run).get("groups"))


def _groups_of(run: Run) -> dict[str, Any]:
    """The groups of attributes as the manifest keeps them; empty where the model takes none."""
    stored = run.manifest.get("groups")
    whole = isinstance(stored, dict) and isinstance(stored.get("groups"), list) and "source" in stored
    return stored if isinstance(stored, dict) and whole else {}


def _age(one: Measured) -> tuple[datetime, str]:
    return datetime.fromisoformat(one.run.manifest["started"]), str(one.run.path)


def _order(protocol: Protocol) -> tuple[Any, ...]:
    margin = -1.0 if protocol.margin is None else protocol.margin
    select = SELECTIONS.index(protocol.select)
    return (
        protocol.dataset,
        protocol.fingerprint,
        protocol.map,
        protocol.task,
        select,
        protocol.paper_style,
        margin,
    )
