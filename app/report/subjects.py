"""The runs that a report tells of, with what is known of each: figures, epochs, scores, and what is missing."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from msdn.cache import FeatureCache, Home
from msdn.cache.errors import MsdnError
from msdn.cache.records import is_number, parse_json, read_text
from msdn.train.loop.settings import RunSettings
from msdn.train.measure.evaluate import ScoredTest, evaluate_run, keep_results
from msdn.train.measure.predictions import Answers, answers_of
from msdn.train.measure.selection import RATE, VALIDATION
from msdn.train.measure.show import show_settings
from msdn.train.models.published import Published, published_figures
from msdn.train.runs.results import check_kept, kept_result
from msdn.train.runs.run import Run, open_run, open_run_cache

log = logging.getLogger(__name__)
Record = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One run in a report.

    Attributes:
        run: the run.
        number: its place in the report, from 0.
        label: what tells it from the others of the report.
        result: what `msdn evaluate` finds; None where nothing was measured and nothing can be.
        cache: its features, open; None where they are not here.
        scores: of all test images; None without the features.
        missing: why there are no features, or no figures.
    """

    run: Run
    number: int
    label: str
    result: dict[str, Any] | None
    cache: FeatureCache | None
    scores: ScoredTest | None
    missing: str

    @cached_property
    def records(self) -> list[Record]:
        """Every epoch's record, oldest first: its phase, and all that is a number."""
        try:
            text = read_text(self.run.metrics)
            if sha256(text.encode()).hexdigest() != self.run.manifest.get("metrics"):
                raise ValueError("damaged, it is not what the run wrote")
            records = [parse_json(line) for line in text.splitlines()]
        except (OSError, ValueError) as error:
            log.warning("%s: not used, it cannot be read (%s)", self.run.metrics, error)
            return []
        whole_ones = [one for one in records if isinstance(one, dict) and isinstance(one.get("epoch"), int)]
        return [
            {name: value for name, value in one.items() if name == "phase" or is_number(value)}
            for one in whole_ones
        ]

    @cached_property
    def answers(self) -> Answers | None:
        """The answers to all test images."""
        if self.scores is None or self.cache is None:
            return None
        return answers_of(self.scores, self.cache)

    @property
    def published(self) -> Published | None:
        """The paper's figures, where this is its dataset, and as large."""
        if self.run.manifest.get("counts_differ"):
            return None
        return published_figures(self.run.settings.model, self.run.dataset)

    def epochs(self, phase: str | None) -> list[Record]:
        """The records of the validation phase, of a search those of the learning rate chosen; or of the other phase."""
        own = [one for one in self.records if (one.get("phase") == VALIDATION) == (phase == VALIDATION)]
        chosen = (self.run.chosen or {}).get(RATE)
        return [one for one in own if chosen is None or one.get(RATE, chosen) == chosen]

    @property
    def searched(self) -> dict[float, list[Record]]:
        """The validation records by learning rate, where several were tried."""
        rates: dict[float, list[Record]] = {}
        for one in self.records:
            if RATE in one:
                rates.setdefault(one[RATE], []).append(one)
        return dict(sorted(rates.items())) if len(rates) > 1 else {}


@contextmanager
def open_subjects(
    home: Home, given: Sequence[Path], device: str, cache: Path | None
) -> Iterator[list[Subject]]:
    """Open runs and their features, and measure them on the test images where that can be done."""
    runs: dict[Path, Run] = {}
    for path in given:
        run = open_run(home.runs, path)
        run.check_finished()
        runs.setdefault(run.path.resolve(), run)
    labels = label_runs([run.settings for run in runs.values()], [run.dataset for run in runs.values()])
    with ExitStack() as stack:
        yield [
            _open(stack, home, run, number, label, device, cache)
            for number, (run, label) in enumerate(zip(runs.values(), labels, strict=True))
        ]


def _open(
    stack: ExitStack, home: Home, run: Run, number: int, label: str, device: str, given: Path | None
) -> Subject:
    scores: list[ScoredTest] = []
    try:
        cache = stack.enter_context(open_run_cache(home, run, given))
        check_kept(run)
        result = evaluate_run(run, cache, device=device, on_scores=scores.append)
    except MsdnError as error:
        if given is not None:
            raise
        return Subject(run, number, label, _kept(run), None, None, str(error))
    keep_results(run, result)
    return Subject(run, number, label, result, cache, scores[0], "")


def _kept(run: Run) -> dict[str, Any] | None:
    """What an earlier evaluation left in the run's folder, where it is whole."""
    result = kept_result(run)
    wanted = {"per_class", "confusion", "class_names", "chance"}
    return result if result is not None and wanted <= result.keys() else None


def label_runs(settings: Sequence[RunSettings], datasets: Sequence[str]) -> list[str]:
    """A short name for each: the model, and of everything else what is not the same in all runs of that model."""
    described = [
        {"dataset": dataset, **one.as_json()} for one, dataset in zip(settings, datasets, strict=True)
    ]
    labels = []
    for own in described:
        rivals = [other for other in described if other["model"] == own["model"]]
        different = {
            name: value for name, value in own.items() if any(other.get(name) != value for other in rivals)
        }
        labels.append(", ".join(filter(None, (own["model"], show_settings(different)))))
    counts = {label: labels.count(label) for label in labels}
    seen: dict[str, int] = {}
    for n, label in enumerate(labels):
        if counts[label] > 1:
            seen[label] = seen.get(label, 0) + 1
            labels[n] = f"{label} ({seen[label]})"
    return labels


def seeds_together(subjects: Sequence[Subject]) -> list[list[Subject]]:
    """Runs that differ only in their seed, of which there are at least two, together."""
    groups: dict[tuple[Any, ...], list[Subject]] = {}
    for one in subjects:
        settings = dataclasses.replace(one.run.settings, seed=0)
        groups.setdefault((one.run.dataset, one.run.manifest["cache"]["fingerprint"], settings), []).append(
            one
        )
    return [group for group in groups.values() if len({one.run.settings.seed for one in group}) > 1]
