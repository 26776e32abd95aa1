"""A leaderboard as tables and notes for people, as JSON, and as CSV. Words only, no torch."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from msdn.train.measure.reporting import WATCHED, percent, provenance_notes
from msdn.train.measure.tables import show_value
from msdn.train.models.published import PAPER_FIGURES, Published, published_figures
from msdn.train.runs.results import COMPARED, LeftOut
from msdn.train.studies.compare import Board, Line, differences

_NAMED = 3  # folders that a note names before it counts the rest


def heading(board: Board) -> list[str]:
    """What a table's lines have in common."""
    protocol = board.protocol
    runs = sum(len(line.runs) for line in board.lines)
    return [
        f"{protocol.dataset}, task {protocol.task}: {runs} {'run' if runs == 1 else 'runs'}, "
        f"ranked by {protocol.ranked_by}",
        f"features: {protocol.fingerprint[:12]} ({board.weights} weights)",
        f"selection: {protocol.selection}",
        f"margin: {_margin(board)}",
    ]


def board_table(board: Board) -> Table:
    """The lines, the best of each column bold, and below them the papers' figures."""
    table = Table()
    table.add_column("", justify="right")
    table.add_column("model", overflow="fold")
    for name in COMPARED:
        table.add_column(name, justify="right")
    table.add_column("seeds", justify="right")
    best = _best_means(board)
    for line in board.lines:
        figures = [_figure(line, name, best) for name in COMPARED]
        table.add_row(show_rank(line), Text(show_line(line)), *figures, Text(show_seeds(line.seeds)))
    table.add_section()
    for model, figures_of in _papers(board).items():
        cells = [percent(getattr(figures_of, name, None)) for name in COMPARED]
        table.add_row("", Text(f"{model}, the paper ({figures_of.selection})"), *cells, "")
    return table


def notes(board: Board) -> list[str]:
    """Where the papers' figures are from, and what to know of the runs."""
    lines = [f"paper: {model} from {one.source}" for model, one in _papers(board).items()]
    if board.watched:
        lines.append(f"{WATCHED}: {_few(board.watched)}")
    if board.repeated:
        lines.append(f"left out, a later run has the same seed and settings: {_few(board.repeated)}")
    return lines + provenance_notes(board.weights, board.masked_images)


def apart(boards: Sequence[Board]) -> str:
    """Why the tables are not one."""
    why = ", ".join(differences([board.protocol for board in boards]))
    return f"{len(boards)} tables that are not ranked against each other; they differ in: {why}"


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """One line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.run)
    return [f"left out: {_few(runs)}: {reason}" for reason, runs in by_reason.items()]


def show_rank(line: Line) -> str:
    """The rank, or a dash where there is none."""
    return "–" if line.rank is None else str(line.rank)


def show_line(line: Line) -> str:
    """The model with what tells it from other lines of its table."""
    settings = [f"{name} {show_value(value)}" for name, value in line.settings.items()]
    return ", ".join([line.model, *settings])


def show_seeds(seeds: Sequence[int]) -> str:
    """How many seeds, and which: `5: 0-4`."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    shown = [str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts]
    return f"{len(seeds)}: {','.join(shown)}"


def as_json(boards: Sequence[Board], left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """Everything, for machines."""
    tables = []
    for board in boards:
        content = dataclasses.asdict(board)
        papers = {model: dataclasses.asdict(one) for model, one in _papers(board).items()}
        protocol = content.pop("protocol") | {
            "selection": board.protocol.selection,
            "ranked_by": board.protocol.ranked_by,
        }
        tables.append({**protocol, **content, "papers": papers})
    return {"tables": tables, "left_out": [dataclasses.asdict(one) for one in left_out]}


def as_csv(boards: Sequence[Board]) -> str:
    """One row for each line of each table."""
    file = io.StringIO()
    rows = [_csv_row(board, line) for board in boards for line in board.lines]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_row(board: Board, line: Line) -> dict[str, Any]:
    protocol, paper = board.protocol, _papers(board).get(line.model)
    row = {
        "dataset": protocol.dataset,
        "features": protocol.fingerprint,
        "weights": board.weights,
        "masked_images": board.masked_images,
        "task": protocol.task,
        "selection": protocol.selection,
        "margin": _margin(board),
        "rank": line.rank,
        "model": line.model,
        "settings": ", ".join(f"{name} {show_value(value)}" for name, value in line.settings.items()),
        "seeds": " ".join(map(str, line.seeds)),
        "runs": len(line.runs),
    }
    for name, spread in line.figures.items():
        row |= {name: spread.mean, f"{name}_std": spread.std}
    row |= {f"paper_{name}": getattr(paper, name, None) for name in PAPER_FIGURES}
    return row | {"paper_source": paper and f"{paper.source}; {paper.selection}"}


def _margin(board: Board) -> str:
    margin = board.protocol.margin
    return "each run's own, chosen on validation classes" if margin is None else show_value(float(margin))


def _papers(board: Board) -> dict[str, Published]:
    """The papers' figures of the models in a table."""
    models = dict.fromkeys(line.model for line in board.lines)
    found = {model: published_figures(model, board.protocol.dataset) for model in models}
    return {model: one for model, one in found.items() if one}


def _best_means(board: Board) -> dict[str, float]:
    """The best mean of each column; none where there is nothing to compare it with."""
    if len(board.lines) < 2:
        return {}
    means = {name: [line.figures[name].mean for line in board.lines] for name in COMPARED}
    return {
        name: max(known) for name, values in means.items() if (known := [v for v in values if v is not None])
    }


def _figure(line: Line, name: str, best: dict[str, float]) -> Text:
    spread = line.figures[name]
    is_best = spread.mean is not None and spread.mean == best.get(name)
    return Text(str(spread), style="bold" if is_best else "")


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
