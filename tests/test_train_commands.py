"""`msdn train` and `msdn evaluate` as a user types them."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_studies import Epochs

from msdn.cache.home import Home
from msdn.cli import main
from msdn.train.loop.settings import fields_of, option_name
from msdn.train.loop.trainer import Trainer
from msdn.train.measure.reporting import epoch_line, percent
from msdn.train.models.presets import preset_settings
from msdn.train.models.registry import find_model, model_names, settings_of
from msdn.train.runs.run import Run, find_runs

Msdn = Callable[..., Result]
SHORT = ("--epochs", "3", "--batch-size", "8")
ONE_SEED = ("--epochs", "1", "--seeds", "0", "--jobs", "1", "--device", "cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def toy(make_cache: Callable[..., Path]) -> Path:
    """A small cache of the dataset 'toy' in the home."""
    return make_cache()


def only_run(home: Home) -> Run:
    (run,) = find_runs(home.runs)
    return run


def test_train_and_evaluate(run_msdn: Msdn, home: Home) -> None:
    trained = run_msdn("train", "--dataset", "toy", *SHORT)
    assert trained.exit_code == 0, trained.output
    run = only_run(home)
    assert trained.stdout.splitlines()[-1] == f"see this again with: msdn evaluate --run {run.path}"
    lines = trained.stderr.splitlines()
    assert lines[0].startswith("backbone: random weights")
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]
    assert "test" not in trained.stderr.replace(str(run.path), "")
    evaluated = run_msdn("evaluate")
    assert evaluated.exit_code == 0, evaluated.output
    assert all(f"│ {name} " in evaluated.stdout for name in ("U", "S", "H", "acc"))
    assert "chance" in evaluated.stdout and "backbone: random weights" in evaluated.stdout


def test_json_is_for_machines(run_msdn: Msdn) -> None:
    trained = json.loads(
        run_msdn("train", "--dataset", "toy", "--model", "baseline", *SHORT, "--json").stdout
    )
    figures = json.loads(run_msdn("evaluate", "--gzsl", "--json").stdout)
    assert figures["run"] == trained["run"]
    assert {"U", "S", "H", "dataset", "model", "weights", "masked_images", "chance"} <= set(figures)
    assert "acc" not in figures
    assert all(0 <= figures[name] <= 100 for name in ("U", "S", "H"))
    assert "acc" in json.loads(run_msdn("evaluate", "--czsl", "--margin", "0.5", "--json").stdout)


def test_every_setting_is_an_option(run_msdn: Msdn, home: Home) -> None:
    for model in model_names():
        text = run_msdn("train", "--model", model, "--help").output
        assert all(option_name(one) in text for one in fields_of(find_model(model).settings).values())
    common = run_msdn("train", "--help").output
    assert "--epochs" in common and "--lambda-distill" not in common
    assert all(name in common for name in model_names())
    options = [
        "--lr",
        "0.01",
        "--alpha",
        "0.2",
        "0.8",
        "--va-form",
        "paper",
        "--normalize-vectors",
        "--seed",
        "3",
    ]
    assert run_msdn("train", "--dataset", "toy", *SHORT, *options).exit_code == 0
    run = only_run(home)
    assert run.settings == settings_of(
        margin=0.7,  # the rule's, for data without a preset
        epochs=3,
        batch_size=8,
        learning_rate=0.01,
        alpha=(0.2, 0.8),
        va_form="paper",
        normalize_vectors=True,
        seed=3,
    )
    assert run.manifest["overrides"].keys() == {
        *("epochs", "batch_size", "learning_rate", "alpha", "va_form", "normalize_vectors", "seed")
    }


def test_watching_the_test_is_shown_and_recorded(run_msdn: Msdn, home: Home) -> None:
    trained = run_msdn("train", "--dataset", "toy", *SHORT, "--watch-test")
    assert "test U" in trained.stderr and "test acc" in trained.stderr
    assert only_run(home).manifest["watch_test"] is True
    assert "test figures were shown while training" in run_msdn("evaluate").stdout
    assert json.loads(run_msdn("evaluate", "--json").stdout)["watch_test"] is True


def interrupt(run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch, *options: str) -> Result:
    """Train, interrupted in the third epoch."""

    def stop(self: Trainer, epoch: int) -> dict[str, float]:
        if next(epochs) == 3:
            raise KeyboardInterrupt
        return train_epoch(self, epoch)

    epochs, train_epoch = iter((1, 2, 3)), Trainer.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", stop)
        return run_msdn("train", "--dataset", "toy", *SHORT, *options)


@pytest.mark.parametrize("how", ["alone", "dataset", "same command", "run"])
def test_resume_continues_the_run(
    run_msdn: Msdn, home: Home, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stopped = interrupt(run_msdn, monkeypatch)
    assert stopped.exit_code != 0
    run = only_run(home)
    assert f"continue with: msdn train --resume {run.path}" in stopped.stderr
    arguments = {
        "alone": ["--resume"],
        "dataset": ["--dataset", "toy", "--resume"],
        "same command": ["--dataset", "toy", *SHORT, "--preset", "released", "--resume"],
        "run": ["--resume", str(run.path)],
    }[how]
    resumed = run_msdn("train", *arguments)
    assert resumed.exit_code == 0, resumed.output
    assert only_run(home).finished
    assert "epoch 3/3" in resumed.stderr and "epoch 1/3" not in resumed.stderr


def test_a_resumed_run_keeps_its_settings(run_msdn: Msdn, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(run_msdn, monkeypatch)
    for options, message in (
        (("--lr", "0.5"), "was started with --lr 0.0001, not 0.5: a resumed run keeps its settings"),
        (("--preset", "paper"), "was started without --preset, not with paper/gzsl"),
        (("--watch-test",), "was started with --watch-test False, not True"),
    ):
        refused = run_msdn("train", "--resume", *options)
        assert refused.exit_code == 1 and message in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "Missing option '--dataset'"),
        (["train", "--dataset", "tyo"], 1, "no cache of 'tyo'"),
        (["train", "--dataset", "toy", "--model", "msnd"], 2, "unknown model 'msnd'. Did you mean 'msdn'?"),
        (["train", "--dataset", "toy", "--lr", "0"], 2, "--lr (learning_rate) is 0.0, expected more than 0"),
        (
            ["train", "--dataset", "toy", "--model", "baseline", "--alpha", "1", "0"],
            2,
            "--alpha is not a setting",
        ),
        (["train", "--dataset", "toy", "--seed", "9" * 400], 2, "expected a finite number below"),
        (["train", "--dataset", "toy", "--device", "tpu9"], 1, "--device tpu9: not available"),
        (["train", "--dataset", "toy", "--device", "meta"], 1, "--device meta: not available"),
        (["train", "--dataset", "toy", "--cache", __file__], 1, "test_train_commands.py: "),
        (["train", "--dataset", "toy", "--resume"], 1, "no unfinished run of 'toy'"),
        (["train", "--resume", "nowhere"], 1, "nowhere: no such run in"),
        (["evaluate"], 1, "no finished run in"),
        (["evaluate", "--run", "nowhere"], 1, "nowhere: no such run in"),
        (["evaluate", "--model", "msnd"], 2, "unknown model 'msnd'"),
        (["evaluate", "--margin", "nan"], 2, "not a finite number"),
    ],
)
def test_bad_input_gets_one_sentence(run_msdn: Msdn, arguments: list[str], code: int, message: str) -> None:
    result = run_msdn(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_features_of_another_dataset_are_refused(run_msdn: Msdn, make_cache: Callable[..., Path]) -> None:
    result = run_msdn("train", "--dataset", "cub", "--cache", str(make_cache()))
    assert result.exit_code == 1 and "features of 'toy', not of 'cub'" in result.stderr


def test_a_folder_stands_for_the_dataset_of_its_name(run_msdn: Msdn, home: Home, tmp_path: Path) -> None:
    assert run_msdn("train", "--dataset", f"{tmp_path}/toy/", *SHORT).exit_code == 0
    assert only_run(home).dataset == "toy"
    assert run_msdn("evaluate", "--dataset", str(tmp_path / "toy")).exit_code == 0
    assert "no finished run of 'other'" in run_msdn("evaluate", "--dataset", str(tmp_path / "other")).stderr


def test_evaluate_refuses_a_run_that_is_not_what_was_asked(run_msdn: Msdn, home: Home) -> None:
    run_msdn("train", "--dataset", "toy", *SHORT)
    result = run_msdn("evaluate", "--run", str(only_run(home).path), "--model", "baseline")
    assert result.exit_code == 1 and "a run of the model 'msdn', not 'baseline'" in result.stderr


def test_a_cache_names_its_dataset(run_msdn: Msdn, home: Home) -> None:
    file = home.features / "toy-224-random.h5"
    done = run_msdn("train", "--cache", file, "--model", "baseline", "--epochs", 1)
    assert done.exit_code == 0 and "trained baseline on toy" in done.stdout, done.output
    assert done.stderr.count("features: ") == 1
    swept = run_msdn("sweep", "--cache", file, "--over", "lr", "--values", "1e-3,1e-2", *ONE_SEED)
    assert swept.exit_code == 0, swept.output
    neither = run_msdn("train")
    assert neither.exit_code == 2 and "--dataset" in neither.stderr and "--cache" in neither.stderr


def test_nothing_is_published_for_own_data(run_msdn: Msdn) -> None:
    assert (
        run_msdn("train", "--dataset", "toy", "--model", "baseline", "--epochs", 1, "--margin", 0.5).exit_code
        == 0
    )
    assert "H published" not in run_msdn("evaluate").stdout
    assert "H_published" in json.loads(run_msdn("evaluate", "--json").stdout)


def test_help_does_not_promise_what_the_dataset_decides(run_msdn: Msdn) -> None:
    def usual(option: str, *words: str) -> str:
        said = " ".join(run_msdn("train", *words, "--help").stdout.split())
        return said.split(f" {option} ")[1].split("[")[1].split("]")[0]

    for option, value in (("--epochs", "30"), ("--margin", "1"), ("--batch-size", "50")):
        assert usual(f"{option} {'FLOAT' if option == '--margin' else 'INTEGER'}") == (
            f"the preset's or the rule's; else {value}"
        )
    epochs = preset_settings("msdn", "plumage").epochs  # type: ignore[attr-defined]
    assert usual("--epochs INTEGER", "--dataset", "plumage") == f"default: {epochs}"
    assert usual("--seed INTEGER") == "default: 0"


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain", "report"])
def test_threads_are_told_for_the_command_that_has_them(run_msdn: Msdn, command: str) -> None:
    said = " ".join(run_msdn(command, "--help").stdout.split())
    assert "--threads" in said and "resumed run" not in said and "each training" not in said


def test_after_an_interruption_the_runs_name_will_do(
    run_msdn: Msdn, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = Epochs(monkeypatch)
    epochs.stop_before = 2
    words = ("train", "--dataset", "toy", "--model", "baseline", "--epochs", 3, "--name", "my try")
    stopped = run_msdn(*words)
    epochs.stop_before = None
    (line,) = (line for line in stopped.stderr.splitlines() if "continue with: " in line)
    again = shlex.split(line.split("continue with: msdn ")[1])
    assert again == ["train", "--resume", "my try", "--home", str(home.root)]
    assert CliRunner().invoke(main, again).exit_code == 0


def test_loss_terms_are_explained_once_and_not_to_machines(run_msdn: Msdn) -> None:
    train = ("train", "--dataset", "toy", *SHORT)
    assert run_msdn(*train).stderr.count("ce_av: cross-entropy of A→V") == 1
    for silent in ("--json", "--quiet"):
        assert "cross-entropy" not in run_msdn(*train, silent).stderr


def test_masked_images_are_counted(run_msdn: Msdn, make_cache: Callable[..., Path]) -> None:
    make_cache(masked={2: "truncated"})
    assert "masked images: 1" in run_msdn("train", "--dataset", "toy", *SHORT).stderr
    assert "masked images: 1" in run_msdn("evaluate").stdout


def test_epoch_line_has_a_fixed_order() -> None:
    record = {"epoch": 2, "epochs": 30, "loss": 0.41234, "ce": 0.4, "U": 12.34, "S": None, "seconds": 3.14}
    assert epoch_line(record) == "epoch  2/30  loss 0.4123  ce 0.4  test U 12.3  test S –  3.1 s"
    validated = {"phase": "validation", **record, "val_H": 51.27, "val_acc": 60, "val_margin": 1.0}
    assert epoch_line(validated).startswith(
        "validation epoch  2/30  loss 0.4123  ce 0.4  val H 51.3  val acc 60.0"
    )
    assert percent(None) == "–"
