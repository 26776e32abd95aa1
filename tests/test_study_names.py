"""Names of a study's files."""

import pytest

from msdn.cache.errors import WrongUsageError
from msdn.train.studies.options import choose_name


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
