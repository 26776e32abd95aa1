"""What the shell completes after an option or as an argument: models, datasets, runs, backbones.

One table says it for all commands, by the names of their parameters; `docs/terminal.md` says how a shell is told.
Whatever goes wrong, nothing is completed, and nothing is printed.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from msdn.cache.home import DEFAULT_HOME, Home
from msdn.cache.records import read_json

Names = Callable[[click.Context], Iterable[str]]
_UNSAFE = re.compile(r"[^\w@%+=:,./-]")
_ESCAPE = r"\\\\\g<0>"
_FOLDER = CompletionItem("", type="dir")
_FILE = CompletionItem("", type="file")


class QuotingBash(BashComplete):
    """bash, which takes a completed name as it is: a space in it has to be escaped."""

    def format_completion(self, item: CompletionItem) -> str:
        """The name as a person types it; click's script takes half of the backslashes away."""
        return f"{item.type},{_UNSAFE.sub(_ESCAPE, item.value)}"


def register_shells() -> None:
    """Let click complete by what is here."""
    add_completion_class(QuotingBash)


def complete_values(command: click.Command) -> None:
    """Give the parameters of a command whose values have names the completion of these names."""
    for one in command.params:
        found = _COMPLETED.get(str(one.name))
        if found is not None and not isinstance(one.type, (click.Choice, click.IntRange)):
            one.shell_complete = _completer(*found)  # type: ignore[method-assign]


def _completer(names: Names, otherwise: CompletionItem | None) -> Callable[..., list[CompletionItem]]:
    """Completion by names of the home, else by the files or folders that are here."""

    def complete(context: click.Context, typed: str) -> list[CompletionItem]:
        found: list[str] = []
        with suppress(Exception):  # a shell has no use for an error
            found = [name for name in dict.fromkeys(names(context)) if name.startswith(typed)]
        if found or otherwise is None:
            return [CompletionItem(name) for name in found]
        return [otherwise]

    return complete


def _home(context: click.Context) -> Home:
    home = context.params.get("home")
    return home if isinstance(home, Home) else Home(Path(os.environ.get("MSDN_HOME", DEFAULT_HOME)))


def dataset_names(context: click.Context) -> Iterable[str]:
    """The known datasets, and those that the home has features of."""
    from msdn.extract.datasets.registry import DATASETS

    caches = sorted(path.name.rsplit("-", 2)[0] for path in _home(context).features.glob("*.h5"))
    return [*DATASETS, *caches]


def model_names(context: click.Context) -> Iterable[str]:
    """The models that `--model` knows by name."""
    from msdn.train.models import registry

    registry.use_home(_home(context))
    return registry.model_names()


def backbone_names(_context: click.Context) -> Iterable[str]:
    """The backbones that torchvision brings."""
    from msdn.extract.backbones.registry import list_backbones

    return list_backbones()


def run_names(context: click.Context) -> Iterable[str]:
    """The runs of the home, by their folders and by the names they were given; the latest folder first."""
    manifests = list(_home(context).runs.glob("[!.]*/manifest.json"))
    yield from (path.parent.name for path in sorted(manifests, key=lambda path: -path.stat().st_mtime))
    for path in manifests:
        with suppress(OSError, ValueError, AttributeError):
            name = read_json(path).get("name")
            if name:
                yield str(name)


def class_names(context: click.Context) -> Iterable[str]:
    """The classes that the run knows which is named, or the latest one."""
    from msdn.train.runs.basis import load_basis
    from msdn.train.runs.run import find_run

    asked = {name: context.params.get(name) for name in ("dataset", "model")}
    return load_basis(find_run(_home(context).runs, context.params.get("run_path"), **asked)).class_names


def setting_names(context: click.Context) -> Iterable[str]:
    """The settings that a sweep of the model can change."""
    from msdn.train.loop.options import chosen_model
    from msdn.train.loop.settings import fields_of, option_name
    from msdn.train.studies.sweep import is_numeric

    own = fields_of(chosen_model(context).settings).values()
    return [option_name(one)[2:].replace("-", "_") for one in own if is_numeric(one)]


def download_names(_context: click.Context) -> Iterable[str]:
    """What can be downloaded."""
    from msdn.extract.downloads.sources import PLANS

    return PLANS


_COMPLETED: dict[str, tuple[Names, Any]] = {  # by a parameter's name: the names, and what else it may be
    "dataset": (dataset_names, _FOLDER),
    "model": (model_names, _FILE),
    "backbone": (backbone_names, _FILE),
    "run_path": (run_names, _FOLDER),
    "run": (run_names, _FOLDER),
    "runs": (run_names, _FOLDER),
    "resume": (run_names, _FOLDER),
    "like": (class_names, None),
    "drop": (class_names, None),
    "over": (setting_names, None),
    "names": (download_names, None),
}
