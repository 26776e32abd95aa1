"""The page that `make results` writes: its figures replaced in one piece, and refused before any training."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parent.parent / "benchmarks" / "plumage_results.py"
PAGE = "# Results\n\n{begin}\nold\n{end}\n\nMore — of it.\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("plumage_results", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(script: ModuleType, tmp_path: Path) -> Path:
    """A page with old figures."""
    path = tmp_path / "results.md"
    path.write_text(PAGE.format(begin=script.BEGIN, end=script.END), encoding="utf-8")
    return path


def test_only_what_is_between_the_marks_is_replaced(script: ModuleType, page: Path) -> None:
    script.write_page(page, "| new \\1 |\n")
    assert page.read_text("utf-8") == PAGE.format(begin=script.BEGIN, end=script.END).replace(
        "old\n", "| new \\1 |\n"
    )
    assert list(page.parent.iterdir()) == [page]


def test_a_crash_while_writing_leaves_the_old_page(
    script: ModuleType, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        script.write_page(page, "new\n")
    assert page.read_bytes() == before


@pytest.mark.parametrize("text", ["", "# Results\n", "{end}\n{begin}\n", "{begin}\n", None])
def test_a_page_without_a_place_is_refused_before_training(
    script: ModuleType, page: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(script, "extract", never)
    monkeypatch.setattr(sys, "argv", ["plumage_results.py", "--page", str(page)])
    with pytest.raises(AssertionError, match="the work began"):
        script.main()
    if text is None:
        page.unlink()
    else:
        page.write_text(text.format(begin=script.BEGIN, end=script.END))
    with pytest.raises(SystemExit, match=r"results\.md: (has no place for the figures|cannot be read)"):
        script.main()


def test_the_page_of_the_docs_has_its_place(script: ModuleType) -> None:
    assert script.BEGIN in script.read_page(script.PAGE)
