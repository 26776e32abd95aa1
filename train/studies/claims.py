"""Whether the paper's claims hold here, seed by seed. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from msdn.train.studies.ablation import CLAIMS, KEY, Claim
from msdn.train.studies.rows import RowResult

FIGURES = ("acc", "H")
_DIGITS = 9  # of a difference in points; beyond them the figures' rounding begins


@dataclass(frozen=True)
class Verdict:
    """How a claim comes out by one figure.

    Attributes:
        claim: what the paper says.
        figure: acc or H.
        differences: of each seed, in points: the row that is said to be better minus the best of the others; empty
            where a figure is not known.
        published: the same difference in the paper's table, None where it has none.
    """

    claim: str
    figure: str
    differences: tuple[float, ...]
    published: float | None

    @property
    def holds_in(self) -> int:
        """The seeds in which it holds; equals do not."""
        return sum(one > 0 for one in self.differences)

    @property
    def words(self) -> str:
        """The outcome for people."""
        if not self.differences:
            return f"{self.figure}: cannot be told"
        seeds, average = len(self.differences), mean(self.differences)
        outcome = "holds on the mean alone" if average > 0 else "does not show"
        if self.holds_in == seeds:
            outcome = "holds"
        paper = "" if self.published is None else f", paper {self.published:+.1f}"
        return f"{self.figure}: {outcome} ({self.holds_in} of {seeds} seeds, mean difference {average:+.1f}{paper})"

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "claim": self.claim,
            "figure": self.figure,
            "holds_in": self.holds_in,
            "seeds": len(self.differences),
            "differences": list(self.differences),
            "paper_difference": self.published,
        }


def check_claims(rows: Sequence[RowResult]) -> list[Verdict]:
    """Every claim by acc and by H, paired by the seed."""
    by_key = {done.row.facts[KEY]: done for done in rows}
    return [_check(claim, by_key, figure) for claim in CLAIMS for figure in FIGURES]


def claim_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each claim."""
    by_claim: dict[str, list[str]] = {}
    for one in verdicts:
        by_claim.setdefault(one.claim, []).append(one.words)
    return [f"{claim}: {'; '.join(words)}" for claim, words in by_claim.items()]


def paired_differences(better: RowResult, worse: Sequence[RowResult], figure: str) -> tuple[float, ...]:
    """Of each seed, by how much a row is better than the best of others; empty where a figure is not known."""
    columns = [better.values(figure), *(one.values(figure) for one in worse)]
    known = [[value for value in of_seed if value is not None] for of_seed in zip(*columns, strict=True)]
    if any(len(of_seed) < len(columns) for of_seed in known):
        return ()
    return tuple(round(own - max(others), _DIGITS) for own, *others in known)


def _check(claim: Claim, by_key: Mapping[str, RowResult], figure: str) -> Verdict:
    better, worse = by_key[claim.better], [by_key[key] for key in claim.worse]
    return Verdict(
        claim.text,
        figure,
        paired_differences(better, worse, figure),
        _published(better, worse, figure),
    )


def _published(better: RowResult, worse: Sequence[RowResult], figure: str) -> float | None:
    own, *others = (getattr(done.row.published, figure, None) for done in (better, *worse))
    known = [value for value in others if value is not None]
    return None if own is None or len(known) < len(others) else own - max(known)
