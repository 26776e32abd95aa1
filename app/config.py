"""The config file: options that are typed every day, kept in TOML.

    home = "/data/zsl"        # for every command that has the option

    [train]                   # for one command
    dataset = "cub"
    batch-size = 50

    [data.check]
    quiet = true

An option keeps the name it has on the command line. What is typed there comes first.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from msdn.cache.errors import UnknownNameError, WrongUsageError
from msdn.terminal import CONFIG, is_verbose, say

DEFAULT = Path("msdn.toml")
_NO_KEYS = ("config", "help")
_OF_A_RUN = {  # a run that is named on the command line: what the file may still say
    "resume": ("home", "device", "threads", "features", "json", "quiet", "verbose"),
}
_SILENT_WITH = {"run": ("dataset", "model"), "checkpoint": ("model",)}  # what it may not
Table = Mapping[str, Any]
Load = Callable[[str], click.Command]


def find_config(args: Sequence[str]) -> Path | None:
    """The file that `--config` names among a command's arguments, else `msdn.toml` in this folder, else None."""
    found = None
    for position, word in enumerate(args):
        name, equals, value = word.partition("=")
        if word == "--":
            break
        if name == "--config":
            found = value if equals else (args[position + 1] if position + 1 < len(args) else "")
    if found is not None:
        return Path(found).expanduser()
    return DEFAULT if DEFAULT.is_file() else None


def read_config(
    file: Path,
    found: tuple[str, click.Command, list[str]],
    commands: Table,
    load: Load,
    context: click.Context,
) -> dict[str, Any]:
    """The values that a file gives to the parameters of a command, for click's `default_map`.

    Args:
        file: the config file.
        found: the command's name, the command, and the arguments it is called with.
        commands: the table of all commands, as `cli.py` has it.
        load: gives the command of a place in that table.
        context: of the group that the command belongs to.
    """
    name, command, args = found
    content = _read(file)
    path = [*_path_of(context), name]
    _check_tables(file, content, commands)
    common = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    own = _own_table(content, path)
    probe = _probe(command, name, args, context, {**common, **own})
    options = dict(_options_of(command.get_params(probe)))
    _check_common(file, common, options, (load(place) for place in _places(commands)))
    for key in own:
        if key not in options:
            raise UnknownNameError(f"option in {file}, [{'.'.join(path)}]:", key, options)
    given = {key: value for key, value in {**common, **own}.items() if key in options}
    given = _without_contradictions(given, probe, options)
    values = {str(options[key].name): _shape(options[key], value) for key, value in given.items()}
    context.meta[CONFIG] = {"file": str(file.absolute()), "options": values}
    if given and not given.get("quiet"):
        shown = ", ".join(f"{key} = {value}" if is_verbose() else key for key, value in given.items())
        say(f"options from {file}: {shown}", "dim")
    return values


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WrongUsageError(f"--config {file}: no such file") from error
    except IsADirectoryError as error:
        raise WrongUsageError(f"--config {file}: is a folder; give a TOML file in it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsageError(f"{file}: cannot be read as TOML ({error})") from error


def _check_tables(file: Path, content: Table, commands: Table, above: str = "") -> None:
    """Refuse a table that is named as no command is."""
    for key, value in content.items():
        if not isinstance(value, Mapping):
            continue
        if key not in commands:
            raise UnknownNameError(f"command in {file}, [{above}{key}]:", key, commands)
        entry = commands[key]
        inside = {} if isinstance(entry, str) else entry[1]
        tables = {name: one for name, one in value.items() if isinstance(one, Mapping)}
        _check_tables(file, tables, inside, f"{above}{key}.")


def _path_of(context: click.Context) -> list[str]:
    """The words between `msdn` and the command."""
    return [] if context.parent is None else [*_path_of(context.parent), str(context.info_name)]


def _own_table(content: Table, path: Sequence[str]) -> dict[str, Any]:
    """The options of one command: those of its group's table, then its own."""
    found: dict[str, Any] = {}
    for name in path:
        content = content.get(name, {})
        found |= {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    return found


def _probe(
    command: click.Command, name: str, args: Sequence[str], parent: click.Context, values: Table
) -> click.Context:
    """The command's context as the file and the command line together make it, without any complaint."""
    from msdn.train.loop.options import LOOKED_AT_FIRST

    has = {key for key, _ in _options_of(command.get_params(parent))}
    first = [f"--{key}={values[key]}" for key in LOOKED_AT_FIRST if key in values and key in has]
    return command.make_context(name, [*first, *args], parent=parent, resilient_parsing=True)


def _options_of(parameters: Sequence[click.Parameter]) -> Iterator[tuple[str, click.Option]]:
    """Options by their names on the command line."""
    for one in parameters:
        names = [name[2:] for name in one.opts if name.startswith("--")]
        if isinstance(one, click.Option) and names and names[0] not in _NO_KEYS:
            yield names[0], one


def _check_common(file: Path, common: Table, options: Table, others: Iterator[click.Command]) -> None:
    """Refuse a key outside all tables that is an option of no command; the others are imported only to tell."""
    unknown = [key for key in common if key not in options]
    if not unknown:
        return
    known = set(options)
    for command in others:
        known |= {key for key, _ in _options_of(command.params)}
    for key in unknown:
        if key not in known:
            raise UnknownNameError(
                f"option in {file}:", key, known, "; settings of a model belong to [train]"
            )


def _places(commands: Table) -> Iterator[str]:
    for entry in commands.values():
        yield from [entry] if isinstance(entry, str) else _places(entry[1])


def _without_contradictions(given: Table, probe: click.Context, options: Table) -> dict[str, Any]:
    """Without what a run or checkpoint that is named on the command line has of its own."""

    def is_typed(key: str) -> bool:
        source = probe.get_parameter_source(str(options[key].name)) if key in options else None
        return source is ParameterSource.COMMANDLINE

    for key, kept in _OF_A_RUN.items():
        if is_typed(key):
            given = {name: value for name, value in given.items() if name in kept}
    for key, silent in _SILENT_WITH.items():
        if is_typed(key):
            given = {name: value for name, value in given.items() if name not in silent}
    return dict(given)


def _shape(option: click.Option, value: Any) -> Any:
    """A value as click takes it: a list where the option can be repeated."""
    return [value] if option.multiple and not isinstance(value, list) else value
