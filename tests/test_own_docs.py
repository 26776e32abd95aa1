"""The example of docs/own-data.md runs as it stands there, and its figures make sense."""

import json
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from msdn.cli import main

PAGE = (Path(__file__).parent.parent / "docs/own-data.md").read_text(encoding="utf-8")
TIMES_CHANCE = {"U": 3, "S": 3, "H": 4, "acc": 1.5}  # U, S and H: 5 %, acc: 25 %


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The page's commands, in a folder with the page's pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSDN_HOME", raising=False)
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    program, commands = re.fullmatch(r"python - <<'EOF'\n(.*?)\nEOF\n(.*)", block, re.DOTALL).groups()
    exec(compile(program, "docs/own-data.md", "exec"), {})
    return commands.splitlines()


def test_the_pictures_are_found_as_the_page_says(commands: list[str]) -> None:
    said = run(commands[0]).replace(str(Path.cwd()), "/home/you")
    assert textwrap.indent(said, "    ") in PAGE, "the page shows another answer"


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_example_can_be_pasted(commands: list[str]) -> None:
    _, extract, train = commands
    assert run(extract).strip() == "msdn-home/features/shapes-224-random.h5"
    for seed in (0, 1, 2):
        assert_well_above_chance(run(f"{train} --model baseline --seed {seed} --json"))
    shown = run(train)
    assert (
        "│ H no margin │" in shown
        and "H published" not in shown
        and "trained msdn on shapes" in shown
        and "random weights" in shown
    )
    assert_well_above_chance(run("msdn evaluate --model msdn --json"))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_other_seeds_end_as_well(commands: list[str]) -> None:
    _, extract, train = commands
    run(extract)
    for seed in (1, 2):
        assert_well_above_chance(run(f"{train} --seed {seed} --json"))


def assert_well_above_chance(printed: str) -> None:
    result = json.loads(printed)
    figures = result.get("test", result)
    for name, times in TIMES_CHANCE.items():
        assert figures[name] >= times * figures["chance"][name], figures


def run(line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "msdn"
    done = CliRunner().invoke(main, arguments, prog_name="msdn", catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout
