"""`msdn compare`: a leaderboard of runs: seeds put together, lines ranked only on the same features by one protocol.

Loads torch only where a run has to be measured first.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from msdn.cache.files import check_folder, replace_file
from msdn.cache.home import Home, dataset_name, home_option
from msdn.terminal import escape, json_option, say
from msdn.train.errors import RunError
from msdn.train.loop.settings import SELECTIONS, RunSettings
from msdn.train.measure.latex import latex
from msdn.train.measure.reporting import (
    WATCHED,
    counts_note,
    preset_words,
    provenance_notes,
    reconstruction_notes,
)
from msdn.train.measure.selection import describe_selection
from msdn.train.measure.show import Line as CsvLine
from msdn.train.measure.show import Result, Table, csv_text, show, show_settings, show_value
from msdn.train.measure.summary import Spread, spread
from msdn.train.models.presets import preset_settings
from msdn.train.models.published import PAPER_FIGURES, Published, published_figures
from msdn.train.models.registry import choose_model, find_model, use_home
from msdn.train.runs.results import COMPARED, LeftOut, Measured, collect_results
from msdn.train.runs.run import Run, how_to_train

_SAID_ABOVE = ("task", "select", "paper_style")  # settings that a table's heading names
_NAMED = 3  # folders that a note names before it counts the rest


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


@dataclass(frozen=True)
class Line:
    """Runs that differ only in their seed.

    Attributes:
        rank: from 1; None where the figure to rank by is not known.
        settings: those that are not the preset's, and those in which it differs from other lines of its model.
        seeds: ascending.
        runs: the folders, in the seeds' order.
        figures: mean and standard deviation over the seeds.
        reconstruction: what to say of a model whose method's text was not available.
        rule: what the rule chose, in words, where the dataset has no preset.
    """

    rank: int | None
    model: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    figures: dict[str, Spread]
    reconstruction: str | None
    rule: str | None


@dataclass(frozen=True)
class Board:
    """One table: the lines of one protocol, the best first.

    Attributes:
        ranked_by: the figure that the task goes by.
        selection: how the weights were chosen, in words.
        weights: the kind of the backbone's weights.
        masked_images: how many images could not be used.
        counts_differ: whether the splits are not as large as the dataset's, so that no published figure fits.
        watched: runs whose test figures were shown while they trained.
        repeated: runs that do not count, as a later one has the same seed and settings.
    """

    protocol: Protocol
    ranked_by: str
    selection: str
    weights: str
    masked_images: int
    counts_differ: bool
    lines: tuple[Line, ...]
    watched: tuple[str, ...]
    repeated: tuple[str, ...]

    @property
    def papers(self) -> dict[str, Published]:
        """The papers' figures of the models in the table."""
        if self.counts_differ:
            return {}
        models = dict.fromkeys(line.model for line in self.lines)
        found = {model: published_figures(model, self.protocol.dataset) for model in models}
        return {model: one for model, one in found.items() if one}


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
    first = measured[0].run
    return Board(
        protocol=protocol,
        ranked_by=first.settings.ranked_by,
        selection=describe_selection(first.settings, None),
        weights=first.manifest["weights"],
        masked_images=first.manifest["masked_images"],
        counts_differ=any(bool(one.run.manifest.get("counts_differ")) for one in measured),
        lines=_ranked(first.settings.ranked_by, [sorted(seeds.items()) for seeds in alike.values()]),
        watched=tuple(str(one.run.path) for one in measured if one.run.manifest.get("watch_test")),
        repeated=tuple(repeated),
    )


def _ranked(by: str, groups: list[list[tuple[int, Measured]]]) -> tuple[Line, ...]:
    """A line for each group of seeds, the best mean first; equals share a rank."""
    described = [_described(seeds[0][1].run) for seeds in groups]
    figures = [
        {name: spread([one.figures[name] for _, one in seeds]) for name in COMPARED} for seeds in groups
    ]
    means = [mean for of_line in figures if (mean := of_line[by].mean) is not None]
    lines = []
    for seeds, own, of_line in zip(groups, described, figures, strict=True):
        mean, alike = of_line[by].mean, [other for other in described if other["model"] == own["model"]]
        lines.append(
            Line(
                rank=None if mean is None else 1 + sum(other > mean for other in means),
                model=own["model"],
                settings=_told_settings(seeds[0][1].run, own, alike),
                seeds=tuple(seed for seed, _ in seeds),
                runs=tuple(str(one.run.path) for _, one in seeds),
                figures=of_line,
                reconstruction=find_model(own["model"]).reconstruction or None,
                rule=_rule_words(seeds[0][1].run),
            )
        )
    return tuple(sorted(lines, key=lambda line: (line.rank is None, line.rank, line.model)))


def _told_settings(run: Run, own: dict[str, Any], alike: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a line names: what is not the same in all lines of its model, or not as in the dataset's preset."""
    said = _SAID_ABOVE + (() if run.settings.select == "val" else ("margin",))
    changed = _changed_settings(run, own) - set(said)
    return {
        name: value
        for name, value in own.items()
        if name in changed or any(other[name] != value for other in alike)
    }


def _changed_settings(run: Run, own: dict[str, Any]) -> set[str]:
    """The settings that are not the preset's; or where a rule for such data stood in for it, those typed."""
    if run.manifest.get("rule") is not None:
        return set(run.manifest.get("overrides") or {}) - {"model"}
    usual = preset_settings(run.settings.model, run.dataset, task=run.settings.task).as_json()
    return {name for name, value in own.items() if usual.get(name, value) != value}


def _rule_words(run: Run) -> str | None:
    """Where the settings come from if the dataset has no preset."""
    rule = run.manifest.get("rule")
    return None if rule is None else preset_words(run.settings, run.manifest.get("preset"), rule)


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
    if isinstance(stored, dict) and isinstance(stored.get("groups"), list) and "source" in stored:
        return stored
    return {}


def _age(one: Measured) -> tuple[datetime, str]:
    return datetime.fromisoformat(one.run.manifest["started"]), str(one.run.path)


def _order(protocol: Protocol) -> tuple[Any, ...]:
    features = protocol.dataset, protocol.fingerprint, protocol.map
    chosen = protocol.task, SELECTIONS.index(protocol.select), protocol.paper_style
    return *features, *chosen, -1.0 if protocol.margin is None else protocol.margin


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--dataset", metavar="NAME|FOLDER", help="Only runs of this dataset.")
@click.option(
    "--model", metavar="NAME|FILE", help="Only runs of this model; give your own model by its file."
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tables to this CSV file too; one that is there is replaced.",
)
@click.option("--device", default="auto", help="Where to measure: cpu, cuda, …  [a GPU if there is one]")
@json_option
@click.option(
    "--latex", "as_latex", is_flag=True, help="Print the tables as LaTeX, for the package booktabs."
)
@home_option
def compare(
    home: Home,
    runs: tuple[Path, ...],
    dataset: str | None,
    model: str | None,
    csv_file: Path | None,
    device: str,
    as_json: bool,
    as_latex: bool,
) -> None:
    """Rank finished runs by their test figures, in percent: the given folders, or all runs of the home.

    Runs that differ only in the seed are one line, mean ± standard deviation of the sample. Lines are ranked where
    dataset, features, task, selection and margin are the same; others get their own table.

    A RUN may be a folder copied from another machine, so that runs made in several places become one table. Figures
    that 'msdn evaluate' left in a run's folder are used as they are; other runs are measured now, which needs
    the features that they were trained on. A line names the settings that are not those of the dataset's preset; for
    data without a preset, those that were given, and a note says what the rule chose.
    """
    if as_json and as_latex:
        raise click.UsageError("--json and --latex print the same tables in two forms; give one of them.")
    if csv_file is not None:
        check_folder(csv_file, "--csv")
    use_home(home)
    model = model and choose_model(model).name
    measured, left_out = collect_results(
        home,
        runs,
        dataset=dataset and dataset_name(dataset),
        model=model,
        device=device,
        on_measure=lambda run: say(f"measuring {run.path}"),
    )
    if not measured:
        none = f"no run to compare in {home.runs.absolute()}. {how_to_train(home, dataset)}"
        reasons = "; ".join(["no run that can be compared", *_left_out_lines(left_out)])
        raise RunError(reasons if left_out else none)
    result = comparison(compare_runs(measured), left_out)
    if csv_file is not None:
        replace_file(csv_file, csv_text(result.lines[""]).encode())
    if as_latex:
        click.echo(latex(result.tables), nl=False)
        for note in result.notes:
            click.echo(escape(note), err=True)
        return
    show(result, as_json)


def comparison(boards: Sequence[Board], left_out: Sequence[LeftOut]) -> Result:
    """The boards as a result to show."""
    tables = [board_table(board) for board in boards]
    if len(boards) > 1:
        why = ", ".join(differences([board.protocol for board in boards]))
        apart = f"{len(boards)} tables that are not ranked against each other; they differ in: {why}"
        tables[0] = dataclasses.replace(tables[0], above=[apart, "", *tables[0].above])
    followed = len(tables) - (not left_out)
    tables[:followed] = [dataclasses.replace(one, below=[*one.below, ""]) for one in tables[:followed]]
    facts = {
        "tables": [_board_json(board) for board in boards],
        "left_out": [dataclasses.asdict(one) for one in left_out],
    }
    lines = [_csv_line(board, line) for board in boards for line in board.lines]
    return Result(facts, tables, _left_out_lines(left_out), {"": lines})


def board_table(board: Board) -> Table:
    """The lines, the best of each column bold, and below them the papers' figures."""
    rows = [
        [
            "–" if line.rank is None else line.rank,
            ", ".join(filter(None, (line.model, show_settings(line.settings)))),
            *(line.figures[name] for name in COMPARED),
            show_seeds(line.seeds),
        ]
        for line in board.lines
    ]
    papers = [
        ["", f"{model}, the paper ({one.selection})", *(getattr(one, name, None) for name in COMPARED), ""]
        for model, one in board.papers.items()
    ]
    return Table(
        ("", "model", *COMPARED, "seeds"),
        rows,
        words=("model",),
        foot=papers,
        above=_heading(board),
        below=_notes(board),
        mark_best=True,
    )


def _heading(board: Board) -> list[str]:
    """What a table's lines have in common."""
    protocol = board.protocol
    runs = sum(len(line.runs) for line in board.lines)
    return [
        f"{protocol.dataset}, task {protocol.task}: {runs} {'run' if runs == 1 else 'runs'}, "
        f"ranked by {board.ranked_by}",
        f"features: {protocol.fingerprint[:12]} ({board.weights} weights)",
        f"selection: {board.selection}",
        f"margin: {_margin(board)}",
    ]


def _notes(board: Board) -> list[str]:
    """Where the papers' figures are from, and what to know of the runs."""
    lines = [f"paper: {model} from {one.source}" for model, one in board.papers.items()]
    lines += dict.fromkeys(f"preset of {line.model}: {line.rule}" for line in board.lines if line.rule)
    if board.watched:
        lines.append(f"{WATCHED}: {_few(board.watched)}")
    if board.repeated:
        lines.append(f"left out, a later run has the same seed and settings: {_few(board.repeated)}")
    if board.counts_differ:
        lines.append(counts_note(board.protocol.dataset))
    lines += reconstruction_notes(line.model for line in board.lines)
    return lines + provenance_notes(board.weights, board.masked_images)


def _left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """One line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.run)
    return [f"left out: {_few(runs)}: {reason}" for reason, runs in by_reason.items()]


def show_seeds(seeds: Sequence[int]) -> str:
    """How many seeds, and which, in ascending order: `5: 0-4`."""
    firsts = [seed for seed in seeds if seed - 1 not in seeds]
    lasts = [seed for seed in seeds if seed + 1 not in seeds]
    parts = [str(a) if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True)]
    return f"{len(seeds)}: {','.join(parts)}"


def _board_json(board: Board) -> dict[str, Any]:
    content = dataclasses.asdict(board)
    papers = {model: dataclasses.asdict(one) for model, one in board.papers.items()}
    return {**content.pop("protocol"), **content, "papers": papers}


def _csv_line(board: Board, line: Line) -> CsvLine:
    protocol, paper = board.protocol, board.papers.get(line.model)
    row: dict[str, Any] = {
        "dataset": protocol.dataset,
        "features": protocol.fingerprint,
        "weights": board.weights,
        "masked_images": board.masked_images,
        "task": protocol.task,
        "selection": board.selection,
        "margin": _margin(board),
        "rank": line.rank,
        "model": line.model,
        "settings": show_settings(line.settings),
        "seeds": " ".join(map(str, line.seeds)),
        "runs": len(line.runs),
    }
    for name, one in line.figures.items():
        row |= {name: one.mean, f"{name}_std": one.std}
    row |= {f"paper_{name}": getattr(paper, name, None) for name in PAPER_FIGURES}
    return row | {"paper_source": paper and f"{paper.source}; {paper.selection}"}


def _margin(board: Board) -> str:
    margin = board.protocol.margin
    return "each run's own, chosen on validation classes" if margin is None else show_value(float(margin))


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
