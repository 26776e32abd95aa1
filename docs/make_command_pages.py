"""Writes docs/commands/: a page for every command, made from its help.

python docs/make_command_pages.py            # write the pages
python docs/make_command_pages.py --check    # only say which are out of date
"""

import html
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

FOLDER = Path(__file__).parent / "commands"
PROGRAM = "msdn"
NOTE = "<!-- Written by docs/make_command_pages.py from the command's help. -->"


class MarkdownFormatter(click.HelpFormatter):
    """Help as Markdown, whatever sections a command has."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The usage line as code."""
        self.write(f"```text\n{prog} {args}".rstrip() + "\n```\n")

    def write_heading(self, heading: str) -> None:
        """A section's title."""
        self.write(f"## {heading}\n\n")

    def write_text(self, text: str) -> None:
        """Paragraphs; one that begins with a backspace is kept line by line, as click does."""
        for paragraph in re.split(r"\n\s*\n", text):
            lines = paragraph.strip("\n").splitlines()
            if lines and lines[0].strip() == "\b":
                self.write("\n```text\n" + "\n".join(line.strip() for line in lines[1:]) + "\n```\n")
            else:
                self.write("\n" + escape(" ".join(line.strip() for line in lines)) + "\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """A table of options and what they mean."""
        self.write("| name | meaning |\n|---|---|\n")
        for name, meaning in rows:
            code = html.escape(name, quote=False).replace("|", "&#124;")
            self.write(f"| <code>{code}</code> | {escape(meaning)} |\n")
        self.write("\n")


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([|*_\[\]`\\])", r"\\\1", html.escape(text, quote=False))


def commands(
    group: click.Group, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        elif command is not None:
            yield (*words, name), command


def make_page(program: click.Group, words: tuple[str, ...], command: click.Command) -> str:
    """One command's page."""
    parent = click.Context(program, info_name=PROGRAM, **program.context_settings)
    context = click.Context(command, parent, info_name=" ".join(words))
    formatter = MarkdownFormatter()
    command.format_help(context, formatter)
    text = re.sub(r"\n{3,}", "\n\n", formatter.getvalue()).strip()
    return f"{NOTE}\n\n# {PROGRAM} {' '.join(words)}\n\n{text}\n"


def make_pages() -> dict[str, str]:
    """Every page by its file's name; the commands are as in a home where nothing is."""
    os.environ["MSDN_HOME"] = str(FOLDER / "no-home")  # where no model of the user's own is known
    from msdn.cli import main

    found = list(commands(main))
    pages = {f"{'-'.join(words)}.md": make_page(main, words, command) for words, command in found}
    lines = [
        f"| [`msdn {' '.join(words)}`]({'-'.join(words)}.md) | {escape(command.get_short_help_str(200))} |"
        for words, command in found
    ]
    pages["index.md"] = "\n".join(
        [NOTE, "", "# Commands", "", "| command | what it does |", "|---|---|", *lines, ""]
    )
    return pages


def main() -> None:
    """Write the pages, or compare them."""
    pages = make_pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    if "--check" in sys.argv[1:]:
        old = sorted(name for name in pages.keys() | there if pages.get(name) != there.get(name))
        sys.exit(f"out of date: {', '.join(old)}; run python docs/make_command_pages.py" if old else 0)
    FOLDER.mkdir(exist_ok=True)
    for name in there.keys() - pages:
        (FOLDER / name).unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
