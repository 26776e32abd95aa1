"""`msdn runs`: the trained runs as a list; one of them in detail, with a name, or deleted."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from msdn.cache.files import LockError, flush_folder
from msdn.cache.home import Home, command_line, dataset_name, home_option
from msdn.cache.records import read_json
from msdn.terminal import escape, fit_fact, json_option, say
from msdn.train.errors import RunError
from msdn.train.measure.reporting import preset_words, read_time
from msdn.train.measure.selection import COMPARED, describe_selection
from msdn.train.measure.show import Cell, Result, Table, percent, show, show_value
from msdn.train.runs.results import kept_figures
from msdn.train.runs.run import MANIFEST, Run, check_name, find_runs, lock_of, open_run

_FIGURES = ("acc", "H")  # in the list
_DELETED = ".msdn-deleted"  # ends the name of a run's folder while it is being deleted
RUN = click.Path(path_type=Path)


@click.command("list")
@click.option("--dataset", metavar="NAME|FOLDER", help="Only runs of this dataset.")
@click.option("--model", metavar="NAME", help="Only runs of this model.")
@json_option
@home_option
def list_(home: Home, dataset: str | None, model: str | None, as_json: bool) -> None:
    """List the runs of the home, the oldest first, with their test figures where they were measured."""
    _use(home)
    found = find_runs(home.runs, dataset=dataset and dataset_name(dataset), model=model)
    rows = [_brief(run) for run in found]
    columns: tuple[str, ...] = ("run", "name", "dataset", "model", "seed", "status", *_FIGURES)
    cells: list[list[Cell]] = [[_cell(row[column]) for column in columns] for row in rows]
    words = [column for column in columns if column not in ("seed", *_FIGURES)]
    if not any(row["name"] for row in rows):
        cells = [[*row[:1], *row[2:]] for row in cells]
        columns = columns[:1] + columns[2:]
    notes = [f"home: {home.root.absolute()}"]
    tables = [Table(columns, cells, words=words, whole=("run", "name"))] if rows else []
    if not rows:
        notes = [
            f"no run in {home.runs.absolute()}. Train one with: {command_line('train', '--dataset', 'NAME', home=home)}"
        ]
    show(Result({"home": str(home.root.absolute()), "runs": rows}, tables, notes), as_json)


@click.command("show")
@click.argument("run", type=RUN)
@json_option
@home_option
def show_(home: Home, run: Path, as_json: bool) -> None:
    """Show what a run was trained on, with which settings, and what it reached."""
    _use(home)
    found = open_run(home.runs, run)
    manifest = found.manifest
    facts = {
        **_brief(found),
        "path": str(found.path.resolve()),
        "select": found.settings.select,
        "selection": describe_selection(found.settings, found.chosen),
        "preset": manifest.get("preset"),
        "rule": manifest.get("rule"),
        "overrides": manifest.get("overrides") or {},
        "finished": manifest.get("finished"),
        "cache": manifest["cache"],
        "weights": manifest["weights"],
        "masked_images": manifest["masked_images"],
        "device": manifest["device"],
        "precision": found.precision,
        "config": manifest.get("config"),
        "megabytes": round(_size(found.path) / 1e6, 1),
        "settings": found.settings.as_json(),
        "figures": kept_figures(found),
    }
    hidden = ("settings", "figures", *_FIGURES, "cache", "rule")
    said = facts | {"preset": preset_words(found.settings, facts["preset"], facts["rule"])}
    said |= {name: read_time(facts[name]) for name in ("started", "finished") if facts[name]}
    lines = {
        name: _value(value) for name, value in said.items() if name not in hidden and value not in (None, {})
    }
    lines["features"] = manifest["cache"]["path"]
    figures = facts["figures"] or {}
    lines |= {f"test {name}": percent(figures[name]) for name in COMPARED if figures.get(name) is not None}
    above = [line for name, value in lines.items() for line in fit_fact(name.replace("_", " "), value, 14)]
    settings = [[name, show_value(value)] for name, value in facts["settings"].items()]
    tables = [Table(("setting", "value"), settings, words=("setting", "value"), above=above)]
    show(Result(facts, tables), as_json)


@click.command()
@click.argument("run", type=RUN)
@click.argument("name", metavar="NAME")
@home_option
def name(home: Home, run: Path, name: str) -> None:
    """Give a run a name, which every command then accepts; a name it had before is replaced."""
    _use(home)
    check_name(home.runs, name)
    found = open_run(home.runs, run)
    with found.lock():
        Run(found.path).update(name=name)
    click.echo(escape(f"{name}: {found.path}"))


@click.command()
@click.argument("runs", type=RUN, nargs=-1, required=True, metavar="RUN...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
def delete(home: Home, runs: tuple[Path, ...], yes: bool) -> None:
    """Delete runs with all that their folders hold; asks first.

    A run that is being trained is refused, and so is a folder that is not a run.
    """
    _use(home)
    for folder in {home.runs, *(given.parent for given in runs)}:
        _remove_leftovers(folder)
    found = list(dict.fromkeys(_folder(home, given) for given in runs))
    for path in found:
        say(f"{path}  {_size(path) / 1e6:.1f} MB")
    if not yes:
        one = "this run" if len(found) == 1 else f"these {len(found)} runs"
        _confirm(f"Delete {one} for good?")
    for path in found:
        _delete(path)
        click.echo(escape(f"deleted: {path}"))


def _confirm(question: str) -> None:
    """Ask, and go on only after a yes."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as error:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise RunError(
            "nothing is deleted: nobody is here to answer; to delete unasked, give --yes"
        ) from error
    if not agreed:
        raise click.Abort


def _use(home: Home) -> None:
    from msdn.train.models.registry import use_home

    use_home(home)


def _folder(home: Home, given: Path) -> Path:
    """The folder of a run to delete; a run that cannot be opened will do, a folder that is not a run will not."""
    try:
        path = open_run(home.runs, given).path
    except RunError:
        named = home.runs / given
        path = given if given.exists() or not named.exists() else named
        if not _looks_like_a_run(path):
            raise
    if path.is_symlink() or path.resolve() in (home.root.resolve(), *home.root.resolve().parents):
        raise RunError(f"{path}: is a link, or a folder that holds more than a run; delete it by hand")
    return path


def _looks_like_a_run(path: Path) -> bool:
    """Whether the folder's manifest says that a run was written there, damaged or of an unknown model as it may be."""
    try:
        manifest = read_json(path / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"version", "settings", "status"} <= manifest.keys()


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of runs that they were deleting."""
    for leftover in folder.glob(f".*{_DELETED}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _delete(path: Path) -> None:
    gone = path.with_name(f".{path.name}{_DELETED}")
    with lock_of(path):  # refuses while a training holds it
        path.rename(gone)
    try:
        flush_folder(path.parent)
        shutil.rmtree(gone)
    except OSError as error:
        if not gone.exists():
            return  # another process took it for a leftover
        raise RunError(
            f"{gone}: not completely deleted ({error.strerror}); the next 'msdn runs delete' removes the rest"
        ) from error


def _status(run: Run) -> str:
    """How far it is; a run whose training was killed does not know that."""
    if run.manifest["status"] != "running":
        return str(run.manifest["status"])
    try:
        with run.lock():
            return "interrupted"
    except (LockError, OSError):
        return "running"


def _brief(run: Run) -> dict[str, Any]:
    """One line of the list."""
    figures = kept_figures(run) if run.finished else None
    return {
        "run": run.path.name,
        "name": run.name,
        "dataset": run.dataset,
        "model": run.settings.model,
        "seed": run.settings.seed,
        "status": _status(run),
        "started": run.manifest["started"],
        **{name: (figures or {}).get(name) for name in _FIGURES},
    }


def _cell(value: Any) -> Cell:
    return value if isinstance(value, (int, float)) or value is None else str(value)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return show_value(value)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
