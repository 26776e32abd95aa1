"""The shape of the house: import direction, packaging, help without torch."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ("app", "cache", "extract", "train")
MAY_IMPORT = {
    "terminal": set(),
    "cache": {"terminal", "cache"},
    "machine": {"cache"},
    "signals": set(),
    "extract": {"terminal", "cache", "machine", "signals", "extract"},
    "train": {"terminal", "cache", "machine", "signals", "train"},
    "app": {"terminal", "cache", "machine", "extract", "train", "app"},
    "cli": {"terminal", "cache", "machine", "signals", "app"},
}
COMMANDS = (
    *("demo", "extract", "backbones", "train", "evaluate", "explain", "ablate", "sweep", "reproduce"),
    *("compare", "report", "presets", "doctor", "data", "cache", "runs", "predict"),
    *("runs list", "runs show", "runs name", "runs delete"),
    *("data download", "data status", "data check", "data vectors", "data groups"),
    *("cache info", "cache verify", "cache merge", "cache annotate", "cache import", "cache export"),
)


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def source_files() -> list[Path]:
    return [
        ROOT / "cli.py",
        ROOT / "machine.py",
        ROOT / "signals.py",
        ROOT / "terminal.py",
        *(path for part in HOUSE for path in sorted((ROOT / part).rglob("*.py"))),
    ]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        first, _, rest = name.partition(".")
        if first == "msdn" and rest:
            assert rest.split(".")[0] in MAY_IMPORT[room], f"{path}: {room} must not import {name}"
        if room == "cache":
            assert first not in ("torch", "torchvision"), f"{path}: the cache knows no torch"


def test_cache_loads_no_torch() -> None:
    run_python("import msdn.cache.partial, msdn.cache.home, msdn.cache.command, sys")


def run_python(code: str) -> None:
    check = f"{code}\nheavy = {{'torch', 'torchvision'}} & set(sys.modules)\nassert not heavy, heavy"
    subprocess.run([sys.executable, "-c", check], check=True, cwd="/")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_no_torch(command: str) -> None:
    run_python(
        "import sys\nfrom msdn.cli import main\n"
        f"try:\n    main({[*command.split(), '--help']!r})\nexcept SystemExit as end:\n    assert not end.code"
    )


def test_registries_settings_and_presets_load_no_torch() -> None:
    run_python(
        "import sys, msdn.train.models.presets, msdn.train.loop.settings, msdn.train.models.registry\n"
        "import msdn.extract.pipeline.settings, msdn.extract.datasets.registry"
    )


def test_requirements_are_the_agreed_seven_and_pillow_which_is_imported_too() -> None:
    names = {line.split(">=")[0] for line in (ROOT / "requirements.txt").read_text().split()}
    assert names == {"torch", "torchvision", "h5py", "numpy", "scipy", "click", "rich", "pillow"}


def test_every_file_says_what_it_is() -> None:
    for path in [
        *source_files(),
        *sorted((ROOT / "tests").glob("*.py")),
        *sorted((ROOT / "benchmarks").glob("*.py")),
    ]:
        first = ast.get_docstring(ast.parse(path.read_text()))
        assert first and first != "placeholder", path


def test_python_dash_m_works_from_another_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "msdn", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("msdn, version ")


@pytest.mark.parametrize(("file", "least"), [("architecture.md", 20), ("figures.md", 15)])
def test_a_page_that_names_functions_names_what_exists(file: str, least: int) -> None:
    page = (ROOT / "docs" / file).read_text(encoding="utf-8")
    names = re.findall(r"`((?:cache|extract|train|app)\.[\w.]+)`", page)
    assert len(names) > least
    for name in names:
        parts = name.split(".")
        module = next(
            n for n in range(len(parts), 0, -1) if (ROOT / "/".join(parts[:n])).with_suffix(".py").is_file()
        )
        found = importlib.import_module(".".join(["msdn", *parts[:module]]))
        for part in parts[module:]:
            found = getattr(found, part)
        assert callable(found), name


def test_every_room_is_on_the_page() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for house in ("extract", "train"):
        for room in (ROOT / house).iterdir():
            if (room / "__init__.py").is_file():
                assert f"`{house}/{room.name}/`" in page or f"`{room.name}/`" in page, room
