"""What the shell completes: commands, options, and the names of models, datasets, runs and backbones."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from msdn.cache import FeatureCache, Home
from msdn.cli import main
from msdn.train.loop.training import train_model
from msdn.train.models.registry import settings_of

SHELLS = ("bash", "zsh", "fish")


def complete(line: str, home: Home) -> list[str]:
    """What may follow a line, whose last word is being typed."""
    *words, typed = line.split(" ")
    if "--home" not in words and words:
        words += ["--home", str(home.root)] if words[-1][:2] != "--" else []
    shell = ShellComplete(main, {}, "msdn", "_MSDN_COMPLETE")
    return [item.value for item in shell.get_completions(words, typed)]


@pytest.fixture
def filled(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a cache and two runs, one of them named."""
    monkeypatch.setenv("MSDN_HOME", str(home.root))
    home.features.mkdir(parents=True)
    (home.features / "my-birds-224-random.h5").touch()
    for folder, manifest in (("cub-msdn-s0", {}), ("toy-msdn-s0", {"name": "first-try"})):
        (home.runs / folder).mkdir(parents=True)
        (home.runs / folder / "manifest.json").write_text(json.dumps(manifest))
    return home


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tr", ["train"]),
        ("data ch", ["check"]),
        ("runs de", ["delete"]),
        ("train --lambda-c", ["--lambda-cal"]),
        ("train --model baseline --lambda-d", []),
        ("train --model dz", []),
        ("train --model d", ["dazle", "dedn"]),
        ("evaluate --model ms", ["msdn", "msdn++"]),
        ("train --dataset c", ["cub"]),
        ("train --dataset my", ["my-birds"]),
        ("data check pl", ["plumage"]),
        ("evaluate --run cub", ["cub-msdn-s0"]),
        ("predict --run f", ["first-try"]),
        ("train --resume toy", ["toy-msdn-s0"]),
        ("compare cub", ["cub-msdn-s0"]),
        ("runs show fi", ["first-try"]),
        ("extract --backbone vit_b", ["vit_b_16", "vit_b_32"]),
        ("data download glo", ["glove"]),
        ("train --select v", ["val"]),
        ("sweep --over lam", ["lambda_cal", "lambda_distill"]),
        ("sweep --model baseline --over l", ["lr", "lambda_cal"]),
        ("nonsense --x", []),
        ("train --model nonsense --epo", ["--epochs"]),
    ],
)
def test_names_are_completed(filled: Home, line: str, expected: list[str]) -> None:
    assert complete(line, filled) == expected


def test_a_folder_may_stand_where_no_name_fits(filled: Home) -> None:
    shell = ShellComplete(main, {}, "msdn", "_MSDN_COMPLETE")
    assert [item.type for item in shell.get_completions(["train", "--dataset"], "./b")] == ["dir"]
    assert [item.type for item in shell.get_completions(["train", "--config"], "run")] == ["file"]


def test_classes_of_a_run_are_completed(home: Home, make_cache: Callable[..., Path]) -> None:
    with FeatureCache(make_cache()) as cache:
        run = train_model(cache, settings_of("baseline", epochs=1), home.runs)
        known = cache.annotations.class_names
    shell = ShellComplete(main, {}, "msdn", "_MSDN_COMPLETE")
    for words in (["--run", run.path.name, "--like"], ["--drop"]):
        found = shell.get_completions(["predict", "--home", str(home.root), *words], known[0][:-1])
        assert [one.value for one in found] == [name for name in known if name.startswith(known[0][:-1])]


@pytest.mark.parametrize(
    ("typed", "expected"), [("my", ["my try"]), (r"my\ t", ["my try"]), ("it", ["it's; $HOME"])]
)
def test_bash_gets_names_that_stay_one_word(filled: Home, typed: str, expected: list[str]) -> None:
    """Run through bash as click's script does, and read by it once more as a command line is."""
    for number, name in enumerate(("my try", "it's; $HOME")):
        (filled.runs / f"z-{number}").mkdir()
        (filled.runs / f"z-{number}" / "manifest.json").write_text(json.dumps({"name": name}))
    code = "from msdn.cli import main; main(prog_name='msdn')"
    environment = {**os.environ, "_MSDN_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    environment["COMP_WORDS"] = f"msdn evaluate --run {typed}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    script = "IFS=',' read type value; eval \"printf '%s\\n' $value\""
    read = [
        subprocess.run(["bash", "-c", script], input=line, capture_output=True, text=True, check=True).stdout
        for line in done.stdout.splitlines()
    ]
    assert read == [f"{name}\n" for name in expected]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_told_how(shell: str, filled: Home, tmp_path: Path) -> None:
    environment = {**os.environ, "_MSDN_COMPLETE": f"{shell}_source"}
    code = "from msdn.cli import main; main(prog_name='msdn')"
    script = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "_MSDN_COMPLETE" in script.stdout and f"{shell}_complete" in script.stdout


@pytest.mark.parametrize(
    "words", ["train --dataset ", "extract --backbone ", "evaluate --run ", "train --model "]
)
def test_completion_loads_no_torch(words: str, filled: Home) -> None:
    code = (
        "import sys\nfrom msdn.cli import main\n"
        "try:\n    main(prog_name='msdn')\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    line = f"msdn {words}"
    environment = {
        **os.environ,
        "_MSDN_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split())),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == "" and "plain," in done.stdout
