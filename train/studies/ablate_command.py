"""`msdn ablate`: the rows of MSDN's Table 2 on any dataset. Loads torch only when it runs."""

import json
from pathlib import Path
from typing import Any, ClassVar

import click

from msdn.cache import Home
from msdn.cache.home import dataset_name, home_option
from msdn.train.loop.options import SettingsCommand
from msdn.train.studies.ablation import SET_BY_ROWS, ablation_rows
from msdn.train.studies.claims import check_claims, claim_lines
from msdn.train.studies.options import SEVERAL_SEEDS, choose_name, default_name, study_options
from msdn.train.studies.rows import Facts, RowResult


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
    dataset: str,
    cache: Path | None,
    seeds: tuple[int, ...],
    jobs: int | None,
    device: str,
    threads: int | None,
    name: str | None,
    as_json: bool,
    preset: str | None,
    **settings: Any,
) -> None:
    """Train the rows of MSDN's Table 2 with several seeds, and say which of the paper's claims hold here.

    The rows: the baseline; one branch without distillation; one branch with it; the distillation's divergence alone,
    its distance alone; all of MSDN. Settings given here hold for every row whose model has them. Figures are of the
    test classes, mean ± standard deviation over the seeds; claims are checked seed by seed.

    What was trained before is not trained again: an interrupted ablation goes on with the same command. Where one
    training fails, the others go on, and its row has no mean. Runs are kept in HOME/studies/runs, figures in
    HOME/studies: NAME.csv (each seed), NAME-means.csv and NAME.json.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    dataset = dataset_name(dataset)
    rows = ablation_rows(dataset, preset, overrides)
    name = choose_name(name, default_name(["ablate", dataset], rows))
    from msdn.train.runs.run import open_dataset_cache
    from msdn.train.studies.measure import measure_study
    from msdn.train.studies.study import Study

    with open_dataset_cache(home, dataset, cache) as opened:
        facts, done = measure_study(
            opened, Study(name, rows, seeds), home, workers=jobs, device=device, threads=threads
        )
    _report(home, facts, done, as_json)


def _report(home: Home, facts: Facts, rows: list[RowResult], as_json: bool) -> None:
    from msdn.train.measure.tables import print_table
    from msdn.train.studies.files import study_json
    from msdn.train.studies.measure import keep_study
    from msdn.train.studies.view import study_notes, study_table

    verdicts = check_claims(rows)
    extra = {"claims": [one.as_json() for one in verdicts]}
    keep_study(home, facts, rows, extra)
    if as_json:
        click.echo(json.dumps(study_json(facts, rows, extra)))
        return
    title = f"ablation of MSDN on {facts.dataset}, test classes, mean ± std"
    claims = [
        "the paper's claims here, paired by the seed:",
        *(f"  {line}" for line in claim_lines(verdicts)),
    ]
    print_table(study_table(title, facts, rows), [*study_notes(facts, rows), *claims])
