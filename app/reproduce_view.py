"""A reproduction as people see it: our figures, the papers', and the difference. No torch."""

from collections.abc import Sequence

from rich.table import Table

from msdn.app.reproduce import TASK
from msdn.train.measure.reporting import percent
from msdn.train.measure.summary import Spread
from msdn.train.measure.tables import plain_table
from msdn.train.models.published import Published, published_image_size
from msdn.train.runs.results import COMPARED
from msdn.train.studies.family import MODEL
from msdn.train.studies.rows import Facts, RowResult

NOT_COMPARABLE = (
    "WARNING: random weights in the backbone: the papers' figures above cannot be compared with these"
)


def model_figures(model: str, rows: Sequence[RowResult]) -> dict[str, Spread]:
    """A model's figures; acc is that of the training for acc where there is one."""
    by_task = {done.row.facts[TASK]: done.figures for done in rows if done.row.facts[MODEL] == model}
    return {**by_task["gzsl"], "acc": by_task.get("czsl", by_task["gzsl"])["acc"]}


def reproduction_table(facts: Facts, rows: Sequence[RowResult]) -> Table:
    """Three lines for each model: ours, the paper's, and the difference where they can be compared."""
    cells = [["chance", *(percent(facts.chance.get(name)) for name in COMPARED), ""]]
    for done in rows:
        if done.row.facts[TASK] != "gzsl":
            continue
        model, published = done.row.facts[MODEL], done.row.published
        ours = model_figures(model, rows)
        cells.append([model, *(str(ours[name]) for name in COMPARED), done.seeds])
        if published:
            paper = [percent(getattr(published, name, None)) for name in COMPARED]
            cells.append([f"{model}, the paper", *paper, ""])
        if published and facts.weights != "random":
            cells.append(["difference", *(_difference(ours[name], published, name) for name in COMPARED), ""])
    columns = ("", *COMPARED, "seeds")
    return plain_table(f"{facts.dataset}, test classes, mean ± std", columns, cells, columns[1:])


def reproduction_notes(facts: Facts, rows: Sequence[RowResult]) -> list[str]:
    """How ours were chosen, and how theirs, as far as the table's own notes do not say it."""
    lines = [f"{done.row.label}: trained apart, by {done.row.preset}" for done in rows if _is_for_acc(done)]
    without = [done.row.label for done in rows if not done.row.published and not _is_for_acc(done)]
    if without:
        lines.append(f"no published figures of {', '.join(without)} on {facts.dataset} are known")
    if facts.weights == "random" and len(without) < len(rows):
        lines.append(NOT_COMPARABLE)
    lines += [_size_note(done, facts) for done in rows if done.row.published and _other_size(done, facts)]
    return lines


def _other_size(done: RowResult, facts: Facts) -> bool:
    size = published_image_size(done.row.facts[MODEL])
    return size is not None and not _is_for_acc(done) and facts.image_size != size


def _size_note(done: RowResult, facts: Facts) -> str:
    size = published_image_size(done.row.facts[MODEL])
    return (
        f"{done.row.label}: the authors' script reads images of {size} pixels, these features are of "
        f"{facts.image_size or 'an unknown number of'}; --image-size {size} comes closer"
    )


def _is_for_acc(done: RowResult) -> bool:
    return bool(done.row.facts[TASK] == "czsl")


def _difference(ours: Spread, published: Published, name: str) -> str:
    theirs = getattr(published, name, None)
    return "–" if ours.mean is None or theirs is None else f"{ours.mean - theirs:+.1f}"
