"""Trains both models on Plumage with seeds 0-4 and writes the figures into docs/results.md.

Extracts with random weights first, where that has not been done. Evaluation is on the test classes, by the presets,
last epoch; a run that is there already (same settings, same cache) is not trained again.

    python benchmarks/plumage_results.py [--home msdn-home]      (or: make results)
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from msdn.cache import FeatureCache, Home
from msdn.extract.extraction import extract
from msdn.extract.settings import ExtractSettings
from msdn.train.evaluate import evaluate_run
from msdn.train.presets import preset_settings
from msdn.train.runner import train_model
from msdn.train.runs import Run, find_runs
from msdn.train.settings import TrainSettings

SEEDS = range(5)
MODELS = ("baseline", "msdn")
FIGURES = ("acc", "U", "S", "H")
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
BETWEEN_MARKS = re.compile(r"(<!-- figures begin -->\n).*(<!-- figures end -->)", re.DOTALL)

Results = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Train what is missing, evaluate all, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    home = Home(parser.parse_args().home)
    extraction = extract(ExtractSettings("plumage", weights="random"), home)
    results: Results = {model: [] for model in MODELS}
    with FeatureCache(extraction.path) as cache:
        for model in MODELS:
            for seed in SEEDS:
                settings = replace(preset_settings(model, "plumage"), seed=seed)
                run = find_run(home, settings, cache) or train_model(cache, settings, home.runs)
                results[model].append(evaluate_run(run, cache))
                print(model, seed, {name: round(results[model][-1][name], 1) for name in FIGURES}, flush=True)
    tables = "\n".join([*mean_table(results), "", *seed_table(results), "", *ratio_lines(results), ""])
    PAGE.write_text(BETWEEN_MARKS.sub(lambda found: f"{found[1]}{tables}{found[2]}", PAGE.read_text()))
    print(tables)


def find_run(home: Home, settings: TrainSettings, cache: FeatureCache) -> Run | None:
    """A finished run of the same settings on the same features, if there is one."""
    for run in find_runs(home.runs):
        same = run.finished and run.settings == settings
        if same and run.manifest["cache"]["fingerprint"] == cache.fingerprint:
            return run
    return None


def mean_table(results: Results) -> Iterator[str]:
    """Mean and standard deviation over the seeds."""
    yield f"| {len(SEEDS)} seeds, mean ± std | " + " | ".join(FIGURES) + " |"
    yield "|---" * (len(FIGURES) + 1) + "|"
    chance = results[MODELS[0]][0]["chance"]
    yield "| chance | " + " | ".join(f"{chance[name]:.1f}" for name in FIGURES) + " |"
    for model, rows in results.items():
        columns = [[row[name] for row in rows] for name in FIGURES]
        yield f"| {model} | " + " | ".join(f"{mean(c):.1f} ± {stdev(c):.1f}" for c in columns) + " |"


def seed_table(results: Results) -> Iterator[str]:
    """Both models seed by seed."""
    yield "| seed | " + " | ".join(f"{model} {name}" for model in MODELS for name in ("acc", "H")) + " |"
    yield "|---" * (2 * len(MODELS) + 1) + "|"
    for seed in SEEDS:
        cells = [f"{results[model][seed][name]:.1f}" for model in MODELS for name in ("acc", "H")]
        yield f"| {seed} | " + " | ".join(cells) + " |"


def ratio_lines(results: Results) -> Iterator[str]:
    """MSDN against the baseline: ratio of means, and in how many seeds it is ahead."""
    for name in ("acc", "H"):
        ours, theirs = ([row[name] for row in results[model]] for model in ("msdn", "baseline"))
        ahead = sum(a > b for a, b in zip(ours, theirs, strict=True))
        yield f"- {name}: MSDN / baseline = {mean(ours) / mean(theirs):.2f}, ahead in {ahead} of {len(SEEDS)} seeds"


if __name__ == "__main__":
    main()
