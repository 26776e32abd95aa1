"""The pages as a whole: commands' pages are up to date, the site lists every page, every link leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT

DOCS = ROOT / "docs"
MARKDOWN = [ROOT / "README.md", ROOT / "CHANGES.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_the_commands_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "make_command_pages.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_change_of_a_command_is_noticed(tmp_path: Path) -> None:
    """The same script beside other pages: one too old, one that no command has."""
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands/evaluate.md").write_text("old")
    (tmp_path / "commands/gone.md").write_text("of a command that is no more")
    script = tmp_path / "make_command_pages.py"
    script.write_text((DOCS / "make_command_pages.py").read_text(encoding="utf-8"), encoding="utf-8")
    check = [sys.executable, script, "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "evaluate.md" in done.stderr and "gone.md" in done.stderr
    subprocess.run([sys.executable, script], check=True)
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    assert "--gzsl" in (tmp_path / "commands/evaluate.md").read_text(encoding="utf-8")


def test_the_site_lists_every_page() -> None:
    listed = re.findall(r"- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        if "://" in file:
            continue
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        if DOCS in page.parents:
            assert DOCS in target.parents, f"{page.name}: {link} is not part of the site"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, (
                link
            )


def test_the_site_builds_and_asks_nobodys_server(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install -e '.[docs]' brings it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'(?:src="|<link [^>]*href=")https?://', text), page.name
