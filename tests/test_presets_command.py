"""`msdn presets` shows what `msdn train` starts from."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from msdn.cli import main
from msdn.train.models.presets import known_datasets, preset_settings, preset_values
from msdn.train.models.presets_command import kind_of
from msdn.train.models.registry import model_names

PAIRS = [(model, dataset) for model in model_names() for dataset in known_datasets()]


def msdn(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["presets", *arguments])


def rows_of(*arguments: str) -> dict[str, dict]:
    return {row["setting"]: row for row in json.loads(msdn(*arguments, "--json").stdout)["settings"]}


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
@pytest.mark.parametrize("way", [("gzsl", "released"), ("czsl", "released"), ("gzsl", "paper")])
def test_the_values_are_those_that_train_uses(model: str, dataset: str, way: tuple[str, str]) -> None:
    task, preset = way
    if preset == "paper" and model == "dedn":
        return  # it has none: test_train_settings
    rows = rows_of("--model", model, "--dataset", dataset, "--task", task, "--preset", preset)
    settings = preset_settings(model, dataset, task=task, preset=preset).as_json()
    assert {name: row["value"] for name, row in rows.items()} == {
        name: value for name, value in settings.items() if name not in ("model", "task")
    }


def test_every_value_has_its_source() -> None:
    rows = rows_of("--model", "msdn", "--dataset", "awa2")
    assert rows["lambda_distill"] == {
        "setting": "lambda_distill",
        "value": 1e-7,
        "source": "the authors' training code",
    }
    assert rows["paper_style"]["source"] == rows["select"]["source"] == "default"
    borrowed = rows_of("--model", "baseline", "--dataset", "cub")
    assert borrowed["lambda_cal"]["source"] == "as MSDN, for lack of published settings"


def test_the_table_shows_values_as_they_are_typed() -> None:
    shown = msdn("--model", "msdn", "--dataset", "awa2").stdout
    assert "msdn on awa2: preset released, task gzsl" in shown
    lines = {line.split("│")[1].strip(): line.split("│")[2:4] for line in shown.splitlines() if "│" in line}
    assert [cell.strip() for cell in lines["alpha"]] == ["1 0", "the authors' training code"]
    assert [cell.strip() for cell in lines["normalize_vectors"]] == ["yes", "the authors' training code"]
    assert [cell.strip() for cell in lines["cross_entropy"]] == ["released", "the authors' training code"]


def test_the_overview_counts_the_settings_by_source() -> None:
    content = json.loads(msdn("--json").stdout)
    assert [(row["model"], row["dataset"]) for row in content["presets"]] == PAIRS
    for row in content["presets"]:
        sources = [
            one["source"] for one in rows_of("--model", row["model"], "--dataset", row["dataset"]).values()
        ]
        for kind in ("published", "borrowed", "ours", "default"):
            assert row[kind] == sum(kind_of(source) == kind for source in sources)
    cub = content["presets"][PAIRS.index(("msdn", "cub"))]
    assert (cub["published"], cub["borrowed"], cub["ours"]) == (len(preset_values("msdn", "cub")), 0, 0)


def test_the_overview_is_of_one_model_or_dataset_where_asked() -> None:
    of_model = json.loads(msdn("--model", "dedn", "--json").stdout)["presets"]
    assert [row["dataset"] for row in of_model] == known_datasets()
    of_dataset = json.loads(msdn("--dataset", "sun", "--json").stdout)["presets"]
    assert [row["model"] for row in of_dataset] == model_names()
    shown = msdn("--dataset", "sun").stdout
    assert "number of settings by source: preset released, task gzsl" in shown
    assert "awa2" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "msnd"), "unknown model 'msnd'. Did you mean 'msdn'?"),
        (("--dataset", "cup"), "unknown dataset 'cup'. Did you mean 'cub'?"),
        (("--dataset", "mine"), "the path of your own folder"),
        (("--task", "both"), "'both' is not one of 'gzsl', 'czsl'"),
        (("--preset", "mine"), "unknown preset 'mine'"),
    ],
)
def test_unknown_names_are_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    result = msdn(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_folder_of_ones_own_gets_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    content = json.loads(msdn("--model", "dedn", "--dataset", str(tmp_path / "birds"), "--json").stdout)
    assert content["dataset"] == "birds"
    assert {row["source"] for row in content["settings"]} == {"default"}


def test_a_preset_is_written_edited_and_trained_with(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    done = msdn("--model", "msdn", "--dataset", "awa2", "--write", str(file))
    assert done.exit_code == 0, done.output
    assert preset_settings("msdn", "toy", preset=str(file)) == preset_settings("msdn", "awa2")
    again = msdn("--model", "msdn", "--dataset", "awa2", "--write", str(file))
    assert again.exit_code == 1 and f"{file}: exists already" in again.stderr
    file.write_text(file.read_text().replace("value = 50, source", "value = 7, source", 1))
    assert preset_settings("msdn", "toy", preset=str(file)).epochs == 7
    assert preset_values("msdn", "toy", preset=str(file))["lambda_cal"] == (
        0.12,
        "the authors' training code",
    )


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("[settings]\nepoch = 3\n", ("epoch", "Did you mean 'epochs'")),
        ("[settings]\nepochs = 'many'\n", ("--epochs", "'many'")),
        ("epochs = 3\n", ("[settings]", "msdn presets --write")),
        ("[settings\n", ("TOML",)),
        ("model = 'dedn'\n[settings]\n", ("'dedn'", "'msdn'")),
        (None, ("no such file", "msdn presets --write")),
    ],
)
def test_a_bad_preset_file_is_named(tmp_path: Path, text: str | None, facts: tuple[str, ...]) -> None:
    file = tmp_path / "mine.toml"
    if text is not None:
        file.write_text(text)
    result = msdn("--model", "msdn", "--dataset", "cub", "--preset", str(file))
    assert result.exit_code == 2
    assert all(fact in result.stderr for fact in ("mine.toml", *facts)), result.stderr
