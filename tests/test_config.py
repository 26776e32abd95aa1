"""The config file: what it may say, what goes before it, and that its use is told and recorded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_runs import write_split_cache

from msdn.cache import Home
from msdn.cli import main
from msdn.train.runs.run import Run, find_runs

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN = '[train]\ndataset = "toy"\nmodel = "msdn"\nepochs = 2\nbatch-size = 8\nlambda-cal = 0.25\nalpha = [0.6, 0.4]\n'


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a config file."""

    def write(text: str) -> Path:
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def trained(home: Home, run_msdn: Callable[..., Result], config: Callable[[str], Path]) -> Run:
    """A run that a file alone described."""
    write_split_cache(home.features / "toy-224-random.h5")
    done = run_msdn("train", "--config", config(f'device = "cpu"\nthreads = 1\n{TRAIN}'))
    assert done.exit_code == 0, done.stderr
    assert "options from" in done.stderr and "run.toml: device, threads, dataset, model" in done.stderr
    return find_runs(home.runs)[0]


def test_a_file_gives_the_options_and_the_run_remembers_it(
    trained: Run, config: Callable[[str], Path]
) -> None:
    settings = trained.settings
    assert (settings.epochs, settings.batch_size, settings.lambda_cal, settings.alpha) == (
        2,
        8,
        0.25,
        (0.6, 0.4),
    )
    recorded = trained.manifest["config"]
    assert recorded["file"].endswith("run.toml")
    assert recorded["options"]["epochs"] == 2 and recorded["options"]["threads"] == 1


def test_what_is_typed_comes_first(
    trained: Run, home: Home, run_msdn: Callable[..., Result], tmp_path: Path
) -> None:
    done = run_msdn(
        "train", f"--config={tmp_path / 'run.toml'}", "--epochs", "1", "--model", "baseline", "-v"
    )
    assert done.exit_code == 2 and "unknown option" in done.stderr and "'lambda-cal'" not in done.stdout
    done = run_msdn("train", f"--config={tmp_path / 'run.toml'}", "--epochs", "1", "-v")
    assert "epochs = 2" in done.stderr  # -v shows the values
    last = find_runs(home.runs)[-1]
    assert last.settings.epochs == 1 and "epochs" not in last.manifest["config"]["options"]


def test_a_named_run_silences_what_it_has_of_its_own(
    trained: Run, run_msdn: Callable[..., Result], config: Callable[[str], Path]
) -> None:
    file = config('device = "cpu"\ndataset = "other"\n[train]\nepochs = 9\n')
    measured = run_msdn("evaluate", "--run", trained.path.name, "--config", file)
    assert measured.exit_code == 0 and "msdn on toy" in measured.stdout
    again = run_msdn("train", "--resume", trained.path, "--config", file)
    assert "finished already" in again.stderr and "epochs" not in again.stderr


def test_a_file_in_this_folder_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_msdn: Callable[..., Result],
    config: Callable[[str], Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    config('[presets]\nmodel = "dazle"\ndataset = "sun"\n').rename(tmp_path / "msdn.toml")
    done = run_msdn("presets")
    assert "dazle on sun" in done.stdout and "options from msdn.toml: model, dataset" in done.stderr
    assert run_msdn("presets", "-q").stderr == ""
    other = config('[presets]\nmodel = "dedn"\n')
    assert "msdn.toml" not in run_msdn("presets", "--config", other).stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[train]\nepoch = 3\n", ["unknown option", "[train]", "'epoch'", "Did you mean 'epochs'?"]),
        ("batch_size = 3\n", ["unknown option", "'batch_size'", "Did you mean 'batch-size'?"]),
        ("divice = 'cpu'\n", ["'divice'", "Did you mean 'device'?"]),
        ("[trian]\nepochs = 3\n", ["unknown command", "[trian]", "Did you mean 'train'?"]),
        ("[data.chek]\n", ["[data.chek]", "Did you mean 'check'?"]),
        ("[train\n", ["cannot be read as TOML"]),
        ("[train]\nepochs = 'many'\n", ["--epochs", "'many'"]),
        ("[train]\nmodel = 'msdm'\n", ["unknown model 'msdm'", "Did you mean 'msdn'?"]),
    ],
)
def test_mistakes_are_named(
    run_msdn: Callable[..., Result], config: Callable[[str], Path], text: str, named: list[str]
) -> None:
    done = run_msdn("train", "--dataset", "toy", "--config", config(text))
    assert done.exit_code == 2
    assert not [word for word in named if word not in done.stderr], done.stderr


def test_a_file_that_is_missing_is_named(run_msdn: Callable[..., Result], tmp_path: Path) -> None:
    folder = run_msdn("train", "--dataset", "toy", "--config", tmp_path)
    assert folder.exit_code == 2 and f"{tmp_path}: is a folder" in folder.stderr
    done = run_msdn("train", "--dataset", "toy", "--config", "nowhere.toml")
    assert done.exit_code == 2 and "nowhere.toml: no such file" in done.stderr


def test_the_table_is_found_however_the_program_is_called(config: Callable[[str], Path]) -> None:
    words = ["runs", "--config", str(config('[runs.list]\nhome = "here"\njson = true\n'))]
    done = CliRunner().invoke(main, words, prog_name="python -m msdn")
    assert done.exit_code == 0 and "/here" in json.loads(done.stdout)["home"]


def test_a_model_for_all_is_none_for_a_command_that_fixes_its_own(
    run_msdn: Callable[..., Result], config: Callable[[str], Path]
) -> None:
    file = config('model = "dazle"\n[ablate]\nepochs = 1\n')
    done = run_msdn("ablate", "--dataset", "toy", "--config", file)
    assert "no cache of 'toy'" in done.stderr and "run.toml: epochs" in done.stderr


def test_groups_of_commands_have_tables_too(
    run_msdn: Callable[..., Result], config: Callable[[str], Path]
) -> None:
    file = config('quiet = true\n[data.groups]\ndataset = "x"\n[runs.list]\nmodel = "nobody"\njson = true\n')
    done = run_msdn("runs", "--config", file)
    assert done.exit_code == 0 and done.stdout.startswith("{") and done.stderr == ""
