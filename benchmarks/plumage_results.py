"""Trains all models and MSDN's ablation on Plumage with seeds 0-4 and writes the figures into docs/results.md.

MSDN by Plumage's preset is compared with MSDN by CUB's published settings with seeds of their own, 20-24.

Extracts with random weights first, where that has not been done. Evaluation is on the test classes, by the presets,
last epoch. As many trainings at once as there are cores, up to eight, with a core each where there are no more; what
is trained already (same settings, same features) is not trained again.

    python benchmarks/plumage_results.py [--home msdn-home]      (or: make results)
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from msdn.cache import FeatureCache, Home
from msdn.cache.files import replace_file
from msdn.extract.pipeline.extraction import extract
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.train.measure.selection import COMPARED
from msdn.train.measure.show import show_cell
from msdn.train.measure.summary import parse_seeds
from msdn.train.models.msdn_plus import COUNTERFACTUALS
from msdn.train.models.presets import preset_settings
from msdn.train.models.published import published_figures
from msdn.train.studies.ablation import ablation_rows, check_claims, claim_lines, paired_differences
from msdn.train.studies.study import (
    MODEL,
    Facts,
    RowResult,
    Study,
    StudyRow,
    keep_study,
    measure_study,
    model_row,
    study_notes,
    study_result,
    study_table,
)

DATASET = "plumage"
FRESH_SEEDS = "20-24"  # used by nothing else: neither by the choice of the preset nor by the other tables
BASELINE, PAIRED = "baseline", ("acc", "H")
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"


def main() -> None:
    """Train what is missing, measure all, write the tables."""
    options = read_options()
    read_page(options.page)  # refuses a page that could not be written later
    home, overrides = Home(options.home), {"epochs": options.epochs} if options.epochs else {}
    extraction = extract(ExtractSettings(DATASET, weights="random", precision="float32"), home)
    with FeatureCache(extraction.path) as cache:

        def measure(
            name: str, rows: tuple[StudyRow, ...], seeds: tuple[int, ...] = options.seeds
        ) -> tuple[Facts, list[RowResult]]:
            study = Study(f"{DATASET}-{name}", rows, seeds, precision="float32")
            facts, done = measure_study(cache, study, home, workers=options.jobs, device=options.device)
            keep_study(home, study_result(facts, done, study_table(name, facts, done)))
            if any(one.failed for one in done):
                raise SystemExit("\n".join(study_notes(facts, done)))
            return facts, done

        facts, models = measure("models", model_rows(overrides))
        _, ablation = measure("ablation", ablation_rows(DATASET, overrides=overrides))
        fresh, gain = measure("preset", preset_rows(overrides), options.fresh_seeds)
    text = "\n".join([*page_lines(facts, models, ablation), "", *preset_lines(fresh, gain), ""])
    print(text)
    write_page(options.page, text)


def read_options() -> argparse.Namespace:
    """What was typed; `--epochs`, `--seeds` and `--page` are there to try the script out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, help="trainings at once")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("0-4"))
    parser.add_argument("--fresh-seeds", type=parse_seeds, default=parse_seeds(FRESH_SEEDS))
    parser.add_argument(
        "--epochs", type=int, help="this many epochs instead of each preset's, to try the script out"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the marks to write between")
    return parser.parse_args()


def read_page(page: Path, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """The page's text; ends the program with a sentence where there is no place for the figures in it."""
    try:
        text = page.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise SystemExit(f"{page}: cannot be read ({error}); give another --page") from error
    if not _between(marks).search(text):
        raise SystemExit(
            f"{page}: has no place for the figures; give it the lines '{marks[0]}' and '{marks[1]}', in this order"
        )
    return text


def write_page(page: Path, figures: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put the figures between the page's marks."""
    text = _between(marks).sub(lambda found: f"{found[1]}{figures}{found[2]}", read_page(page, marks))
    replace_file(page, text.encode())


def _between(marks: tuple[str, str]) -> re.Pattern[str]:
    return re.compile(f"({marks[0]}\n).*({marks[1]})", re.DOTALL)


def model_rows(overrides: dict[str, Any]) -> tuple[StudyRow, ...]:
    """Every model by its own preset; MSDN++ with each of its counterfactuals."""
    members: list[tuple[str, dict[str, str]]] = [(name, {}) for name in ("baseline", "dazle", "msdn")]
    members += [("msdn++", {"counterfactual": name}) for name in COUNTERFACTUALS]
    return tuple(
        model_row(
            DATASET,
            model,
            ", ".join([model, *(f"{value} {name}" for name, value in changes.items())]),
            changes=changes,
            common=overrides,
            facts={MODEL: model},
            published=published_figures(model, DATASET),
        )
        for model, changes in [*members, ("dedn", {})]
    )


def preset_rows(overrides: dict[str, Any]) -> tuple[StudyRow, ...]:
    """MSDN by the settings published for CUB, and by Plumage's preset, both with `--select val`."""
    return tuple(
        StudyRow(label, replace(preset_settings("msdn", dataset), select="val", **overrides))
        for label, dataset in (("CUB's published settings", "cub"), ("Plumage's preset", DATASET))
    )


def preset_lines(facts: Facts, rows: Sequence[RowResult]) -> Iterator[str]:
    """What Plumage's preset gains over the published settings, seed by seed."""
    published, ours = rows
    yield from ["### Plumage's preset against the published settings", ""]
    yield from [f"Seeds {FRESH_SEEDS}; selection: {facts.selection(published.row)}.", ""]
    yield from [*mean_table(facts, rows), "", *seed_table(facts, published, ours), ""]
    yield from [f"- {line}" for line in ratio_lines(ours, published)]


def page_lines(facts: Facts, models: Sequence[RowResult], ablation: Sequence[RowResult]) -> Iterator[str]:
    """Everything between the marks."""
    by_model = {done.row.facts[MODEL]: done for done in models}
    yield f"Features {facts.fingerprint[:12]}, {facts.weights} weights; selection: {facts.selection(models[0].row)}."
    yield from ["", "### All models", "", *mean_table(facts, models), ""]
    yield from [*against_baseline(by_model[BASELINE], models), ""]
    yield from [*seed_table(facts, by_model[BASELINE], by_model["msdn"]), ""]
    yield from [f"- {line}" for line in ratio_lines(by_model["msdn"], by_model[BASELINE])]
    yield from ["", "### The rows of the MSDN paper's Table 2", "", *mean_table(facts, ablation), ""]
    yield from ["What the paper claims by that table, here, paired by the seed:", ""]
    yield from [f"- {line}" for line in claim_lines(check_claims(ablation))]


def mean_table(facts: Facts, rows: Sequence[RowResult]) -> Iterator[str]:
    """Mean and standard deviation over the seeds, with what the training cost."""
    names = (*COMPARED, "training, s", "parameters")  # of one training, while others use the other cores
    yield table_line([f"{len(facts.seeds)} seeds, mean ± std", *names])
    yield "|---" * (len(names) + 1) + "|"
    chance = [show_cell(facts.chance.get(name, "")) for name in COMPARED]
    yield table_line(["chance", *chance, "", ""])
    for done in rows:
        seconds = mean(result["training_seconds"] for result in done.results)
        figures = [show_cell(one) for one in done.figures.values()]
        yield table_line([done.row.label, *figures, f"{seconds:.0f}", f"{done.results[0]['parameters']:,}"])


def against_baseline(baseline: RowResult, models: Sequence[RowResult]) -> Iterator[str]:
    """By how much every other model is ahead of the baseline, and which are not."""
    behind = []
    for done in models:
        if done is baseline:
            continue
        parts = []
        for name in PAIRED:
            ahead = paired_differences(done, [baseline], name)
            parts.append(
                f"{name} {mean(ahead):+.1f} (ahead in {sum(d > 0 for d in ahead)} of {len(ahead)} seeds)"
            )
            if mean(ahead) <= 0:
                behind.append(f"{done.row.label} by {name}")
        yield f"- {done.row.label} against the baseline: {', '.join(parts)}"
    yield ""
    if behind:
        yield f"**Not ahead of the baseline on the mean:** {'; '.join(behind)}."
    else:
        yield "Every other model is ahead of the baseline on the mean, by acc and by H."


def seed_table(facts: Facts, *rows: RowResult) -> Iterator[str]:
    """Rows seed by seed."""
    yield table_line(["seed", *(f"{done.row.label} {name}" for done in rows for name in PAIRED)])
    yield "|---" * (len(PAIRED) * len(rows) + 1) + "|"
    for number, seed in enumerate(facts.seeds):
        yield table_line(
            [str(seed), *(f"{done.values(name)[number]:.1f}" for done in rows for name in PAIRED)]
        )


def ratio_lines(ours: RowResult, theirs: RowResult) -> Iterator[str]:
    """One model against another: ratio of means, and in how many seeds it is ahead."""
    for name in PAIRED:
        ahead = paired_differences(ours, [theirs], name)
        spread = f" ± {stdev(ahead):.1f}" if len(ahead) > 1 else ""
        held = sum(difference > 0 for difference in ahead)
        yield (
            f"{name}: {ours.row.label} − {theirs.row.label} = {mean(ahead):+.1f}{spread} points, "
            f"{ratio(ours, theirs, name)} times as high, ahead in {held} of {len(ahead)} seeds"
        )


def ratio(ours: RowResult, theirs: RowResult, name: str) -> str:
    """How many times as high a mean is; a dash above zero."""
    above, below = ours.figures[name].mean, theirs.figures[name].mean
    return f"{above / below:.2f}" if above is not None and below else "–"


def table_line(cells: Sequence[Any]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
