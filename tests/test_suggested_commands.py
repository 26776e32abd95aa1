"""Every command that a message suggests can be copied to the end of its line and run, whatever the names in it."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from own_data import write_folder
from toy_cache import make_annotations

from msdn.cache import Home
from msdn.cli import COMMANDS, load_command, main
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import create_run

NAME = "my shapes"
FACTS = {
    "cache": {"path": "a.h5", "fingerprint": "f"},
    "weights": "random",
    "masked_images": 0,
    "device": "cpu",
    "precision": "float32",
    "features": "memory",
    "environment": {},
}


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of every command with options or paths: behind a colon or alone on its line, up to the line's end."""
    for found in re.findall(r"(?:(?<=: )|^ *)msdn .+$", text, re.MULTILINE):
        yield shlex.split(found)
    quoted = re.findall(r"'msdn [^'\n]*(?:--home|/)", text)
    assert not quoted, f"a command in quotes: {quoted}"


def check(words: list[str]) -> None:
    """Each name is whole, and the options are those of the command."""
    rest, entry = words[1:], COMMANDS
    while not isinstance(entry, str):
        if not rest or rest[0] not in entry:  # a group that does something by itself
            entry = entry["list"]
            continue
        entry, rest = entry[rest[0]], rest[1:]
        entry = entry if isinstance(entry, str) else entry[1]
    load_command(entry).make_context("msdn", rest).close()
    for word in words:
        assert "'" not in word and ("shapes" not in word or NAME in word), words


@pytest.fixture
def spaced(tmp_path: Path, make_cache: Callable[..., Path]) -> tuple[Home, Path]:
    home = Home(tmp_path / "my home")
    folder = write_folder(tmp_path / NAME)
    bare = replace(make_annotations(), dataset=NAME, attribute_vectors=None)
    make_cache(home.features / f"{NAME}-224-random.h5", annotations=bare)
    return home, folder


def run(home: Home, *words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words), "--home", str(home.root)], prog_name="msdn")


def test_commands_with_spaced_names_can_be_copied(spaced: tuple[Home, Path]) -> None:
    home, folder = spaced
    cache = next(home.features.iterdir())
    halves = create_run(home.runs, NAME, settings_of("msdn"), FACTS)
    said = [
        run(home, "data", "check", folder),
        run(home, "data", "status"),
        run(home, "evaluate"),
        run(home, "evaluate", "--run", halves.path),
        run(home, "predict", folder, "--dataset", NAME),
        run(home, "predict", folder, "--dataset", "cub"),
        run(home, "train", "--dataset", "cub"),
        run(home, "train", "--dataset", NAME, "--model", "msdn", "--vectors", "given"),
        run(home, "runs", "show", "nothing"),
        run(Home(home.root / "empty"), "runs"),
        run(home, "data", "vectors", folder),
        run(home, "doctor"),
    ]
    found = [words for one in said for words in commands_in(one.output)]
    for words in found:
        check(words)
    assert len(found) >= len(said) - 1, [shlex.join(words) for words in found]
    assert ["msdn", "train", "--dataset", str(folder)] == commands_of(said[0])[-1][:4], "there are features"
    assert str(cache) in [word for words in found for word in words]
    facts = json.loads(run(home, "data", "check", folder, "--json").stdout)["facts"]
    for fact in facts:
        for words in commands_in(fact["value"]):
            check(words)


def commands_of(done: Result) -> list[list[str]]:
    return [shlex.split(line[line.index("msdn ") :]) for line in done.stdout.splitlines() if "msdn " in line]


@pytest.mark.parametrize(
    "words", ["train --dataset", "ablate --dataset", "data groups", "predict x.jpg --dataset"]
)
def test_an_unknown_dataset_is_no_dataset_to_extract(spaced: tuple[Home, Path], words: str) -> None:
    home, _ = spaced
    for name, hint in (("nope", "Known: "), ("my shape", f"Did you mean '{NAME}'?"), ("cubb", "'cub'")):
        done = run(home, *words.split(), name)
        assert done.exit_code == 1 and hint in done.stderr and "plumage" in done.stderr, done.output
        assert f"--dataset {shlex.quote(name)}" not in done.stderr


def test_the_next_command_for_drawn_images_needs_no_download(tmp_path: Path) -> None:
    from msdn.extract.own import command

    opened = type("D", (), {"annotations": replace(make_annotations(), dataset="plumage")})
    line = command._next_command(opened, "plumage", Home(tmp_path))
    assert shlex.split(line)[:6] == ["msdn", "extract", "--dataset", "plumage", "--weights", "random"]
