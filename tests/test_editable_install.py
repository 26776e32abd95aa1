"""`pip install -e`: a user's own project sees the package, and so does the type checker there."""

import subprocess
import sys
from pathlib import Path

import pytest
from fresh_install import copy_sources, make_python, outside, pip

PROGRAM = """\
import msdn

run: msdn.Run = msdn.train("plumage", epochs=3)
reveal_type(msdn.evaluate(run))
reveal_type(msdn.predict("bird.jpg")[0].answer)
msdn.extract(3)
msdn.predcit("bird.jpg")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's Python, a copy of this project installed for editing, no libraries."""
    folder = tmp_path_factory.mktemp("editable")
    python = make_python(folder / "env", libraries=False)
    source = copy_sources(folder / "source")
    for _ in range(2):  # a second time changes nothing
        pip(
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-e",
            source,
        )
    return python


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    setting = {"cwd": cwd, "env": outside(), "timeout": 120}
    return subprocess.run(command, **setting, capture_output=True, text=True, check=False)


def test_the_package_is_there_and_a_new_file_in_it_too(python: Path, tmp_path: Path) -> None:
    source = python.parents[2] / "source"
    (source / "extract/added.py").write_text("HERE = __file__\n")
    done = run(python, "-c", "import msdn.extract.added as it; print(it.HERE)", cwd=tmp_path)
    assert done.stdout.strip() == str(source / ".editable/msdn/extract/added.py"), done.stderr


def test_the_type_checker_sees_it_from_elsewhere(python: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM)
    options = ("--python-executable", python, "--cache-dir", tmp_path)
    done = run(sys.executable, "-m", "mypy", *options, "mine.py", cwd=tmp_path)
    said = done.stdout.splitlines()
    assert [line.split(":")[1] for line in said[:-1] if "error" in line] == ["6", "7"], (
        done.stdout + done.stderr
    )
    assert 'Revealed type is "dict[str, Any]"' in said[0] and 'Revealed type is "str"' in said[1]
