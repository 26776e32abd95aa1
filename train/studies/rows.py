"""The rows of a study, what they gave, and what all of them have in common. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msdn.train.loop.settings import RunSettings
from msdn.train.measure.summary import Spread, summarize
from msdn.train.measure.tables import show_value
from msdn.train.models.published import Published
from msdn.train.runs.results import COMPARED


@dataclass(frozen=True)
class StudyRow:
    """One row: settings that are trained with each seed.

    Attributes:
        label: the row in tables.
        settings: what is trained; the seed is the study's.
        facts: columns of its own in files, such as the value of a sweep.
        preset: the preset's name and task, for the manifests.
        overrides: what was changed of the preset, for the manifests and files.
        given: the part of it that was asked for all rows, not for this one.
        published: the paper's figures for this row, where it has some.
    """

    label: str
    settings: RunSettings
    facts: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None


@dataclass(frozen=True)
class RowResult:
    """A row with the results of all seeds, in the seeds' order."""

    row: StudyRow
    results: tuple[dict[str, Any], ...]

    @property
    def figures(self) -> dict[str, Spread]:
        """Mean and standard deviation of acc, U, S, H and AUSUC."""
        return summarize(self.results, COMPARED)

    @property
    def failed(self) -> int:
        """How many seeds' trainings failed."""
        return sum(bool(result.get("failed")) for result in self.results)

    @property
    def seeds(self) -> str:
        """How many seeds there are figures of, as tables show it."""
        count = len(self.results)
        return f"{count - self.failed} of {count}" if self.failed else str(count)

    def values(self, figure: str) -> list[float | None]:
        """A figure of each seed."""
        return [result.get(figure) for result in self.results]


@dataclass(frozen=True)
class Facts:
    """What the figures of all rows belong to.

    Attributes:
        study: the study's name.
        task: the figure that matters: H (gzsl) or acc (czsl).
        measured_on: "test" or "validation" classes.
        selection: the protocol that the rows' weights were chosen by, in words.
        chance: what guessing would reach, in percent.
    """

    study: str
    dataset: str
    fingerprint: str
    weights: str
    image_size: int | None
    masked_images: int
    task: str
    measured_on: str
    selection: str
    chance: dict[str, float]
    seeds: tuple[int, ...]

    @property
    def ranked_by(self) -> str:
        """The figure that the task goes by."""
        return "H" if self.task == "gzsl" else "acc"


def show_overrides(overrides: Mapping[str, Any]) -> str:
    """Changed settings in words: `epochs 2, lambda_cal 0.1`."""
    return ", ".join(f"{name} {show_value(value)}" for name, value in overrides.items())
