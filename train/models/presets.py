"""Reads presets: each model's settings by dataset and task, every value with its source, from the TOML beside it.

A user's own preset is such a file with one table, `[settings]`, whose values need no source.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from msdn.cache.errors import UnknownNameError
from msdn.cache.files import create_file
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import TASKS, RunSettings, fields_of
from msdn.train.models.registry import builtin_names, find_model, model_names, presets_file
from msdn.train.models.rule import EXAMPLES, RULE, Amounts, rule_values

Sourced = dict[str, tuple[Any, str]]  # a setting's value, and where it comes from

PRESET_NAMES = ("released", "paper")
OWN_TABLE = "settings"


def preset_settings(
    model: str,
    dataset: str,
    *,
    preset: str = PRESET_NAMES[0],
    task: str = TASKS[0],
    amounts: Amounts | None = None,
) -> RunSettings:
    """The settings of a model on a dataset; a dataset without a preset gets the rule's, and otherwise the defaults.

    `task="czsl"` matters where the released code has other settings for it; the paper has none. `amounts` is what the
    rule goes by; without them it says nothing.
    """
    sourced = preset_values(model, dataset, preset=preset, task=task, amounts=amounts)
    values = {name: value for name, (value, _) in sourced.items()}
    try:
        return find_model(model).default(**{**values, "task": values.get("task", task)})
    except SettingsError as error:
        raise SettingsError(f"preset '{preset}' of '{model}': {error}") from error


def preset_values(
    model: str,
    dataset: str,
    *,
    preset: str = PRESET_NAMES[0],
    task: str = TASKS[0],
    amounts: Amounts | None = None,
) -> Sourced:
    """The values of a preset with their sources; what is not among them is the model's default.

    `preset` is one of `PRESET_NAMES`, or the path of a file of the user's own.
    """
    if is_file(preset):
        return _read_own(Path(preset).expanduser(), model)
    if preset not in PRESET_NAMES:
        raise UnknownNameError("preset", preset, PRESET_NAMES, ", or the path of your own .toml file")
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    if preset == "paper" and not has_paper_preset(model):
        raise SettingsError(f"the model '{model}' has no preset 'paper'; leave --preset out")
    values = _values_of(model, "released", dataset)
    if amounts is not None and not has_preset(dataset, model):
        chosen = rule_values(amounts).items()
        values |= _rule_of(model) | {name: (value, f"{RULE}: {why}") for name, (value, why) in chosen}
    if preset == "paper":
        values |= _values_of(model, "paper", dataset)
    elif task != TASKS[0]:
        values |= _values_of(model, task, dataset)
    return find_model(model).select(values)


def is_file(preset: str) -> bool:
    """Whether `--preset` names a file."""
    return preset.endswith(".toml")


def has_paper_preset(model: str) -> bool:
    """Whether the model's paper, or that of the model it borrows from, says other than the code."""
    content = _read(model)
    return "paper" in content or ("like" in content and has_paper_preset(content["like"]["model"]))


def has_preset(dataset: str, model: str | None = None) -> bool:
    """Whether a model that ships with the package, or this one, has a preset for a dataset; else there is the rule.

    No other model of the user's own is looked at: what is wrong in its presets is no matter here.
    """
    names = {*builtin_names(), *([model] if model else [])}
    return any(dataset in _read(name).get("released", {}) for name in names)


def decided_by_dataset(model: str, preset: str = PRESET_NAMES[0]) -> frozenset[str]:
    """The settings that are not a model's default on some dataset: by a preset, or by the rule where there is none."""
    default = find_model(model).default()
    found = [preset_values(model, dataset, preset=preset) for dataset in known_datasets()]
    found += [preset_values(model, "", preset=preset, amounts=amounts) for amounts in EXAMPLES]
    return frozenset(
        name for values in found for name, (value, _) in values.items() if value != getattr(default, name)
    )


def known_datasets() -> list[str]:
    """The datasets that some model has a preset for."""
    found: dict[str, None] = {}
    for model in model_names():
        found |= dict.fromkeys(name for name in _read(model).get("released", {}) if name != "common")
    return list(found)


def write_preset(path: Path, model: str, dataset: str, sourced: Mapping[str, tuple[Any, str]]) -> None:
    """Write a file to edit and give to `--preset`; one that exists is not touched."""
    lines = [
        f"# Settings of {model}, from those for {dataset}. Edit them, and train with: --preset {path.name}",
        f"model = {_toml(model)}",
        "",
        f"[{OWN_TABLE}]",
    ]
    lines += [f"{name} = {{ value = {_toml(v)}, source = {_toml(s)} }}" for name, (v, s) in sourced.items()]
    create_file(path, ("\n".join(lines) + "\n").encode(), "--write")


def _values_of(model: str, kind: str, dataset: str) -> Sourced:
    """The values of one kind of table, with those that the model or the dataset borrows."""
    content = _read(model)
    values: Sourced = {}
    if "like" in content:
        like = content["like"]
        values |= {
            name: (value, like["source"])
            for name, (value, _) in _values_of(like["model"], kind, dataset).items()
        }
    tables, sources = content.get(kind, {}), content.get("sources", {})
    if kind == "released" and not values and dataset not in tables:
        return {}  # no preset for this dataset: the defaults
    own = dict(tables.get(dataset, {}))
    like = own.pop("like", None)
    values |= _sourced(tables.get("common", {}), sources)
    if like:
        source = sources.get(like["source"], like["source"])
        borrowed = _values_of(model, kind, like["dataset"])
        values |= {name: (value, source) for name, (value, _) in borrowed.items()}
    return values | _sourced(own, sources)


def _rule_of(model: str) -> Sourced:
    """What a model says of data without a preset, whatever their number."""
    content = _read(model)
    return _sourced(content.get("rule", {}), content.get("sources", {}))


def _sourced(table: Mapping[str, Any], sources: Mapping[str, str]) -> Sourced:
    return {
        name: (_value(one["value"]), sources.get(one["source"], one["source"])) for name, one in table.items()
    }


@cache
def _read(model: str) -> dict[str, Any]:
    """A model's presets, refused where they are not as docs/new-model.md has them: a user may have written them."""
    file = presets_file(model)
    content = _parse(file) if file.is_file() else {}
    if "like" in content:
        _check_entry(f"{file}: like", content["like"], {"model", "source"})
    known = fields_of(find_model(model).settings)
    tables = {
        f"{kind}.{dataset}": _tables(file, content[kind], dataset)
        for kind in ("released", "paper", *TASKS)
        for dataset in _tables(file, content, kind)
    }
    for title, table in {**tables, "rule": _tables(file, content, "rule")}.items():
        for name, one in table.items():
            if name not in {*known, "like"}:
                raise SettingsError(str(UnknownNameError(f"setting in {file}:", name, known)))
            needed = {"dataset", "source"} if name == "like" else {"value", "source"}
            _check_entry(f"{file}: [{title}] {name}", one, needed)
    return content


def _check_entry(where: str, entry: Any, needed: set[str]) -> None:
    if not isinstance(entry, dict) or set(entry) != needed:
        expected = ", ".join(f"{name} = …" for name in sorted(needed, reverse=True))
        raise SettingsError(f"{where} is {entry!r}, expected {{ {expected} }}")


def _tables(file: Path, content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{file}: '{name}' is {found!r}, expected a table")
    return found


def _read_own(path: Path, model: str) -> Sourced:
    if not path.is_file():
        raise SettingsError(
            f"--preset {path}: no such file; 'msdn presets --write FILE.toml' writes one to start from"
        )
    content = _parse(path)
    table = content.get(OWN_TABLE)
    if not isinstance(table, dict):
        raise SettingsError(
            f"{path}: has no table [{OWN_TABLE}]; 'msdn presets --write FILE.toml' writes one"
        )
    if content.get("model", model) != model:
        raise SettingsError(
            f"{path}: settings of the model '{content['model']}', not of '{model}'; give --model"
        )
    known = fields_of(find_model(model).settings)
    values: Sourced = {}
    for name, one in table.items():
        if name not in known or name == "model":
            raise SettingsError(str(UnknownNameError(f"setting in {path}:", name, set(known) - {"model"})))
        value = one["value"] if isinstance(one, dict) and "value" in one else one
        source = one.get("source", "") if isinstance(one, dict) else ""
        values[name] = (_value(value), str(source) or path.name)
        if isinstance(known[name].default, float) and type(value) is int:
            values[name] = (float(value), values[name][1])
    return values


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read as TOML ({error})") from error


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
