"""docs/tutorial.md, word by word: its programs, the names in its commands, and (slow) all of it on the real Plumage."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from doc_pages import NOT_RUN, ROOT, blocks

from msdn.cli import main
from msdn.extract.plumage.birds import list_attributes
from msdn.extract.plumage.write import name_class

PAGE = ROOT / "docs/tutorial.md"
BLOCKS = [block for block in blocks(PAGE) if block.mark not in NOT_RUN]
PROGRAM = re.compile(r"python - <<'EOF'\n(.*?)\nEOF\n", re.S)
PROGRAMS = [match[1] for block in BLOCKS for match in PROGRAM.finditer(block.code)]


def draw(folder: Path) -> None:
    for program in PROGRAMS:
        subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, timeout=120)


def test_the_programs_draw_birds_and_describe_them(tmp_path: Path) -> None:
    assert len(PROGRAMS) == 2
    draw(tmp_path)
    assert [len(list((tmp_path / name).glob("*.jpg"))) for name in ("sunset", "lanterns")] == [20, 20]
    header, row = (tmp_path / "new.csv").read_text().splitlines()
    assert header.split(",")[1:] == list_attributes()
    assert sorted(map(int, row.split(",")[1:]))[-13:] == [100] * 13 and row.startswith("Night Lantern,")


def test_the_commands_name_what_there_is() -> None:
    code = "".join(block.code for block in BLOCKS)
    for name in re.findall(r'--set "(.*?)=', code):
        assert name in list_attributes()
    (like,) = re.findall(r'--like "(.*?)"', code)
    assert like in {name_class(number) for number in range(48)}


@pytest.mark.slow
def test_word_by_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo in place of `make demo`, then each command as it stands there; figures are those of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSDN_HOME", raising=False)
    page = PAGE.read_text(encoding="utf-8")

    def msdn(*words: str) -> str:
        done = CliRunner().invoke(main, words, prog_name="msdn", catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    msdn("demo")
    draw(tmp_path)
    answers = []
    for words in [words for block in BLOCKS for words in block.commands]:
        assert "random weights" in msdn(*words)
        answers.append([one["answer"] for one in json.loads(msdn(*words, "--json"))])
    tattler, without, swallows, lanterns = answers
    assert tattler == ["002.Ashen_Marsh_Tattler"]
    assert "Sunset Swallow" not in without and len(without) == 20
    assert swallows == ["Sunset Swallow"] * 20 and "All 20 pictures are now recognised" in page
    right = lanterns.count("Night Lantern")
    assert f"{right} of the 20 pictures are recognised" in page
