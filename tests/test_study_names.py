"""Names of a study's files."""

from typing import Any

import pytest

from msdn.cache.errors import WrongUsageError
from msdn.train.studies.study import choose_name, default_name, model_row


@pytest.mark.parametrize("name", ["", ".", "..", "...", "a/b", "a/", "/", "../a"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(WrongUsageError, match="expected a file's name without a folder, such as first-try"):
        choose_name(name, "default")


def test_names_are_kept() -> None:
    assert [choose_name(name, "default") for name in (None, "a", "..a", "a.b")] == [
        "default",
        "a",
        "..a",
        "a.b",
    ]


def name_of(preset: str | None = None, **given: Any) -> str:
    row = model_row("cub", "msdn", "msdn", preset=preset, changes={"lambda_distill": 0.5}, common=given)
    return default_name(["sweep", "cub"], [row])


def test_changed_settings_are_in_the_name() -> None:
    assert name_of() == name_of(select="val") == "sweep-cub"
    assert name_of(learning_rate=0.001, alpha=(0.5, 0.5)) == "sweep-cub-learning_rate_0.001-alpha_0.5_0.5"
    assert name_of("paper", task="czsl", epochs=3) == "sweep-cub-czsl-paper-epochs_3"


def test_many_changed_settings_are_a_short_hash() -> None:
    many = {"learning_rate": 0.001, "weight_decay": 0.001, "momentum": 0.5, "sampler": "balanced"}
    names = {name_of(**many, batch_size=size, distillation="paper") for size in (8, 9)}
    assert len(names) == 2 and all(len(name) == len("sweep-cub-12345678") for name in names)
