"""What README.md and the pages in docs/ ask a reader to type: blocks of code, with what is said right above them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = (
    "needs data",
    "takes long",
)  # comments above a block, or on a page's first line, for the whole page
_FENCED = re.compile(
    r"^(?:<!-- (?P<mark>[\w ]+) -->\n\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
_INDENTED = re.compile(
    r"(?:^<!-- (?P<mark>[\w ]+) -->\n)?(?<=\n)\n(?P<code>(?:    .*\n)(?:(?:    .*)?\n)*)", re.M
)
_SPAN = re.compile(r"(?<!`)`(msdn [^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A block of code: the page's name, the language (sh for an indented one that holds a command), and its mark."""

    page: str
    language: str
    code: str
    mark: str

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each `msdn …` line; a line that ends in a backslash goes on in the next."""
        lines = re.sub(r"<<'(\w+)'\n.*?\n\1\n", "\n", self.code, flags=re.S).replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := arguments(line)) is not None]


def arguments(line: str) -> list[str] | None:
    """What a line gives to msdn, without its comment, redirection and pipe; None where it calls something else."""
    if not line.startswith("msdn ") or line.startswith("msdn  "):  # a table that says where things are
        return None
    words = shlex.split(line, comments=True)[1:]
    return list(takewhile(lambda word: word not in (">", "|"), words))


def blocks(page: Path, language: str = "sh") -> Iterator[Block]:
    """The page's blocks of a language, in order."""
    text = page.read_text(encoding="utf-8")
    whole = re.match(r"<!-- ([\w ]+) -->\n", text)
    of_page = whole[1] if whole and whole[1] in NOT_RUN else ""
    found = [(m.start(), m["language"], m["code"], m["mark"]) for m in _FENCED.finditer(text)]
    without = _FENCED.sub(lambda m: "\n" * m[0].count("\n"), text)
    for match in _INDENTED.finditer(without):
        code = re.sub(r"^    ", "", match["code"], flags=re.M)
        if re.search(r"^msdn \S", code, re.M):
            found.append((match.start(), "sh", code, match["mark"]))
    for _, name, code, mark in sorted(found, key=lambda one: one[0]):
        if name == language:
            yield Block(page.name, name, code, mark or of_page)


def spans(page: Path) -> list[str]:
    """Commands in the running text."""
    return _SPAN.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
