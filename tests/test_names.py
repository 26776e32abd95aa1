"""What `--dataset` names: a name, or a folder by its path."""

from pathlib import Path

import pytest

from msdn.cache.home import dataset_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cub", "cub"),
        ("my birds", "my birds"),
        ("birds.v2", "birds.v2"),
        ("./birds", "birds"),
        ("birds/", "birds"),
        ("photos/birds//", "birds"),
        ("photos/../photos/birds", "birds"),
        (".", "here"),
        ("..", "above"),
        ("../", "above"),
        ("/somewhere/birds", "birds"),
        ("~/birds", "birds"),
    ],
)
def test_a_path_stands_for_its_folder_and_a_name_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    folder = tmp_path / "above" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert dataset_name(text) == name
