"""A study: rows of settings, each trained with the same seeds; its facts, its table, and its files.

What was done before is not trained again. Loads torch only when it runs.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdn.cache import FeatureCache, Home, layout
from msdn.cache.errors import WrongUsageError
from msdn.terminal import say
from msdn.train.loop.options import choose_settings, preset_of
from msdn.train.loop.settings import TASKS, RunSettings
from msdn.train.measure.reporting import (
    counts_note,
    groups_line,
    preset_words,
    provenance_notes,
    reconstruction_notes,
    study_learning_notes,
    training_notes,
)
from msdn.train.measure.selection import COMPARED, VALIDATION, describe_selection
from msdn.train.measure.show import Cell, Line, Result, Table, show, show_settings, show_value, write
from msdn.train.measure.summary import Spread, summarize
from msdn.train.models.presets import PRESET_NAMES
from msdn.train.models.published import PAPER_FIGURES, Published
from msdn.train.models.registry import find_model
from msdn.train.models.rule import Amounts

if TYPE_CHECKING:
    from msdn.train.groups.groups import AttributeGroups
    from msdn.train.studies.series import Job

MODEL = "model"  # the column that holds a row's model
_OF_A_RUN = ("margin", "epochs", "training_seconds", "parameters", "watch_test", "run", "failed")
_OF_ALL = ("dataset", "weights", "image_size", "fingerprint", "measured_on")
_PAPER = ("acc", "H")  # what a study's table shows of a paper
_LONGEST = 80  # letters of a file's name that tell the changed settings; more become a hash
_TOLD_APART = ("model", "task", "select", "paper_style")  # by labels, the preset's name, and the selection


@dataclass(frozen=True)
class StudyRow:
    """One row: settings that are trained with each seed.

    Attributes:
        label: the row in tables.
        settings: what is trained; the seed is the study's.
        facts: columns of its own in files, such as the value of a sweep.
        preset: the preset's name and task, for the manifests; None where the rule stands in for it.
        overrides: what was changed of the preset, for the manifests and files.
        given: the part of it that was asked for all rows, not for this one.
        published: the paper's figures for this row, where it has some.
        rule: what the rule for data without a preset chose, each setting with its reason.
    """

    label: str
    settings: RunSettings
    facts: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None
    rule: dict[str, str] | None = None

    @property
    def origin(self) -> str:
        """Where the settings come from, in words."""
        return preset_words(self.settings, self.preset, self.rule)


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
    """What the figures of all rows belong to; task and selection are a row's own.

    Attributes:
        study: the study's name.
        counts_differ: whether the splits are not as large as the dataset's, so that no published figure fits.
        measured_on: "test" or "validation" classes.
        chance: what guessing would reach, in percent.
    """

    study: str
    dataset: str
    fingerprint: str
    weights: str
    image_size: int | None
    masked_images: int
    counts_differ: bool
    measured_on: str
    chance: dict[str, float]
    seeds: tuple[int, ...]

    def selection(self, row: StudyRow) -> str:
        """The protocol that a row's weights were chosen by, in words."""
        if self.measured_on != VALIDATION:
            return describe_selection(row.settings, None)
        by = row.settings.ranked_by
        return (
            f"val (epochs chosen by {by} and margin by H on the validation classes; no test image was read)"
        )


@dataclass(frozen=True)
class Study:
    """What to train: every row with every seed.

    Attributes:
        name: of its files.
        rows: what is compared.
        seeds: the same for all rows, so that rows can be compared seed by seed.
        validate_only: with `select="val"`, measure on validation classes and look at no test image.
        groups: of attributes, for the rows whose model takes them; None means as `choose_groups` finds them.
        precision: of the large products, as `train_model` takes it.
    """

    name: str
    rows: tuple[StudyRow, ...]
    seeds: tuple[int, ...]
    validate_only: bool = False
    groups: "AttributeGroups | None" = None
    precision: str = "auto"

    def jobs(self) -> "list[Job]":
        """One job for each seed of each row, row by row."""
        return [self._job(row, seed) for row in self.rows for seed in self.seeds]

    def _job(self, row: StudyRow, seed: int) -> "Job":
        from msdn.train.studies.series import Job

        settings = dataclasses.replace(row.settings, seed=seed)
        overrides = {**row.overrides, "seed": seed}
        what: dict[str, Any] = {"precision": self.precision, "label": row.label, "rule": row.rule}
        return Job(settings, self.groups, row.preset, overrides, self.validate_only, **what)


def model_row(
    dataset: str,
    model: str,
    label: str,
    *,
    preset: str | None = None,
    changes: Mapping[str, Any] | None = None,
    common: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    published: Published | None = None,
    amounts: Amounts | None = None,
) -> StudyRow:
    """The row of a model by its preset, the released code's where none is named; or by the rule, where there is none.

    `changes` make the row; `common` holds what was asked for all rows, of which a row takes what its model has;
    `amounts` is what the rule goes by.
    """
    given = find_model(model).select(common or {})
    chosen = choose_settings(dataset, preset, {**given, **(changes or {})}, model, amounts)
    facts = facts or {}
    return StudyRow(
        label, chosen.settings, facts, chosen.preset, chosen.overrides, given, published, chosen.rule
    )


def measure_study(
    cache: FeatureCache,
    study: Study,
    home: Home,
    *,
    workers: int | None,
    device: str,
    threads: int | None = None,
) -> tuple[Facts, list[RowResult]]:
    """Train what is missing of a study, measure every row with every seed, and say on stderr how far it is.

    The runs of all studies stay in the home, and those that fit are used. `run_jobs` says what workers, device and
    threads are.
    """
    from msdn.train.groups.choose import choose_groups
    from msdn.train.studies.series import run_jobs

    facts = study_facts(cache, study)
    if facts.counts_differ:
        rows = tuple(dataclasses.replace(row, published=None) for row in study.rows)
        study = dataclasses.replace(study, rows=rows)
    for note in provenance_notes(facts.weights, facts.masked_images):
        say(note)
    for origin in dict.fromkeys(row.origin for row in study.rows if row.rule is not None):
        say(f"preset: {origin}")
    if any(find_model(row.settings.model).takes_groups for row in study.rows):
        say(groups_line((study.groups or choose_groups(cache.annotations)).as_json()))
    results = run_jobs(
        cache, study.jobs(), home.studies / "runs", workers=workers, device=device, threads=threads or 1
    )
    count = len(study.seeds)
    of_rows = [tuple(results[start : start + count]) for start in range(0, len(results), count)]
    return facts, [RowResult(row, own) for row, own in zip(study.rows, of_rows, strict=True)]


def study_facts(cache: FeatureCache, study: Study) -> Facts:
    """The facts of a study on the features of a cache."""
    from msdn.train.measure.evaluate import facts_of

    common = facts_of(cache)
    if study.validate_only:
        common["chance"] = _validation_chance(cache)
    return Facts(
        study=study.name,
        image_size=cache.provenance.get("image_size"),
        counts_differ=layout.COUNTS in cache.provenance,
        measured_on=VALIDATION if study.validate_only else "test",
        seeds=study.seeds,
        **common,
    )


def _validation_chance(cache: FeatureCache) -> dict[str, float]:
    from msdn.train.loop.batches import validation_division
    from msdn.train.measure.metrics import chance_levels

    problem = validation_division(cache).problem
    chance = chance_levels(len(problem.attributes), len(problem.unseen))
    return {name: 100 * level for name, level in chance.items()}


def study_result(
    facts: Facts,
    rows: Sequence[RowResult],
    table: Table,
    notes: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Result:
    """All of a study: `notes` and, in its JSON, `extra` are what this kind of study adds.

    Task and selection of the whole are null in JSON where rows differ in them.
    """
    lines = {
        "": [line for done in rows for line in _seed_lines(facts, done)],
        "-means": [_mean_line(facts, done) for done in rows],
    }
    of_rows = [_row_json(facts, done) for done in rows]
    common = {
        name: of_rows[0][name] if len({row[name] for row in of_rows}) == 1 else None
        for name in ("task", "selection")
    }
    content = {**dataclasses.asdict(facts), **common, **(extra or {}), "rows": of_rows}
    return Result(content, [table], [*study_notes(facts, rows), *notes], lines)


def default_name(words: Sequence[str], rows: Sequence[StudyRow]) -> str:
    """The name of a study's files: these words, then task and preset if not the default ones, and changed settings."""
    preset, task = preset_of(rows[0].preset), rows[0].settings.task
    unusual = [task] * (task != TASKS[0]) + [Path(preset).stem] * (preset != PRESET_NAMES[0])
    given = changed_settings(rows, but_for=("model", "task", "select"))
    changed = [f"{name}_{show_value(value)}" for name, value in given.items()]
    told = "-".join(re.sub(r"[^\w.+-]+", "_", one) for one in changed)
    if len(told) > _LONGEST:
        told = sha256(told.encode()).hexdigest()[:8]
    return "-".join([*words, *unusual, *filter(None, [told])])


def choose_name(name: str | None, default: str) -> str:
    """The name of a study's files; one that a path is hidden in is refused."""
    if name is None:
        return default
    if not name.strip(".") or Path(name).name != name:
        raise WrongUsageError(
            f"--name is '{name}', expected a file's name without a folder, such as first-try"
        )
    return name


def keep_and_show(home: Home, result: Result, as_json: bool) -> None:
    """Write a study's files into the home, say on stderr where they are, and print it."""
    keep_study(home, result)
    show(result, as_json)


def keep_study(home: Home, result: Result) -> None:
    """Write a study's files into the home, and say on stderr where they are."""
    for path in write(result, home.studies, result.facts["study"]):
        say(f"written: {path}")


def study_table(title: str, facts: Facts, rows: Sequence[RowResult]) -> Table:
    """Mean ± standard deviation of each row, with chance and, where there are any, the paper's figures."""
    paper = _PAPER if any(done.row.published for done in rows) else ()
    chance = [facts.chance.get(name, "") for name in COMPARED]
    cells: list[list[Cell]] = [["chance", *chance, "", *("" for _ in paper)]]
    for done in rows:
        published = [getattr(done.row.published, name, None) for name in paper]
        cells.append([done.row.label, *done.figures.values(), done.seeds, *published])
    return Table(("", *COMPARED, "seeds", *(f"paper {name}" for name in paper)), cells, title)


def study_notes(facts: Facts, rows: Sequence[RowResult]) -> list[str]:
    """What the figures belong to, what to know of single trainings, and where the paper's figures are from."""
    pixels = "image size unknown" if facts.image_size is None else f"images of {facts.image_size} pixels"
    lines = [
        f"measured on: {facts.measured_on} classes, seeds {' '.join(map(str, facts.seeds))}",
        *_selection_lines(facts, rows),
        f"features: {facts.fingerprint[:12]} ({facts.weights} weights, {pixels})",
        *_preset_line(rows),
    ]
    papers = dict.fromkeys(done.row.published for done in rows if done.row.published)
    lines += dict.fromkeys(f"paper: {one.source}, {one.selection}" for one in papers)
    if facts.counts_differ:
        lines.append(counts_note(facts.dataset))
    lines += reconstruction_notes(done.row.settings.model for done in rows)
    trained = [(f"{done.row.label}, seed {one['seed']}", one) for done in rows for one in done.results]
    goes_by = [
        (done.row.label, by, done.figures[by].mean) for done in rows for by in [done.row.settings.ranked_by]
    ]
    lines += study_learning_notes(goes_by, facts.chance)
    return lines + training_notes(trained) + provenance_notes(facts.weights, facts.masked_images)


def _selection_lines(facts: Facts, rows: Sequence[RowResult]) -> list[str]:
    """How the weights were chosen, once where it is the same for all rows."""
    labels: dict[str, list[str]] = {}
    for done in rows:
        labels.setdefault(facts.selection(done.row), []).append(done.row.label)
    if len(labels) == 1:
        return [f"selection: {selection}" for selection in labels]
    return [f"selection of {', '.join(of)}: {selection}" for selection, of in labels.items()]


def _preset_line(rows: Sequence[RowResult]) -> list[str]:
    """The presets, or what the rule chose, and what was changed of them in all rows that have the setting."""
    origins = dict.fromkeys(done.row.origin for done in rows if done.row.preset or done.row.rule is not None)
    given = changed_settings([done.row for done in rows], but_for=_TOLD_APART)
    changed = f"changed: {show_settings(given)}" if given else "nothing changed"
    return [f"preset: {', '.join(origins)}; {changed}"] if origins else []


def changed_settings(rows: Sequence[StudyRow], but_for: Sequence[str]) -> dict[str, Any]:
    """What was changed of the presets in all rows that have the setting, but for some settings."""
    given = {name: value for row in rows for name, value in row.given.items()}
    return {name: value for name, value in given.items() if name not in but_for}


def _row_json(facts: Facts, done: RowResult) -> dict[str, Any]:
    row = done.row
    settings = {name: value for name, value in row.settings.as_json().items() if name != "seed"}
    return {
        "label": row.label,
        "task": row.settings.task,
        **row.facts,
        "selection": facts.selection(row),
        "reconstruction": find_model(row.settings.model).reconstruction or None,
        "preset": row.preset,
        "rule": row.rule,
        "overrides": dict(row.overrides),
        "settings": settings,
        "summary": {name: one.as_json() for name, one in done.figures.items()},
        "seeds": [_seed_figures(result) for result in done.results],
        "paper": row.published and dataclasses.asdict(row.published),
    }


def _seed_lines(facts: Facts, done: RowResult) -> list[Line]:
    names, common = {"row": done.row.label, **done.row.facts}, _common(facts, done)
    return [{**names, **_seed_figures(result), **common} for result in done.results]


def _seed_figures(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result.get(name) for name in ("seed", *COMPARED, *_OF_A_RUN)}


def _mean_line(facts: Facts, done: RowResult) -> Line:
    line: dict[str, Any] = {"row": done.row.label, **done.row.facts}
    line |= {"seeds": len(done.results), "failed": done.failed}
    for name, one in done.figures.items():
        line |= {name: one.mean, f"{name}_std": one.std}
    line |= {f"paper_{name}": getattr(done.row.published, name, None) for name in PAPER_FIGURES}
    return line | _common(facts, done)


def _common(facts: Facts, done: RowResult) -> dict[str, Any]:
    """What a row's lines end with in both files."""
    changed = {"preset": done.row.origin, "overrides": show_settings(done.row.overrides)}
    of_all = {name: getattr(facts, name) for name in _OF_ALL}
    return {**changed, **of_all, "selection": facts.selection(done.row)}
