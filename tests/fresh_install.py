"""A fresh environment to install this project into, offline; libraries come from the environment of the tests."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy_sources(folder: Path) -> Path:
    """Copy what an installation is made from."""
    for room in ("app", "cache", "extract", "train"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.py"), *ROOT.glob("*.t*"), ROOT / "README.md"):
        shutil.copy(file, folder / file.name)
    return folder


def make_python(folder: Path, libraries: bool = True) -> Path:
    """Make an environment and return its Python."""
    venv.create(folder, with_pip=False)
    if libraries:  # a path alone: what is installed here for editing stays unknown there
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin/python"


def outside() -> dict[str, str]:
    """The environment variables of somebody who knows nothing of this checkout."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}


def pip(*arguments: str | Path) -> None:
    """Run pip of this environment; setuptools comes from here too."""
    command = [sys.executable, "-m", "pip", *arguments]
    setting = {**outside(), "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    done = subprocess.run(command, env=setting, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
