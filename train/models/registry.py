"""Finds a model: a folder beside this file, an installed package's, or a file or folder of the user's own.

Naming a model loads no torch. Code of a user's own file runs only where the user named the file, now or in an earlier
training of the same home; never because a run's folder mentions it.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from msdn.cache.errors import UnknownNameError
from msdn.cache.files import make_folder
from msdn.cache.home import Home
from msdn.cache.records import read_sealed, write_sealed
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import RunSettings, fields_of
from msdn.train.models.model import Model

log = logging.getLogger(__name__)
DEFAULT = "msdn"
ENTRY_POINTS = "msdn.models"  # the group under which an installed package offers its `MODEL`
HERE = Path(__file__).parent
_RECORD = "MODEL"
_REMEMBERED = "models.json"  # in a home: the files that its models came from


@dataclass(frozen=True)
class ModelFile:
    """A user's own model: its file or folder, and what it held when it was loaded."""

    path: Path
    sha256: str


_own: dict[str, tuple[Model, ModelFile]] = {}  # loaded in this process
_remembered: dict[str, ModelFile] = {}  # named by the user in an earlier training of the home


def builtin_names() -> list[str]:
    """The names of the models that ship with the package."""
    return list(_builtin())


def model_names() -> list[str]:
    """The names that `--model` knows, the default one first."""
    names = {*_builtin(), *_installed(), *_own, *_remembered}
    return sorted(names, key=lambda name: (name != DEFAULT, name))


def find_model(name: str) -> Model:
    """The model of that name; raises `UnknownNameError` with the known ones."""
    if name in _builtin():
        return _builtin()[name][0]
    if name in _own:
        return _own[name][0]
    if name in _installed():
        return _load_installed(name, _installed()[name])
    if name in _remembered:
        return _load_remembered(name, _remembered[name])
    raise UnknownNameError(
        "model", name, model_names(), ", or the path of a file or folder with your own model"
    )


def choose_model(text: str) -> Model:
    """The model that `--model` means: a known name, or the path of a file or folder."""
    if is_path(text):
        return load_model_file(Path(text).expanduser())
    return find_model(text)


def is_path(text: str) -> bool:
    """Whether `--model` names a file or folder."""
    return os.sep in text or text.endswith(".py")


def presets_file(name: str) -> Path:
    """Where a model's presets are, if it has any."""
    if name in _builtin():
        return _builtin()[name][1] / "presets.toml"
    if name in _own:
        path = _own[name][1].path
        return path / "presets.toml" if path.is_dir() else path.with_suffix(".toml")
    origin = sys.modules[find_model(name).settings.__module__].__file__
    return Path(origin or ".").parent / "presets.toml"


def settings_of(model: str = DEFAULT, **values: Any) -> RunSettings:
    """A model's settings at their defaults, but for `values`."""
    return find_model(model).default(**values)


def settings_from_json(stored: Mapping[str, Any]) -> RunSettings:
    """Settings as stored in a run; a setting younger than the run takes its default."""
    model = find_model(str(stored.get("model", DEFAULT)))
    unknown = sorted(set(stored) - set(fields_of(model.settings)))
    if unknown:
        raise SettingsError(f"unknown setting '{unknown[0]}': made by another version of msdn")
    return model.default(**{name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()})


def load_model_file(path: Path) -> Model:
    """Run a user's own file or folder, and return the model it holds under `MODEL`."""
    path = path.resolve()
    content = _hash(path)
    for model, file in _own.values():
        if file == ModelFile(path, content):
            return model
    try:
        model = _record_of(_import_file(path, content), str(path))
    except SettingsError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise SettingsError(
            f"{path}: cannot be loaded as a model ({type(error).__name__}: {error}); docs/new-model.md shows one"
        ) from error
    if model.name in _builtin() or model.name in _installed():
        raise SettingsError(
            f"{path}: its model is named '{model.name}', which is taken; give it another name"
        )
    _own[model.name] = (model, ModelFile(path, content))
    return model


def model_file(name: str) -> ModelFile | None:
    """The user's own file of a model; None where it is not one."""
    return _own[name][1] if name in _own else None


def own_files() -> list[Path]:
    """The user's own files that this process has loaded, for the processes that it starts."""
    return [file.path for _, file in _own.values()]


def use_home(home: Home) -> None:
    """Know the models of the user's own that were trained in this home before."""
    file = home.root / _REMEMBERED
    _remembered.clear()
    try:
        stored = read_sealed(file)
        _remembered.update(
            {str(name): ModelFile(Path(one["path"]), str(one["sha256"])) for name, one in stored.items()}
        )
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.warning("%s: not used, it cannot be read (%s)", file, error)


def remember(home: Home, name: str) -> None:
    """Keep in the home where a model of the user's own lies, so that later commands find it by its name."""
    file = model_file(name)
    if file is None or _remembered.get(name) == file:
        return
    _remembered[name] = file
    stored = {key: {"path": str(one.path), "sha256": one.sha256} for key, one in _remembered.items()}
    make_folder(home.root)
    write_sealed(home.root / _REMEMBERED, stored)


@cache
def _builtin() -> dict[str, tuple[Model, Path]]:
    """Every folder beside this file whose package has a record."""
    found = {}
    for one in iter_modules([str(HERE)]):
        record = getattr(import_module(f"{__package__}.{one.name}"), _RECORD, None) if one.ispkg else None
        if record is not None:
            found[record.name] = (record, HERE / one.name)
    return found


@cache
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _load_installed(name: str, point: EntryPoint) -> Model:
    try:
        model = point.load()
    except Exception as error:  # whatever the package raises
        raise SettingsError(
            f"model '{name}' of the package behind '{point.value}' cannot be loaded ({error}); update or remove it"
        ) from error
    if not isinstance(model, Model):
        raise SettingsError(f"model '{name}': '{point.value}' is not an msdn.train.models.model.Model")
    return model


def _load_remembered(name: str, file: ModelFile) -> Model:
    if not file.path.exists():
        raise SettingsError(
            f"the model '{name}' came from {file.path}, which is missing; give its new place with --model FILE"
        )
    if _hash(file.path) != file.sha256:
        raise SettingsError(
            f"{file.path}: changed since '{name}' was trained with it; to use it as it is now, give --model {file.path}"
        )
    return load_model_file(file.path)


def _hash(path: Path) -> str:
    """Of a file's bytes, or of names and bytes of a folder's Python files."""
    if path.is_file():
        return sha256(path.read_bytes()).hexdigest()
    if not (path / "__init__.py").is_file():
        raise SettingsError(f"--model {path}: no such file, or a folder without __init__.py")
    digest = sha256()
    for file in sorted(path.rglob("*.py")):
        digest.update(str(file.relative_to(path)).encode() + b"\0" + sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _import_file(path: Path, content: str) -> ModuleType:
    """Import under a name of its own, so that two files of one name do not meet."""
    name = f"msdn_own_{path.stem.replace('-', '_')}_{content[:12]}"
    file = path / "__init__.py" if path.is_dir() else path
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(path)] if path.is_dir() else None
    )
    if spec is None or spec.loader is None:
        raise SettingsError(f"--model {path}: not a Python file (.py) or a folder of them")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and relative imports look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _record_of(module: ModuleType, where: str) -> Model:
    record = getattr(module, _RECORD, None)
    if not isinstance(record, Model):
        raise SettingsError(f"{where}: has no `{_RECORD} = Model(...)`; docs/new-model.md shows one")
    return record
