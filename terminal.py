"""What a command writes to the terminal: how much, in which colours, how wide, and its bars.

The lowest file of the house: every room may import it, and it imports none of them.
"""

import codecs
import io
import json
import logging
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

QUIET, NORMAL, VERBOSE = -1, 0, 1
MEANINGS: dict[str, dict[str, Any]] = {  # all colours there are
    "": {},
    "good": {"fg": "green"},
    "warning": {"fg": "yellow"},
    "error": {"fg": "red", "bold": True},
    "dim": {"dim": True},
}
PIPED = 100_000  # columns of a table that goes into a file or a pipe: nothing is folded there
NARROW = 110  # columns; below them a bar leaves out what is not needed to wait for it
CONFIG = "msdn.config"  # what a config file gave, in the context's `meta`
NEW_LINE = "\n"
_ASCII = "msdn_ascii"
_LEVEL = "msdn.level"  # in the context's `meta`
_PLAIN = {"–": "-", "—": "-", "×": "x", "±": "~", "…": ".", "→": ">", "’": "'", "━": "-", "─": "-", "│": "|"}
# control characters, ends of lines, letters that turn the direction of those behind them, halves of letters
ODD = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_moving: list[Bar] = []  # the bars on the screen now
_PATH = r"(?:^|(?<=: ))[^\s:;,]*/[^:;,]*$"  # at the end of a line, and it may hold spaces
_PARTS = re.compile(
    rf"'msdn [^']+'\S*|(?<=: )msdn .+|{_PATH}|\S+"
)  # what is never broken: a command, path or word


def common_options() -> list[click.Parameter]:
    """The options that every command has; `cli.py` adds them."""

    def choose(level: int) -> Callable[..., None]:
        def store(context: click.Context, _parameter: click.Parameter, is_set: bool) -> None:
            if is_set:
                context.meta[_LEVEL] = level

        return store

    def flag(names: Sequence[str], level: int, meaning: str) -> click.Option:
        return click.Option(
            names, is_flag=True, expose_value=False, is_eager=True, callback=choose(level), help=meaning
        )

    return [
        flag(("-q", "--quiet"), QUIET, "Show only results, warnings and errors."),
        flag(("-v", "--verbose"), VERBOSE, "Show more: every epoch, and where options come from."),
        click.Option(
            ("--config",),
            type=click.Path(dir_okay=False),
            expose_value=False,
            help="Options from this TOML file (see docs/terminal.md).  [./msdn.toml if it exists]",
        ),
    ]


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, passed on as `as_json`."""
    meaning = "Print only the result, as JSON, on standard output."
    return click.option("--json", "as_json", is_flag=True, help=meaning)(command)


def print_json(facts: Any) -> None:
    """The whole standard output of a command with `--json`."""
    click.echo(json.dumps(facts, indent=2, default=str))


def used_config() -> dict[str, Any] | None:
    """The config file and those of its values that the command line did not replace, to be recorded; None without."""
    context = click.get_current_context(silent=True)
    if context is None or CONFIG not in context.meta:
        return None
    file, options = context.meta[CONFIG]["file"], context.meta[CONFIG]["options"]
    used = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT_MAP
    }
    return {"file": file, "options": used}


def is_quiet() -> bool:
    """Whether the user asked for results alone."""
    return _level() == QUIET


def be_quiet() -> None:
    """Show results, warnings and errors alone from here on, whatever the user asked for."""
    click.get_current_context().meta[_LEVEL] = QUIET


def is_verbose() -> bool:
    """Whether the user asked for more than is usual."""
    return _level() == VERBOSE


def _level() -> int:
    context = click.get_current_context(silent=True)
    return int(context.meta.get(_LEVEL, NORMAL)) if context else NORMAL


def escape(text: str, keep: str = "") -> str:
    """Write out what would move a terminal's cursor, colour it, or hide what is there; all but the letters to keep.

    Names and texts from files come from anybody. What this file shows goes through here.
    """
    return ODD.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def say(line: str, meaning: str = "") -> None:
    """A line of progress, or a note, on stderr; none where the user wants quiet."""
    if not is_quiet():
        _write(line, meaning)


def warn(line: str) -> None:
    """A line on stderr that is shown even where the user wants quiet."""
    _write(line, "warning")


def show_error(message: str, usage: str = "") -> None:
    """What went wrong, on stderr, below the command's usage where that was wrong."""
    if usage:
        click.echo(usage, err=True)
    text = fit(f"Error: {escape(message, NEW_LINE)}", sys.stderr)
    click.echo(paint("Error:", "error") + text[len("Error:") :], err=True)


def _write(line: str, meaning: str) -> None:
    text = paint(fit(escape(line, NEW_LINE), sys.stderr), meaning)
    if _moving:  # on a line of its own, above the bar
        _moving[-1].console.print(Text.from_ansi(text), soft_wrap=True)
        return
    click.echo(text, err=True)
    sys.stderr.flush()


def paint(text: str, meaning: str) -> str:
    """The text in the colour of its meaning; `click.echo` takes the colour out where no terminal shows it."""
    is_plain = not MEANINGS[meaning] or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if is_plain else click.style(text, **MEANINGS[meaning])


def fit(text: str, stream: Any) -> str:
    """The text with its lines broken between words where the stream is a terminal.

    A command to paste stays in one piece, and so does a long path: the terminal itself folds them.
    """
    if not stream.isatty():
        return text
    width = Console(file=stream).width
    return "\n".join(part for line in text.split("\n") for part in wrap(line, width))


def tell(line: str) -> None:
    """A line of the result, on standard output."""
    click.echo(fit(escape(line, NEW_LINE), sys.stdout))


def wrap(line: str, width: int) -> list[str]:
    """A line as several of at most `width` letters, the later ones as far in as the first."""
    indent = " " * (len(line) - len(line.lstrip()))
    if len(line) <= width or line.startswith("  msdn "):  # a command on a line of its own
        return [line]
    lines, here = list[str](), ""
    chunks = re.split("  +", line.strip())
    is_row = len(chunks) > 2 and max(map(len, chunks)) < width / 2  # such as an epoch's: `loss 0.4  ce 0.1`
    part_of = r"\S+(?: \S+)*" if is_row else _PARTS.pattern
    for gap, part in re.findall(rf"(\s*)({part_of})", line):
        if here.strip() and len(here) + len(gap) + len(part) > width:
            lines.append(here)
            here = indent + part
        else:
            here += gap + part
    return [*lines, here]


def fit_fact(name: str, value: str, width: int = 18) -> list[str]:
    """A fact as lines for standard output: its name, and its value, which goes on below itself."""
    name, value = escape(name), escape(value)
    lines, columns = [value], math.inf
    if sys.stdout.isatty():
        columns = Console().width
        room = max(columns - width - 1, 20)
        whole = [
            line
            for part in wrap(value, room)
            for line in ([part] if "/" in part else textwrap.wrap(part, room, break_long_words=False))
        ]
        lines = whole or [value]
    names = [name, *[""] * (len(lines) - 1)]
    # a long word, such as a hash, begins further left: it is to be copied
    starts = [
        min(width, max(int(columns - len(line)) - 1, len(name))) if columns < math.inf else width
        for line in lines
    ]
    return [f"{one:<{start}} {line}" for one, start, line in zip(names, starts, lines, strict=True)]


class _Console(Console):
    """Takes texts as they are, without markup, and shows no control characters but its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape what is no control sequence of rich's own."""
        for part in super().render(renderable, options):
            is_plain = part.control or not ODD.search(part.text)
            yield part if is_plain else Segment(escape(part.text, NEW_LINE), part.style)

    def on_broken_pipe(self) -> None:
        """Leave it to `cli.py`, which ends every command alike."""
        raise BrokenPipeError


def note_console() -> Console:
    """Standard error for bars and notes: silent where the user wants quiet."""
    return _Console(stderr=True, quiet=is_quiet(), soft_wrap=True)


def result_console() -> Console:
    """Standard output, wide where nobody's window limits it."""
    console = _Console()
    return console if console.is_terminal else _Console(width=PIPED)


def has_bar(console: Console) -> bool:
    """Whether bars move there; elsewhere a line now and then stands for them."""
    return console.is_terminal and not console.quiet


class _Bar(Bar):
    """A bar that lines are written above for as long as it moves."""

    def start(self) -> None:
        super().start()
        if not self.disable and self not in _moving:
            _moving.append(self)

    def stop(self) -> None:
        if self in _moving:
            _moving.remove(self)
        super().stop()


def make_bar(console: Console, *columns: ProgressColumn, what: int, room: int) -> Bar:
    """A bar behind what is being done, in `what` letters at most, and before `columns`, which take up to `room`."""
    length = min(40, max(8, console.width - what - room - 2))
    name = Column(no_wrap=True, overflow="ellipsis", max_width=what)
    return _Bar(
        TextColumn("{task.description}", table_column=name, markup=False),
        BarColumn(length),
        *columns,
        console=console,
        transient=True,
        disable=not has_bar(console),
    )


def counted(number: int, thing: str) -> str:
    """So many things: `1 image`, `2 images`, `2 validation classes`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}{'es' if thing.endswith('s') else 's'}"


def time_to_go(seconds: float) -> str:
    """How long something still takes: `1:05 to go`, or `-:--` where that is not known."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(int(min(seconds, 359_999)), 60)
    return f"{minutes}:{rest:02d} to go"


def shorten_path(path: str, width: int) -> str:
    """A path in at most `width` letters: its first folders give way, its end stays."""
    if len(path) <= width:
        return path
    kept = path[-(width - 1) :]
    return "…" + (kept[kept.index("/") :] if "/" in kept[:-1] else kept)


class LogLines(logging.Handler):
    """Shows the warnings that the library logs."""

    def __init__(self) -> None:
        """Take warnings and what is worse."""
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to stderr."""
        warn(record.getMessage())


def take_any_letter() -> None:
    """Let both streams replace a letter that they cannot show, instead of ending the program."""
    codecs.register_error("msdn", _replace)
    codecs.register(_find_codec)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=_ASCII if is_ascii else None, errors="msdn")


def _find_codec(name: str) -> codecs.CodecInfo | None:
    """ASCII by another name: click takes a stream that calls itself ASCII for a mistake, and writes UTF-8 there."""
    if name != _ASCII:
        return None
    found = codecs.lookup("ascii")
    parts = (found.streamreader, found.streamwriter, found.incrementalencoder, found.incrementaldecoder)
    return codecs.CodecInfo(found.encode, found.decode, *parts, name=_ASCII)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


def close_pipe() -> None:
    """Forget what a reader that has gone did not take, so that the end of the program says nothing of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
