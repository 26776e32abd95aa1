"""A file for the user goes into a folder that exists; a folder for output is created."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_published import write_foreign

from msdn.app.explain.command import name_pictures
from msdn.cache import Home
from msdn.cache.errors import CacheError
from msdn.cli import main

COMMANDS = (
    "evaluate --out {out}",
    "evaluate --predictions {out}",
    "compare --csv {out}",
    "presets --model msdn --dataset cub --write {out}.toml",
    "data groups toy --csv {out}",
    "cache export {cache} {out}",
    "cache import {published} --dataset own --out {out}",
    "extract --dataset plumage --weights random --out {out}",
    "report some-run --out {out}",
)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_missing_folder_is_named_and_not_made(
    make_cache: Callable[..., Path], home: Home, tmp_path: Path, words: str
) -> None:
    folder = tmp_path / "no where"
    names = {"out": folder / "a.csv", "cache": make_cache(), "published": write_foreign(tmp_path / "a.hdf5")}
    done = run([word.format(**names) for word in words.split()], home)
    assert done.exit_code == 1 and f"there is no folder {folder}" in done.stderr, done.output
    assert not folder.exists() and not home.runs.exists()


def run(words: list[str], home: Home) -> Result:
    return CliRunner().invoke(main, words, prog_name="msdn", env={"MSDN_HOME": str(home.root)})


def test_of_explain_a_folder_is_made_and_a_file_needs_one(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    assert name_pictures(folder, [Path("a.jpg")]) == [folder / "a.png"]
    with pytest.raises(CacheError, match=f"there is no folder {folder}; create it, or choose another --out"):
        name_pictures(folder / "a.png", [Path("a.jpg")])
