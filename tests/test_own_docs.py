"""The example of docs/own-data.md runs as it stands there."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from msdn.cli import main

PAGE = (Path(__file__).parent.parent / "docs/own-data.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("one_thread")
def test_the_example_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSDN_HOME", raising=False)
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    program, commands = re.fullmatch(r"python - <<'EOF'\n(.*?)\nEOF\n(.*)", block, re.DOTALL).groups()
    exec(compile(program, "docs/own-data.md", "exec"), {})
    said = [run(line) for line in commands.splitlines()]
    assert textwrap.indent(said[0], "    ") in PAGE, "the page shows another answer"
    assert said[1].strip() == "msdn-home/features/shapes-224-random.h5"
    assert "random weights" in said[-1] and "baseline" in said[-1]


def run(line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "msdn"
    done = CliRunner().invoke(main, arguments, prog_name="msdn", catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout
