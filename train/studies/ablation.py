"""`msdn ablate`: the rows of MSDN's Table 2 on any dataset, and whether the paper's claims hold, seed by seed.

Loads torch only when it runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import click

from msdn.cache import Home
from msdn.cache.home import home_option
from msdn.train.loop.options import SEVERAL_SEEDS, SettingsCommand, amounts_for, dataset_of, study_options
from msdn.train.models.published import published_ablation
from msdn.train.models.rule import Amounts
from msdn.train.studies.study import (
    RowResult,
    Study,
    StudyRow,
    choose_name,
    default_name,
    keep_and_show,
    measure_study,
    model_row,
    study_result,
    study_table,
)

KEY = "key"  # the column that holds a row's key
FIGURES = ("acc", "H")
_DIGITS = 9  # of a difference in points; beyond them the figures' rounding begins


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        key: as in `published_ablation`.
        label: as in the paper.
        model: whose preset it starts from.
        changes: what makes the row; those that no weight depends on share a training with other rows.
    """

    key: str
    label: str
    model: str = "msdn"
    changes: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("baseline", "baseline", "baseline"),
    Variant("va", "MSDN(V→A) w/o distillation", changes={"branches": "va"}),
    Variant("av", "MSDN(A→V) w/o distillation", changes={"branches": "av"}),
    Variant("va-distill", "MSDN(V→A) w/ distillation", changes={"alpha": (0.0, 1.0)}),
    Variant("av-distill", "MSDN(A→V) w/ distillation", changes={"alpha": (1.0, 0.0)}),
    Variant("divergence", "MSDN w/ distillation (JSD)", changes={"distill_parts": "divergence"}),
    Variant("distance", "MSDN w/ distillation (l2)", changes={"distill_parts": "distance"}),
    Variant("full", "MSDN (full)"),
)
SET_BY_ROWS = ("model", "branches", "distill_parts")


@dataclass(frozen=True)
class Claim:
    """The paper's claim that one row is better than others, each of them."""

    text: str
    better: str
    worse: tuple[str, ...]


CLAIMS = (
    Claim("distillation helps V→A", "va-distill", ("va",)),
    Claim("distillation helps A→V", "av-distill", ("av",)),
    Claim("both branches beat one", "full", ("va-distill", "av-distill")),
    Claim("both terms of the distillation beat one", "full", ("divergence", "distance")),
    Claim("MSDN beats the baseline", "full", ("baseline",)),
)


def ablation_rows(
    dataset: str,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    amounts: Amounts | None = None,
) -> tuple[StudyRow, ...]:
    """The rows on a dataset by the presets of their models, or by the rule, which goes by `amounts`.

    `overrides` hold for every row whose model has them.
    """
    published = published_ablation(dataset)
    return tuple(
        model_row(
            dataset,
            one.model,
            one.label,
            preset=preset,
            changes=one.changes,
            common=overrides,
            facts={KEY: one.key},
            published=published.get(one.key),
            amounts=amounts,
        )
        for one in VARIANTS
    )


@dataclass(frozen=True)
class Verdict:
    """How a claim comes out by one figure.

    Attributes:
        claim: what the paper says.
        figure: acc or H.
        differences: of each seed, in points: the row that is said to be better minus the best of the others; empty
            where a figure is not known.
        paper_difference: the same in the paper's table, None where it has none.
    """

    claim: str
    figure: str
    differences: tuple[float, ...]
    paper_difference: float | None

    @property
    def holds_in(self) -> int:
        """The seeds in which it holds; equals do not."""
        return sum(one > 0 for one in self.differences)

    @property
    def words(self) -> str:
        """The outcome for people; a single seed decides nothing."""
        if not self.differences:
            return f"{self.figure}: not known"
        seeds, average = len(self.differences), mean(self.differences)
        paper = "" if self.paper_difference is None else f", paper {self.paper_difference:+.1f}"
        if seeds == 1:
            return f"{self.figure}: one seed: no verdict (difference {average:+.1f}{paper})"
        outcome = "holds only on the mean" if average > 0 else "not confirmed"
        if self.holds_in == seeds:
            outcome = "holds"
        return f"{self.figure}: {outcome} ({self.holds_in} of {seeds} seeds, mean difference {average:+.1f}{paper})"

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {**asdict(self), "holds_in": self.holds_in, "seeds": len(self.differences)}


def check_claims(rows: Sequence[RowResult]) -> list[Verdict]:
    """Every claim by acc and by H, paired by the seed."""
    by_key = {done.row.facts[KEY]: done for done in rows}
    verdicts = []
    for claim in CLAIMS:
        better, worse = by_key[claim.better], [by_key[key] for key in claim.worse]
        for figure in FIGURES:
            paper = [getattr(done.row.published, figure, None) for done in (better, *worse)]
            differences = paired_differences(better, worse, figure)
            verdicts.append(Verdict(claim.text, figure, differences, _lead(paper)))
    return verdicts


def claim_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each claim."""
    by_claim: dict[str, list[str]] = {}
    for one in verdicts:
        by_claim.setdefault(one.claim, []).append(one.words)
    return [f"{claim}: {'; '.join(words)}" for claim, words in by_claim.items()]


def paired_differences(better: RowResult, worse: Sequence[RowResult], figure: str) -> tuple[float, ...]:
    """Of each seed, by how much a row is better than the best of others; empty where a figure is not known."""
    columns = [done.values(figure) for done in (better, *worse)]
    leads = [_lead(of_seed) for of_seed in zip(*columns, strict=True)]
    known = [round(lead, _DIGITS) for lead in leads if lead is not None]
    return tuple(known) if len(known) == len(leads) else ()


def _lead(figures: Sequence[float | None]) -> float | None:
    """By how much the first figure is more than the best of the others; None where one is not known."""
    known = [one for one in figures if one is not None]
    return known[0] - max(known[1:]) if len(known) == len(figures) else None


class AblateCommand(SettingsCommand):
    """Takes MSDN's settings, but for those that make the rows."""

    fixed_model: ClassVar = "msdn"
    refused: ClassVar = {"seed": SEVERAL_SEEDS} | dict.fromkeys(
        SET_BY_ROWS, "each row of the ablation has its own; leave it out"
    )


@click.command(cls=AblateCommand)
@study_options(seeds="0-4")
@home_option
def ablate(
    home: Home,
    dataset: str | None,
    cache: Path | None,
    seeds: tuple[int, ...],
    jobs: int | None,
    threads: int | None,
    device: str,
    precision: str,
    name: str | None,
    as_json: bool,
    preset: str | None,
    **settings: Any,
) -> None:
    """Train the rows of MSDN's Table 2 with several seeds, and say which of the paper's claims are confirmed.

    The rows: the baseline; one branch without distillation; one branch with it; the distillation's divergence alone,
    its distance alone; all of MSDN. Settings given here hold for every row whose model has them. Figures are of the
    test classes, mean ± standard deviation over the seeds. Claims are checked seed by seed; one seed decides none.

    What was trained before is not trained again: to continue an interrupted ablation, repeat the command. If one
    training fails, the others continue, and its row has no mean. Runs are kept in HOME/studies/runs, figures in
    HOME/studies: NAME.csv (each seed), NAME-means.csv and NAME.json.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    dataset = dataset_of(dataset, cache)
    rows = ablation_rows(dataset, preset, overrides, amounts_for(home, dataset, cache))
    name = choose_name(name, default_name(["ablate", dataset], rows))
    from msdn.train.runs.run import open_dataset_cache

    with open_dataset_cache(home, dataset, cache) as opened:
        facts, done = measure_study(
            opened,
            Study(name, rows, seeds, precision=precision),
            home,
            workers=jobs,
            device=device,
            threads=threads,
        )
    verdicts = check_claims(done)
    table = study_table(f"ablation of MSDN on {dataset}, test classes, mean ± std", facts, done)
    claims = [f"  {line}" for line in claim_lines(verdicts)]
    notes = ["the paper's claims here, paired by the seed:", *claims]
    extra = {"claims": [one.as_json() for one in verdicts]}
    keep_and_show(home, study_result(facts, done, table, notes, extra), as_json)
