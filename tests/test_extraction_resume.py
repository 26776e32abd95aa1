"""Stage one interrupted: resumable at any instant, to the same bytes, and nothing lost or mixed."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from toy_cache import make_annotations
from toy_dataset import PROGRAM, run_msdn, toy_environment, write_toy_annotations, write_toy_dataset
from toy_extraction import CACHE, SETTINGS, StoppedError, count_done, interrupt_after, make_home, notes_of

from msdn.cache import CacheError
from msdn.cache.files import FileLock, LockError
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.cache.partial import partial_path
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline import extraction
from msdn.extract.pipeline.extraction import Extraction, extract
from msdn.extract.pipeline.writing import RowWriter


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return make_home(tmp_path, monkeypatch)


def test_an_extraction_resumed_at_every_block_gives_the_same_bytes(home: Home) -> None:
    whole = extract(replace(SETTINGS, out=home.root / "whole.h5"), home).path
    pieces = replace(SETTINGS, out=home.root / "pieces.h5", batch_size=None)
    with pytest.raises(StoppedError):
        extract(replace(pieces, batch_size=4), home, interrupt_after(1))
    for _ in range(6):
        with pytest.raises(StoppedError):
            extract(pieces, home, interrupt_after(1))
    done = extract(pieces, home)
    assert 0 < done.progress.computed <= 8
    assert done.path.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in home.root.iterdir()) == ["data", "pieces.h5", "whole.h5"]


def test_a_complete_cache_is_left_alone(home: Home) -> None:
    first = extract(SETTINGS, home)
    before = first.path.stat().st_mtime_ns
    assert extract(SETTINGS, home).was_complete
    assert first.path.stat().st_mtime_ns == before
    assert not extract(replace(SETTINGS, restart=True), home).was_complete


@pytest.mark.parametrize(
    "change, named",
    [
        ({"precision": "bfloat16"}, "precision was float32, now bfloat16"),
        ({"weights": "random:1"}, "weights seed was 0, now 1"),
        ({"batch_size": 8}, "block_rows was 4, now 8"),
        ({"dtype": "float32"}, "dtype was float16, now float32"),
        ({"image_size": 448}, "image_size was 224, now 448"),
        ({"backbone": "resnet50"}, "backbone name was resnet101, now resnet50"),
        ({"layer": "layer3"}, "maps regions layer was layer4, now layer3"),
        ({"also": ("global",)}, "maps global was None, now"),
        ({"threads": 3}, "device threads was [12], now 3"),
    ],
)
def test_a_resume_that_differs_is_refused_by_name(home: Home, change: dict, named: str) -> None:
    settings = replace(SETTINGS, out=home.root / "a.h5")
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(1))
    before = partial_path(settings.out).read_bytes()
    with pytest.raises(
        ExtractError, match=rf"a.h5.partial was started with other options \(.*{named}.*--restart"
    ):
        extract(replace(settings, **change), home)
    assert partial_path(settings.out).read_bytes() == before
    assert extract(replace(settings, restart=True, **change), home).progress.computed == 30


def test_a_resume_after_labels_changed_goes_on_and_names_annotate(home: Home) -> None:
    with pytest.raises(StoppedError):
        extract(SETTINGS, home, interrupt_after(1))
    write_toy_annotations(home.data, make_annotations(seed=8))
    done, notes = notes_of(SETTINGS, home)
    assert done.progress.computed < 30
    assert "the dataset's attributes, attribute vectors changed since this cache was started" in notes
    assert f"put the new ones into it with: msdn cache annotate {done.path} --dataset toy" in notes


def test_a_resume_after_images_changed_is_refused(home: Home) -> None:
    with pytest.raises(StoppedError):
        extract(SETTINGS, home, interrupt_after(1))
    write_toy_dataset(home.data, per_class=4)
    with pytest.raises(ExtractError, match=r"images changed .*first 'class_0/4.jpg'.*--restart"):
        extract(SETTINGS, home)


def test_vectors_that_came_later_are_not_passed_over(home: Home) -> None:
    vectors = home.data / "TOY/vectors.npz"
    content = vectors.read_bytes()
    vectors.unlink()
    extract(SETTINGS, home)
    vectors.write_bytes(content)
    done, notes = notes_of(SETTINGS, home)
    assert done.was_complete and "the dataset's attribute vectors changed" in notes


def damage(path: Path) -> None:
    place = read_header(path).places["features"]
    with path.open("r+b") as file:
        file.seek(place.start_of(29))
        file.write(b"damage")


def test_an_interrupted_restart_goes_on_and_replaces_the_old_file(home: Home) -> None:
    done = extract(SETTINGS, home)
    whole = done.path.read_bytes()
    damage(done.path)
    with pytest.raises(StoppedError):
        extract(replace(SETTINGS, restart=True), home, interrupt_after(3))
    assert done.path.exists(), "the old file stays until the new one is whole"
    again = extract(SETTINGS, home)
    assert not again.was_complete and again.progress.computed < 30
    assert done.path.read_bytes() == whole


def test_a_complete_cache_is_accepted_wherever_it_was_made(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(SETTINGS, home)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert extract(replace(SETTINGS, batch_size=None, threads=3), home).was_complete
    with pytest.raises(ExtractError, match="precision was float32, now bfloat16"):
        extract(replace(SETTINGS, precision="bfloat16"), home)


def test_only_caches_are_ever_replaced(home: Home) -> None:
    precious = home.root / "precious.txt"
    precious.write_text("years of work")
    with pytest.raises(CacheError, match=r"precious.txt: exists and is not a cache .*; choose another --out"):
        extract(replace(SETTINGS, out=precious, restart=True), home)
    assert precious.read_text() == "years of work"
    cut = extract(replace(SETTINGS, out=home.root / "cut.h5"), home).path
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size - 5000)
    with pytest.raises(CacheError, match=r"cut.h5: .*cut short.*'msdn extract' with --restart"):
        extract(replace(SETTINGS, out=cut), home)
    assert extract(replace(SETTINGS, out=cut, restart=True), home).progress.computed == 30


def test_an_unfinished_file_under_the_final_name_is_not_complete(home: Home) -> None:
    with pytest.raises(StoppedError):
        extract(SETTINGS, home, interrupt_after(2))
    final = home.features / CACHE
    partial_path(final).rename(final)
    with pytest.raises(CacheError, match=r"incomplete, .* of 30 images not extracted yet"):
        extract(SETTINGS, home)


def test_the_same_weights_from_another_file_go_on(home: Home) -> None:
    state = torchvision.models.resnet101(zero_init_residual=True).state_dict()
    for name in ("w.pth", "moved.pth"):
        torch.save(state, home.root / name)
    settings = replace(SETTINGS, weights=str(home.root / "w.pth"))
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(2))
    assert extract(replace(settings, weights=str(home.root / "moved.pth")), home).progress.computed < 30


def test_killed_during_calibration_nothing_is_left_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patched, pytest.raises(StoppedError):
        patched.setattr(extraction, "calibrate", stop)
        extract(SETTINGS, home)
    assert list(home.features.iterdir()) == []
    assert extract(SETTINGS, home).progress.computed == 30


def test_the_writer_outlives_any_number_of_interrupts() -> None:
    written = []

    class SlowCache:
        def write_rows(self, rows: list[int], _features: object) -> None:
            time.sleep(0.5)
            written.extend(rows)

    interrupts = [
        threading.Timer(delay, signal.raise_signal, [signal.SIGINT]) for delay in (0.05, 0.15, 0.25)
    ]
    with pytest.raises(KeyboardInterrupt), RowWriter(SlowCache()) as writer:
        for timer in interrupts:
            timer.start()
        writer.put([1], {})
        writer.put([2], {})
        while True:
            time.sleep(0.01)
    for timer in interrupts:
        timer.join()
    assert sorted(written) == [1, 2]


def kill_when(condition: Callable[[], bool], arguments: list[str], cwd: Path) -> None:
    """Start `msdn`, SIGKILL it as soon as the condition holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=cwd,
        env=toy_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not condition():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def test_killed_at_several_instants_the_same_command_goes_on(home: Home, tmp_path: Path) -> None:
    settings = replace(SETTINGS, precision="auto", out=home.root / "whole.h5", batch_size=2)
    whole = extract(settings, home).path
    arguments = ["extract", "--dataset", "toy", "--weights", "random", "--device", "cpu"]
    arguments += ["--batch-size", "2", "--home", "home"]
    final = home.features / CACHE
    partial = partial_path(final)
    kill_when(lambda: any(partial.parent.glob(partial.name + "*")), arguments, tmp_path)
    kill_when(lambda: count_done(partial) >= 1, arguments, tmp_path)
    kill_when(lambda: count_done(partial) >= 14, arguments, tmp_path)
    finished = run_msdn(*arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == f"home/features/{CACHE}"
    assert "random weights" in finished.stderr
    assert read_header(final).provenance == read_header(whole).provenance
    assert final.read_bytes() == whole.read_bytes()
    assert [path.name for path in home.features.iterdir()] == [CACHE]


def test_a_second_extraction_at_the_same_time_is_refused(home: Home) -> None:
    home.features.mkdir()
    with (
        FileLock(home.features / f"{CACHE}.lock", "extracting"),
        pytest.raises(LockError, match=r"process \d+ on .* is extracting to .*toy-224-random.h5 already"),
    ):
        extract(SETTINGS, home)
    assert isinstance(extract(SETTINGS, home), Extraction)
