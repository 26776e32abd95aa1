"""Mean and standard deviation over seeds. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Spread:
    """One figure over several seeds.

    Attributes:
        mean: None where a seed could not tell.
        std: the sample's (n − 1), None of fewer than two.
        count: the seeds.
    """

    mean: float | None
    std: float | None
    count: int

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {"mean": self.mean, "std": self.std, "seeds": self.count}


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of a figure's values, one of each seed."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Spread(None, None, len(values))
    return Spread(mean(known), stdev(known) if len(known) > 1 else None, len(known))


def summarize(results: Sequence[Mapping[str, Any]], figures: Iterable[str]) -> dict[str, Spread]:
    """Each figure's spread over the results of several seeds."""
    return {name: spread([result.get(name) for result in results]) for name in figures}


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as typed, such as `0-4` or `0,3,7-9`; raises a `ValueError` for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdigit()) or (dash and not (last.isascii() and last.isdigit())):
            raise ValueError(f"'{part.strip()}' is neither a seed nor a range such as 0-4")
        numbers = range(int(first), int(last or first) + 1)
        if not 0 < len(numbers) <= 1000:
            raise ValueError(f"'{part.strip()}' is not a range of 1 to 1000 seeds in ascending order")
        seeds += numbers
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"'{text}' names a seed twice")
    return tuple(seeds)
