"""What is written to the terminal: whole words at 80 columns, bars, colours, letters, closed pipes."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from toy_runs import write_split_cache
from toy_studies import SHORT

from msdn import terminal
from msdn.cache import Home
from msdn.cache.home import command_line
from msdn.cli import COMMANDS, load_command, main
from msdn.extract.downloads.command import DownloadView
from msdn.extract.pipeline.progress import Progress, ProgressView, describe
from msdn.train.measure import watching
from msdn.train.measure.show import Result as Found
from msdn.train.measure.show import Table, draw, show
from msdn.train.measure.summary import Spread
from msdn.train.measure.watching import EpochView, SeriesView
from msdn.train.models.registry import settings_of

RECORD = {"epochs": 120, "seconds": 0.5, "loss": 0.4146, "ce_av": 0.08306, "cal_av": 3.048, "distill": 6.154}


def screen(width: int) -> Console:
    """A terminal of that width that keeps what is written to it."""
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def lines_of(console: Console) -> list[str]:
    """Every line that was drawn, the ones that were drawn over too."""
    assert isinstance(console.file, io.StringIO)
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", console.file.getvalue()))


def bars_of(console: Console) -> list[str]:
    """The lines that hold a bar."""
    return [line.rstrip() for line in lines_of(console) if re.search("[━╸]", line)]


def length_of(bar: str) -> int:
    """The letters that the bar itself takes, with what is not filled yet."""
    found = re.search("[━╸][━╸╺ ]*", bar)
    return len(found[0]) if found else 0


def test_lines_break_between_words() -> None:
    line = "  one two three 'msdn train --resume /a/long/folder' four"
    assert terminal.wrap(line, 20) == ["  one two three", "  'msdn train --resume /a/long/folder'", "  four"]
    assert terminal.wrap("next: msdn evaluate --run /a b/c", 16) == ["next:", "msdn evaluate --run /a b/c"]
    assert terminal.wrap("fits", 4) == ["fits"] and terminal.wrap("", 4) == [""]
    row = "epoch 3/3  loss 0.41  ce_av 0.08  distill 6.1"
    assert terminal.wrap(row, 34) == ["epoch 3/3  loss 0.41  ce_av 0.08", "distill 6.1"]
    assert (
        terminal.wrap(row, 32)[1] == "distill 6.1" and terminal.wrap(row, 29)[1] == "ce_av 0.08  distill 6.1"
    )
    path = "/a/path/that/is/longer/than/the/line"
    assert terminal.wrap(f"in {path} it is", 12) == ["in", path, "it is"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("short.jpg", "short.jpg"),
        ("a/very/long/folder/img.jpg", "…/folder/img.jpg"),
        ("averylongname0123456789.jpg", "…me0123456789.jpg"),
    ],
)
def test_a_path_keeps_its_end(path: str, shown: str) -> None:
    assert terminal.shorten_path(path, 17) == shown


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_of_an_extraction_keeps_its_length(width: int) -> None:
    console = screen(width)
    progress = Progress(
        total=37322, done=12000, computed=12000, reading=100, computing=400, writing=30, elapsed=600
    )
    with ProgressView(console) as view:
        view.watcher.on_drawing(3, 1440)
        view.watcher.on_progress(progress)
        console.print(view._bar)
    bar = bars_of(console)[-1]
    assert bar.startswith("extracting ") and bar.endswith("to go" if width == 80 else "writing 30 s")
    assert "12000/37322" in bar and "20.0 images/s  21:06 to go" in bar
    assert length_of(bar) >= 20 and len(bar) <= width


def test_the_bar_of_a_download_keeps_its_length() -> None:
    console = screen(80)
    with DownloadView(console) as view:
        view.report("fetching a-file-with-a-name-that-is-too-long.tgz", 10**8, 10**9)
        console.print(view._bar)
    bar = bars_of(console)[-1]
    assert bar.startswith("fetching a-file-with-a-name-th… ") and "100.0 MB" in bar.replace(
        "0.1/1.0 GB", "100.0 MB"
    )
    assert length_of(bar) >= 8 and len(bar) <= 80


@pytest.mark.parametrize("width", [80, 120])
def test_a_training_shows_epoch_loss_and_time_to_go(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    console, said = screen(width), list[str]()
    monkeypatch.setattr(watching, "note_console", lambda: console)
    monkeypatch.setattr(watching, "say", said.append)
    figures = {"phase": "validation", "val_H": 58.9, "val_AUSUC": 33.2, "val_acc": 71.0}
    with EpochView() as view:
        for epoch in range(1, 121):
            view({**RECORD, **figures, "epoch": epoch})
            if epoch == 7:
                console.print(view._bar)
    bar = bars_of(console)[0]
    shown = (
        "val H 58.9  0:56 to go" if width == 80 else "val H 58.9  val AUSUC 33.2  val acc 71.0  0:56 to go"
    )
    assert bar.startswith("validation epoch   7/120 ") and bar.endswith(f"loss 0.4146  {shown}")
    assert length_of(bar) >= 8 and len(bar) <= width
    assert len(said) == 1 and said[0].startswith(
        "validation epoch 120/120  loss 0.4146"
    )  # the last one stays


def test_the_time_to_go_counts_every_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    console = screen(80)
    monkeypatch.setattr(watching, "note_console", lambda: console)
    monkeypatch.setattr(watching, "say", lambda line: None)
    settings = settings_of(select="val", search_lr=True, epochs=120)
    with EpochView() as view:
        view.expect(settings)
        for rate in (*settings.searched_rates, None):
            phase = {} if rate is None else {"phase": "validation", "learning_rate": rate}
            for epoch in range(1, 121):
                view({**RECORD, **phase, "epoch": epoch})
                if epoch == 60:
                    console.print(view._bar)
    bars = [bar for bar in bars_of(console) if " 60/120" in bar]
    told = [bar.split("  60/120")[0] for bar in bars]
    assert told == [f"{n} of 4: validation" for n in (1, 2, 3)] + ["4 of 4: epoch"]
    each = RECORD["seconds"] * 120
    for number, bar in enumerate(bars):
        minutes, seconds = bar.split("  ")[-1].removesuffix(" to go").split(":")
        assert int(minutes) * 60 + int(seconds) == pytest.approx(each * (3.5 - number), abs=2)


def test_several_trainings_at_once_show_how_far_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = screen(80)
    monkeypatch.setattr(watching, "note_console", lambda: console)
    with SeriesView(2) as view:
        view("seed 0", "/runs/toy-s0")
        view("seed 0", {"epoch": 3, "epochs": 9})
        view("seed 1", {"epoch": 4, "epochs": 9})
        console.print(view._bar)
        view.end("seed 0")
        console.print(view._bar)
    bars = [line for line in lines_of(console) if "epoch 4/9" in line]
    assert bars[0].startswith("done 0 of 2") and "seed 0: epoch 3/9; seed 1: epoch 4/9" in bars[0]
    assert bars[-1].startswith("done 1 of 2") and "seed 0" not in bars[-1]
    assert "seed 0: run: /runs/toy-s0" in lines_of(console) and not capsys.readouterr().err


def test_a_training_has_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with EpochView(every=10) as view:
        for epoch in range(1, 121):
            view({**RECORD, "epoch": epoch})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 13 and lines[1].startswith("epoch  10/120  loss 0.4146  ce_av 0.08306")


def test_loss_terms_are_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    with EpochView(explains=True) as view:
        for epoch in range(1, 4):
            view({**RECORD, "epoch": epoch})
    lines = capsys.readouterr().err.splitlines()
    assert "ce_av: cross-entropy of A→V" in lines[0] and "distill: " in lines[0]
    assert all(line.startswith("epoch ") for line in lines[1:]) and "ce_av: " not in "".join(lines[1:])


SPREAD = Spread(82.3, 10.2, 5)
WIDE = Table(
    ("", "acc", "U", "S", "H", "AUSUC", "seeds", "paper acc", "paper H"),
    [["MSDN(V→A) w/o distillation", *[SPREAD] * 5, "4 of 5", 76.1, 68.1]],
    foot=[["msdn, the paper (of the released checkpoint)", *[None] * 5, "", 76.1, 68.1]],
)


def drawn(table: Table, width: int) -> list[str]:
    """A table's lines on a terminal of that width."""
    console = screen(width)
    console.print(draw(table, console))
    return [line.rstrip() for line in lines_of(console) if line.strip()]


def test_a_wide_table_fits_80_columns_with_whole_words() -> None:
    lines = drawn(WIDE, 80)
    text = " ".join(lines)
    assert max(map(len, lines)) <= 80
    for word in (
        "AUSUC",
        "seeds",
        "paper",
        "distillation",
        "checkpoint)",
        "± 10.2",
        "82.3",
        "4 of 5",
        "68.1",
    ):
        assert word in text, word
    assert text.count("± 10.2") == 5 and "│" not in text


def test_a_table_that_fits_has_its_frame() -> None:
    narrow = Table(("model", "H"), [["msdn", SPREAD]], words=("model",))
    assert drawn(narrow, 80)[1] == "┃ model ┃           H ┃" and any(
        "82.3 ± 10.2" in line for line in drawn(narrow, 80)
    )


def test_long_paths_give_way_on_the_left_and_only_where_they_must() -> None:
    images = Table(
        ("image", "answer", "spoke for it"),
        [
            [
                "/data/" + "folder/" * 9 + "0001.jpg",
                "Cardinal",
                "wing color: red, crown color: red, bill: short",
            ]
        ],
        words=("image", "answer", "spoke for it"),
        paths=("image",),
    )
    lines = drawn(images, 80)
    assert max(map(len, lines)) <= 80 and any(
        line.startswith("…/folder") and "0001.jpg" in line for line in lines
    )
    assert any("/data/folder" in line for line in drawn(images, 160))


def test_a_long_title_is_not_folded_to_the_tables_width(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/data/" + "folder/" * 9 + "0001.jpg"
    show(Found({}, [Table(("class", "kind"), [["Cardinal", "seen"]], path, words=("class", "kind"))]))
    assert path in capsys.readouterr().out.splitlines()


def test_warnings_of_the_library_are_shown_even_where_quiet_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = load_command(COMMANDS["presets"])
    monkeypatch.setattr(
        command, "callback", lambda **_: logging.getLogger("msdn.train").warning("odd: %s", "x")
    )
    for words in ([], ["-q"], ["-v"]):
        assert CliRunner().invoke(main, ["presets", *words]).stderr == "odd: x\n"


def test_colours_only_where_a_terminal_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.paint("bad", "error") != "bad" and terminal.paint("bad", "") == "bad"
    coloured = CliRunner().invoke(main, ["trian"], color=True).stderr
    assert "\x1b[" in coloured and "\x1b[" not in CliRunner().invoke(main, ["trian"]).stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert CliRunner().invoke(main, ["trian"], color=True).stderr == click.unstyle(coloured)


def run(words: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """A shell's line, in which msdn is the command."""
    environment = {**os.environ, **settings, "PYTHON": sys.executable}
    line = f'set -o pipefail; msdn() {{ "$PYTHON" -m msdn "$@"; }}; {words}'
    return subprocess.run(["bash", "-c", line], capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("command", ["msdn presets --json", "msdn backbones", "msdn train --help"])
def test_a_reader_that_leaves_is_no_error(command: str) -> None:
    done = run(f"{command} | head -c 1")
    assert done.stderr == b"" and done.returncode in (0, 141)
    gone = run(f"{{ {command}; echo $? >&2; }} | sleep 0")  # nobody reads, so that all fails at the very end
    assert gone.stderr.strip() in (b"0", b"1", b"141")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_letter_that_cannot_be_shown_is_replaced(encoding: str, tmp_path: Path) -> None:
    for command in (
        "msdn train --help",
        "msdn presets --model msdn --dataset cub",
        f"msdn runs --home '{tmp_path}/…'",
    ):
        done = run(command, PYTHONIOENCODING=encoding)
        assert done.returncode == 0 and b"Traceback" not in done.stderr
        done.stdout.decode(encoding)
        assert "…".encode() not in done.stdout


def all_commands(table: dict = COMMANDS, above: str = "") -> dict[str, click.Command]:
    """Every command by its words."""
    found: dict[str, click.Command] = {}
    for name, entry in table.items():
        here = f"{above} {name}".strip()
        found |= {here: load_command(entry)} if isinstance(entry, str) else all_commands(entry[1], here)
    return found


@pytest.mark.parametrize("words", all_commands())
def test_every_command_has_the_common_options_once(words: str) -> None:
    names = [option for one in all_commands()[words].params for option in one.opts]
    for option in ("-q", "--quiet", "-v", "--verbose", "--config"):
        assert names.count(option) == 1
    assert ("--json" in names) == (words not in ("runs name", "runs delete"))


@pytest.mark.usefixtures("one_thread")
def test_quiet_verbose_and_json(home: Home, run_msdn: Callable[..., Result]) -> None:
    cache = write_split_cache(home.features / "toy-224-random.h5")
    train = ("train", "--dataset", "toy", *SHORT[:4], "--device", "cpu")
    usual = run_msdn(*train)
    assert "epoch " in usual.stderr and "run: " in usual.stderr and "trained msdn on toy" in usual.stdout
    quiet = run_msdn(*train, "-q")
    assert quiet.stderr == "" and "trained msdn on toy" in quiet.stdout
    assert json.loads(run_msdn(*train, "--quiet", "--json").stdout)["dataset"] == "toy"
    for words in (
        *(
            ("cache", "info", cache),
            ("cache", "verify", cache),
            ("cache", "export", cache, home.root / "x.hdf5"),
        ),
        *(
            ("data", "status"),
            ("runs",),
            ("evaluate",),
            ("compare",),
            ("presets",),
            ("data", "groups", "toy"),
        ),
    ):
        where = () if words[0] == "cache" else ("--home", home.root)
        done = CliRunner().invoke(main, [*map(str, (*words, "--json", *where))])
        assert done.exit_code == 0, (words, done.stderr)
        assert json.loads(done.stdout), words


def test_a_command_to_paste_is_quoted_and_right_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSDN_HOME", raising=False)
    usual, other = Home(Path("msdn-home")), Home(Path("my home"))
    assert command_line("train", "--dataset", "a b", home=usual) == "msdn train --dataset 'a b'"
    assert command_line("cache", "verify", Path("x.h5"), home=other) == (
        f"msdn cache verify {tmp_path}/x.h5 --home '{tmp_path}/my home'"
    )
    monkeypatch.setenv("MSDN_HOME", "my home")
    assert command_line("runs", home=other) == "msdn runs"
    missing = CliRunner().invoke(main, ["evaluate", "--home", "else where"]).stderr
    assert f"{tmp_path}/else where/runs" in missing and f"--home '{tmp_path}/else where'" in missing


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--dataset", "cbu"),
        ("evaluate", "--dataset", "cbu"),
        ("predict", "x.jpg", "--dataset", "cbu"),
        ("extract", "--dataset", "cbu"),
        ("data", "check", "cbu"),
        ("presets", "--dataset", "cbu"),
        ("reproduce", "cbu"),
    ],
)
def test_a_slip_in_a_datasets_name_is_seen(run_msdn: Callable[..., Result], words: tuple[str, ...]) -> None:
    done = run_msdn(*words)
    assert done.exit_code in (1, 2) and "Did you mean 'cub'?" in done.stderr


def test_a_time_that_nobody_can_know_is_not_made_up() -> None:
    assert describe(Progress(61, 61)) == "" and describe(Progress(61, 5)) == ""
    assert terminal.time_to_go(float("inf")) == "-:--" and terminal.time_to_go(65) == "1:05 to go"
    assert (
        describe(Progress(61, 60, computed=10, elapsed=5.0), with_stages=False) == "2.0 images/s  0:00 to go"
    )


def test_a_warning_begins_on_a_line_of_its_own_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    console = screen(80)
    with terminal.make_bar(console, what=10, room=24) as bar:
        bar.add_task("predicting", total=2)
        bar.refresh()
        terminal.warn("cut.jpg: cannot be decoded: it ends in the middle")
        assert "cut.jpg: cannot be decoded: it ends in the middle" in lines_of(console)
    terminal.warn("after it")
    assert "after it" not in lines_of(console)


def predicted(images: int) -> Table:
    rows = [
        [
            f"photos/of/some/walk/{number:03}.jpg",
            "001.Amber_Throated_Pipwin",
            "unseen",
            "12.345",
            "wing color: blue, head color: red, tail shape: forked",
        ]
        for number in range(images)
    ]
    words = ("image", "answer", "kind", "spoke for it")
    return Table(("image", "answer", "kind", "score", "spoke for it"), rows, words=words, paths=("image",))


def test_words_stay_whole_and_folders_give_way_first() -> None:
    console = screen(80)
    console.print(draw(predicted(1), console))
    lines = [line for line in lines_of(console) if line.strip()]
    assert any("001.Amber_Throated_Pipwin " in line for line in lines)
    assert any(re.search(r"…/\S*000.jpg", line) for line in lines) and len(lines) <= 2 + 4
    assert max(map(len, lines)) <= 80


def test_names_with_spaces_stay_in_one_piece() -> None:
    console, name = screen(80), "my shapes-msdn-s0-20261121-174253"
    cells = [[name, "my shapes", "msdn", 0, "finished", 12.5, 10.25]]
    columns = ("run", "dataset", "model", "seed", "status", "acc", "H")
    words = ("run", "dataset", "model", "status")
    console.print(draw(Table(columns, cells, words=words, whole=("run",)), console))
    assert any(name in line for line in lines_of(console))
    path = f"/a/long/folder of mine/that/goes/on/runs/{name}"
    assert terminal.wrap(f"trained msdn on my shapes: {path}", 80) == ["trained msdn on my shapes:", path]
    assert terminal.wrap(path, 40) == [path]


def test_in_a_file_names_and_rows_are_whole() -> None:
    wide = Table(("image",), [[f"{'folder/' * 40}a.jpg"]], words=("image",), paths=("image",))
    plain = Console(file=io.StringIO(), width=terminal.PIPED)
    plain.print(draw(wide, plain))
    assert isinstance(plain.file, io.StringIO) and f"{'folder/' * 40}a.jpg" in plain.file.getvalue()


def test_a_hash_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    digest = "0123456789abcdef" * 4
    lines = terminal.fit_fact("annotations", f"file attributes.csv, sha256 {digest}, and more")
    assert any(digest in line for line in lines) and max(map(len, lines)) <= 80
