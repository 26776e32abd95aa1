"""What goes wrong in daily life: one clear sentence, a non-zero exit, no traceback, nothing lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_cache import make_annotations
from toy_dataset import PROGRAM, TOY, toy_environment, write_toy_dataset
from toy_extraction import CACHE, count_done

from msdn.cache import FeatureCache
from msdn.cache.files import FileLock
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.cache.partial import PartialCache, partial_path
from msdn.cli import main
from msdn.extract.datasets import registry

EXTRACT = ["extract", "--dataset", "toy", "--weights", "random", "--device", "cpu", "--batch-size", "4"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setenv("MSDN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    write_toy_dataset(tmp_path / "home/data")
    return Home(tmp_path / "home")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], prog_name="msdn")


def assert_one_sentence(result: Result, *parts: str, code: int = 1) -> None:
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    for part in parts:
        assert part in errors[0]


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["extrakt"], ["unknown command 'extrakt'", "Did you mean 'extract'?"]),
        (["extract", "--dataset", "cbu"], ["unknown dataset 'cbu'", "Did you mean 'cub'?", "plumage"]),
        (["extract"], ["Missing option '--dataset'"]),
        (["extract", "--dataset", "cub", "--image-size", "8"], ["8 is not in the range"]),
        (
            ["extract", "--dataset", "cub", "--backbone", "resnet5"],
            ["unknown backbone", "Did you mean 'resnet50'"],
        ),
        ([*EXTRACT, "--layer", "layer7"], ["unknown layer of resnet101 'layer7'", "layer4"]),
        ([*EXTRACT, "--also", "global=layer3,pool=x"], ["--also global=layer3,pool=x", "pool=HxW"]),
        (["extract", "--dataset", "cub", "--batch-size", "0"], ["0 is not in the range"]),
        (["--home", "x", "runs"], ["Put --home after the command", "COMMAND --home"]),
        (["data", "--json", "status"], ["Put --json after the command"]),
        (["--helpp"], ["No such option", "--help"]),
        (["cache", "inf", "x"], ["unknown command 'inf'", "Did you mean 'info'?"]),
        (["train", "--dataset", "toy", "--model", "msdm"], ["unknown model 'msdm'", "Did you mean 'msdn'?"]),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(home: Home, arguments: list[str], parts: list[str]) -> None:
    assert_one_sentence(run(*arguments), *parts, code=2)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (
            ["extract", "--dataset", "cub"],
            ["dataset 'cub' is not in", "CUB_200_2011", "'msdn data download cub'"],
        ),
        ([*EXTRACT, "--device", "gpu0"], ["--device gpu0: not available on this machine"]),
        ([*EXTRACT, "--device", "meta"], ["--device meta: not available on this machine"]),
        ([*EXTRACT, "--out", "a" * 300 + ".h5"], ["File name too long"]),
        ([*EXTRACT, "--out", f"{__file__}/a.h5"], ["test_failures.py"]),
        ([*EXTRACT, "--weights", "none.pth"], ["none.pth: no such file", "--weights random"]),
        (["train", "--dataset", "cub"], ["no cache of 'cub'", "msdn extract --dataset cub"]),
        (["cache", "info", "none.h5"], ["none.h5: no such file"]),
    ],
)
def test_what_is_missing_is_named(home: Home, arguments: list[str], parts: list[str]) -> None:
    assert_one_sentence(run(*arguments), *parts)


@pytest.mark.parametrize(
    "command", [["train", "--dataset", "toy", "--cache"], ["cache", "info"], ["cache", "verify"]]
)
def test_a_truncated_cache_is_refused_everywhere(make_cache, home: Home, command: list[str]) -> None:
    path = make_cache()
    os.truncate(path, path.stat().st_size - 1000)
    assert_one_sentence(run(*command, path), str(path), "cut short", "'msdn extract' with --restart")


def test_verify_names_the_damaged_rows(make_cache, home: Home) -> None:
    path = make_cache()
    assert run("cache", "verify", path).exit_code == 0
    with path.open("r+b") as file:
        file.seek(read_header(path).places["features"].end - 3)
        file.write(b"xxx")
    result = run("cache", "verify", path)
    assert_one_sentence(result, "1 of 30 rows are damaged", "--retry-bad")
    assert "row 29 (class_5/29.jpg): features do not match their checksum" in result.stdout


def test_info_tells_of_masked_images(make_cache, home: Home) -> None:
    result = run("cache", "info", make_cache(masked={3: "missing"}))
    assert result.exit_code == 0
    for part in (
        "complete, 1 image masked",
        "-d vectors",
        "class_0/3.jpg: missing",
        "4 seen, 2 unseen",
        "fingerprint",
        "random",
    ):
        assert part in result.stdout


def test_corrupt_images_are_listed_then_masked_and_counted(home: Home) -> None:
    (home.data / "TOY/images/class_1/7.jpg").write_text("broken")
    result = run(*EXTRACT)
    assert_one_sentence(result, "1 image cannot be used:")
    assert "class_1/7.jpg: not an image" in result.stderr and "--bad-images mask" in result.stderr
    assert count_done(partial_path(home.features / CACHE)) == 29
    unfinished = run("cache", "info", partial_path(home.features / CACHE))
    assert "unfinished: 1 of 30 images missing" in unfinished.stdout
    masked = run(*EXTRACT, "--bad-images", "mask")
    assert masked.exit_code == 0 and "1 image masked: never trained or tested on" in masked.stderr
    assert "1 image masked" in run(*EXTRACT).stderr  # and again, whenever the cache is named


def test_a_second_extraction_is_refused(home: Home) -> None:
    home.features.mkdir()
    with FileLock(home.features / f"{CACHE}.lock", "extracting"):
        assert_one_sentence(
            run(*EXTRACT), f"process {os.getpid()} on", "is extracting to", "wait for it or stop it"
        )
    assert run(*EXTRACT).exit_code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_up_loses_nothing(
    home: Home, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, filler, write_rows = small_disk / "a.h5", small_disk / "filler", PartialCache.write_rows

    def fill_disk_first(cache: PartialCache, rows: list[int], features: object) -> None:
        if rows[0] == 12:
            subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False)
        write_rows(cache, rows, features)

    monkeypatch.setattr(PartialCache, "write_rows", fill_disk_first)
    assert_one_sentence(run(*EXTRACT, "--out", out), "the disk is full; make room and repeat the command")
    monkeypatch.undo()
    assert count_done(partial_path(out)) == 12
    filler.unlink()
    monkeypatch.setenv("MSDN_HOME", str(home.root))
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    assert run(*EXTRACT, "--out", out).exit_code == 0
    assert run(*EXTRACT, "--out", home.root / "whole.h5").exit_code == 0
    assert out.read_bytes() == (home.root / "whole.h5").read_bytes()


def test_a_disk_too_small_is_refused_before_the_work(home: Home, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 8_000_000)
    result = run(*EXTRACT, "--out", small_disk / "a.h5")
    assert_one_sentence(result, "the features need 0.01 GB", "choose another place")


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder nobody may write to: for root, that takes a read-only mount."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("root may write anywhere, and may not mount here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_folder_is_named(home: Home, read_only_folder: Path) -> None:
    result = run(*EXTRACT, "--out", read_only_folder / "a.h5")
    assert_one_sentence(result, str(read_only_folder), "choose a place you may write to")
    result = run("extract", "--dataset", "plumage", "--weights", "random", "--home", read_only_folder)
    assert_one_sentence(result, str(read_only_folder), "choose a place you may write to")


def test_ctrl_c_keeps_what_was_done(home: Home, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *EXTRACT, "--batch-size", "1"],
        cwd=tmp_path,
        env=toy_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = partial_path(home.features / CACHE)
    while process.poll() is None and count_done(partial) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "repeat the same command" in stderr and "Finished work is kept." in stderr
    assert 2 <= count_done(partial) < 30
    assert run(*EXTRACT, "--batch-size", "1").exit_code == 0
    with FeatureCache(home.features / CACHE) as cache:
        assert cache.shape[0] == 30


def test_info_says_everything_once_and_in_words(make_cache) -> None:
    bare = replace(make_annotations(), attribute_vectors=None)
    told = {"dataset": bare.dataset, "annotations": {"lists": {"att_splits.mat": "undated"}}}
    shown = run(
        "cache", "info", make_cache(annotations=bare, provenance={"weights": {"kind": "file"}, **told})
    ).stdout
    assert "no word vectors" in shown and "att_splits.mat (without a date)" in shown
    assert sum(line.startswith("dataset ") for line in shown.splitlines()) == 1


def test_an_unknown_backbone_gets_help_instead_of_eighty_names() -> None:
    shown = run("extract", "--dataset", "cub", "--backbone", "resnet5").stderr
    assert "'msdn backbones' lists all" in shown and "vgg16" not in shown


def test_a_file_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.csv").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("empty.csv", "./empty.csv"):
        shown = run("data", "check", name)
        assert shown.exit_code == 1 and "is a file; give " in shown.stdout + shown.stderr
