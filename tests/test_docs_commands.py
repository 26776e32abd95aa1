"""Every command in README.md and docs/ is understood, and runs here unless its page says that it needs data or long."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from doc_pages import NOT_RUN, PAGES, ROOT, Block, arguments, blocks, spans
from own_data import image_splits, write_folder
from PIL import Image
from toy_cache import make_annotations
from toy_dataset import TOY, write_toy_dataset

import msdn
from msdn.cache.annotations import Annotations
from msdn.cli import main
from msdn.extract.datasets import registry

pytestmark = pytest.mark.usefixtures("one_thread")

OWN_TESTS = {  # pages whose commands another test runs as they stand there
    "own-data.md": "test_own_docs.py",
    "new-model.md": "test_new_model_docs.py",
    "tutorial.md": "test_tutorial.py",
}
MODEL_FILE = "new-model.md"  # its commands name a file that is not here
BLOCKS = [block for page in PAGES for block in blocks(page) if block.commands]
PARSED = [
    pytest.param(words, id=f"{block.page}: {shlex.join(words)}")
    for block in BLOCKS
    if block.page != MODEL_FILE
    for words in block.commands
]
BACKBONE = """
from torch import nn
from msdn.extract.backbones import Backbone

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(7))

BACKBONE = Backbone(build=build, layer="2")
"""


def parse(words: list[str]) -> None:
    """Read a command line as click does, without calling the command."""
    command, context = main, None
    while True:
        context = command.make_context(
            words[0] if context else "msdn", words[1 if context else 0 :], parent=context
        )
        rest = [*context._protected_args, *context.args]
        if not isinstance(command, click.Group):
            return
        _, command, words = command.resolve_command(context, rest)
        words = [rest[0], *words]


@pytest.mark.parametrize("words", PARSED)
def test_a_command_is_understood(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSDN_HOME", str(tmp_path))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(click.exceptions.Exit):
        parse(words)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != MODEL_FILE], ids=lambda page: page.name
)
def test_a_command_in_a_sentence_is_understood(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSDN_HOME", str(tmp_path))
    for line in spans(page):
        words = [word.rstrip("…") for word in arguments(line) or []]
        known = (click.MissingParameter, click.exceptions.NoArgsIsHelpError, click.exceptions.Exit)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(*known):
                parse([word for word in words if word])
        except click.ClickException as error:
            pytest.fail(f"{page.name}: `{line}`: {error.format_message()}")


def test_marks_are_known_and_other_tests_read_their_pages() -> None:
    assert {block.mark for block in BLOCKS} == {"", *NOT_RUN}
    for page, test in OWN_TESTS.items():
        assert page in (ROOT / "tests" / test).read_text(encoding="utf-8"), page
    assert len(PARSED) > 50 and len({block.page for block in BLOCKS}) > 8, "where did the commands go?"


def plumage_like() -> Annotations:
    """A few birds that have the names of Plumage's, and some of its attributes."""
    names = (
        "017.Festival_Barbet",
        "018.Fjord_Starling",
        "019.Gale_Swallow",
        "020.Garnet_Chat",
        "012.Dusk_Oriole",
    )
    attributes = (
        "wing color: yellow",
        "wing color: red",
        "head color: brown",
        "size: small",
        "bill shape: cone",
    )
    toy = make_annotations(n_classes=len(names), n_attributes=len(attributes))
    paths = tuple(f"{names[label]}/{row}.jpg" for row, label in enumerate(toy.labels))
    return replace(toy, class_names=names, attribute_names=attributes, image_paths=paths)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the pages speak of: a small Plumage in the home, photos, new classes, and a run on own data."""
    desk = tmp_path_factory.mktemp("desk")
    data = desk / "msdn-home/data"
    write_toy_dataset(data, annotations=plumage_like())
    (data / "plumage").symlink_to("TOY")
    write_folder(desk / "birds", classes=("Cardinal", "heron", "robin", "wren"))
    table = (
        (desk / "birds/attributes.csv")
        .read_text()
        .replace("wing colour", "wing color")
        .replace('"beak, long"', "bill shape: cone")
    )
    (desk / "birds/attributes.csv").write_text(table.replace("crane", "Cardinal"))
    (desk / "birds/splits.csv").write_text(image_splits().replace("crane", "Cardinal"))
    (desk / "new.csv").write_text(f"{table.splitlines()[0]}\nAzure Finch,0,100,1,0\n")
    (desk / "colours.py").write_text(BACKBONE)
    Image.new("RGB", (60, 60), (200, 0, 0)).save(desk / "photo.jpg")
    (desk / "photos").mkdir()
    Image.new("RGB", (60, 60), (0, 0, 200)).save(desk / "photos/blue.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        patch.delenv("MSDN_HOME", raising=False)
        patch.setitem(registry.DATASETS, "plumage", replace(TOY, name="plumage"))
        yield desk


@pytest.fixture
def own_run(desk: Path) -> msdn.Run:
    """The latest run is one on own data."""
    msdn.extract("./birds", backbone="./colours.py", weights="random", device="cpu")
    return msdn.train("./birds", model="msdn", vectors="learned", epochs=2, batch_size=4, device="cpu")


RUN = [block for block in BLOCKS if block.mark not in NOT_RUN and block.page not in OWN_TESTS]


def test_the_pages_commands_run(own_run: msdn.Run) -> None:
    assert RUN
    for block in RUN:
        for words in block.commands:
            extra = ["--backbone", "colours.py"] if words[0] in ("predict", "explain") else []
            done = CliRunner().invoke(main, [*words, *extra], prog_name="msdn", catch_exceptions=False)
            assert done.exit_code == 0, (block.page, words, done.output)


PYTHON = [block for name in ("README.md", "docs/python.md") for block in blocks(ROOT / name, "python")]


@pytest.mark.usefixtures("desk")
def test_the_pages_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(PYTHON) >= 5
    for block in [*PYTHON, *docstring_examples()]:
        names: dict[str, object] = {"msdn": msdn}
        exec(compile(block.code, block.page, "exec"), names)
    said = capsys.readouterr().out
    assert "Did you mean 'msdn'" in said and " of 5" in said


def docstring_examples() -> Iterator[Block]:
    """The example of each function that `import msdn` gives."""
    from msdn.app import library

    for name in ("open_cache", "extract", "train", "load_run", "evaluate", "predict", "merge"):
        text = str(getattr(library, name).__doc__)
        code = re.search(r"Example:\n(.*)", text, re.S)
        assert code, f"{name} has no example"
        yield Block(f"help of {name}", "python", re.sub(r"^        ", "", code[1], flags=re.M), "")
