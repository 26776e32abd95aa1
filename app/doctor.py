"""`msdn doctor`: whether this machine and this home are fit for work; the exit code says it too."""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

import click

from msdn.cache.home import Home, command_line, home_option
from msdn.terminal import fit_fact, json_option, paint

if TYPE_CHECKING:
    from msdn.app.status import Entry

OLDEST_PYTHON = (3, 11)
MARKS = {"ok": "good", "todo": "warning", "problem": "error"}  # the meaning of their colours
LEAST_ROOM = 10**9  # bytes; a cache takes several of these, but the demo fits
REINSTALL = "install both again, together: pip install --force-reinstall torch torchvision"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ok; todo (work stops at it sooner or later); problem. And what to do."""

    mark: Literal["ok", "todo", "problem"]
    what: str
    advice: str = ""


@click.command()
@json_option
@home_option
@click.pass_context
def doctor(context: click.Context, home: Home, as_json: bool) -> None:
    """Check this machine and the home. Each line says ok, todo or problem, and what to do.

    The exit code is 1 if there is any problem.
    """
    findings = []
    for finding in examine(home):
        findings.append(finding)
        if not as_json:
            advice = f": {finding.advice}" if finding.advice else ""
            mark, *rest = fit_fact(finding.mark, f"{finding.what}{advice}", 8)
            click.echo(paint(mark[:8], MARKS[finding.mark]) + mark[8:])
            for line in rest:
                click.echo(line)
    is_well = all(finding.mark != "problem" for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": is_well, "findings": list(map(asdict, findings))}, indent=2))
    if not is_well:
        context.exit(1)


def examine(home: Home) -> Iterator[Finding]:
    """Look at everything, the ground first."""
    from msdn.app.status import collect_status

    yield examine_python(sys.version_info[:3])
    torch = examine_torch()
    yield torch
    if torch.mark == "ok":
        yield from examine_gpus()
    try:
        yield from examine_home(home)
        yield from _examine_holdings(collect_status(home), home)
    except OSError as error:
        yield Finding("problem", f"{home.root} cannot be read: {error}", "fix it, or choose another --home")


def examine_python(version: tuple[int, ...]) -> Finding:
    """Compare with the oldest Python that works."""
    what = f"Python {'.'.join(map(str, version))}"
    if version >= OLDEST_PYTHON:
        return Finding("ok", what)
    return Finding("problem", what, f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")


def examine_torch() -> Finding:
    """Import torch and torchvision, and call what torchvision compiled against torch."""
    try:
        import torch
        import torchvision
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Finding("problem", f"torch and torchvision do not work together ({reason})", REINSTALL)
    what = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    wanted = _wanted_torch()
    if wanted not in (None, torch.__version__.partition("+")[0]):
        return Finding("problem", f"{what}, which was built for torch {wanted}", REINSTALL)
    return Finding("ok", what)


def _wanted_torch() -> str | None:
    """Return the exact version of torch that the installed torchvision asks for, where it says so."""
    try:
        requirements = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        return None
    found = [re.match(r"torch\s*\(?==\s*([\w.]+)", requirement) for requirement in requirements]
    return next((match[1] for match in found if match), None)


def examine_gpus() -> Iterator[Finding]:
    """Compute on each GPU and ask for its memory; none is fine."""
    import torch

    if not torch.cuda.is_available():
        yield Finding("ok", "torch can use no GPU here; the CPU is used, which works but is slower")
        return
    for index in range(torch.cuda.device_count()):
        try:
            (torch.ones(1, device=f"cuda:{index}") + 1).item()
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            advice = "free its memory or update its driver, or compute with --device cpu"
            yield Finding("problem", f"GPU {index} cannot be used ({reason})", advice)
        else:
            yield Finding("ok", f"GPU {index}: {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")


def examine_home(home: Home) -> Iterator[Finding]:
    """Say whether there is room, and whether files can be written."""
    folder = next(path for path in (home.root.absolute(), *home.root.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    room = f"{free / 1e9:,.1f} GB free for {home.root}"
    advice = "free some space, or choose a --home on another disk"
    yield Finding("problem", room, advice) if free < LEAST_ROOM else Finding("ok", room)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding("problem", f"{folder}: cannot write there ({reason})", "choose another --home")
    else:
        made = "" if home.root.is_dir() else " (created when needed)"
        yield Finding("ok", f"home {home.root} can be written{made}")


def _examine_holdings(entries: list["Entry"], home: Home) -> Iterator[Finding]:
    """Say what there is to work with: data, vectors, weights and caches."""
    datasets = [entry for entry in entries if entry.kind == "dataset"]
    here = [entry.name for entry in datasets if entry.is_here]
    if here:
        yield Finding("ok", f"datasets here: {', '.join(here)}", "'msdn data status' lists the others")
    else:
        draw = command_line("demo", home=home)
        advice = f"'msdn data status' says how to get one; draw one with: {draw}"
        yield Finding("todo", "there is no dataset here", advice)
    weights = next(entry for entry in entries if entry.name == "weights")
    if weights.is_here:
        yield Finding("ok", f"weights {weights.path}")
    else:
        yield Finding("todo", f"weights {weights.status}", f"for real features: {weights.command}")
    caches = [entry for entry in entries if entry.kind == "cache"]
    if not caches:
        yield Finding("todo", "no cache yet", "'msdn extract' makes one, and 'msdn demo' does all at once")
    begun = [entry for entry in datasets if entry.status == "partial"]
    damaged = [entry for entry in entries if entry.kind == "vectors" and entry.status == "damaged"]
    yield from map(_examine_entry, [*begun, *damaged, *caches])


def _examine_entry(entry: "Entry") -> Finding:
    if entry.status == "damaged":
        return Finding("problem", f"{entry.kind} {entry.name} damaged", entry.note)
    if entry.status == "partial":
        advice = "; ".join(filter(None, (entry.note, entry.command)))
        return Finding("todo", f"{entry.kind} {entry.name} not complete", advice)
    return Finding("ok", f"{entry.kind} {entry.name}")
