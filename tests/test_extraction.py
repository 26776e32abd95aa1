"""The whole of stage one on a toy dataset: right features, resumable at any instant, nothing lost."""

import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from toy_cache import make_annotations
from toy_dataset import PROGRAM, TOY, run_msdn, toy_environment, write_toy_annotations, write_toy_dataset

from msdn.cache import CacheError, FeatureCache, layout
from msdn.cache.header import read_header
from msdn.cache.home import Home
from msdn.cache.lock import FileLock, LockError
from msdn.cache.partial import partial_path
from msdn.extract import extraction, runner
from msdn.extract.backbone import MEAN, STD, build_trunk
from msdn.extract.calibration import restore_statistics
from msdn.extract.datasets import registry
from msdn.extract.errors import DatasetError, ExtractError
from msdn.extract.extraction import Extraction, Watcher, extract
from msdn.extract.images import read_image
from msdn.extract.row_writer import RowWriter
from msdn.extract.settings import ExtractSettings
from msdn.extract.weights import Weights, load_weights

SETTINGS = ExtractSettings(dataset="toy", weights="random", batch_size=4, workers=2, device="cpu")
CACHE = "toy-224-random.h5"


@functools.cache
def draw_once(choice: str) -> Weights:
    return load_weights(choice, Home(Path("unused")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setitem(registry.DATASETS, "toy", TOY)
    monkeypatch.setattr(extraction, "load_weights", lambda choice, _home: draw_once(choice))
    write_toy_dataset(tmp_path / "home/data")
    return Home(tmp_path / "home")


class StoppedError(Exception):
    """Stands for whatever ends a run early."""


def interrupt_after(blocks: int) -> Watcher:
    seen = []

    def on_progress(_progress: object) -> None:
        seen.append(1)
        if len(seen) == blocks:
            raise StoppedError

    return Watcher(on_progress=on_progress)


def test_features_are_those_of_a_naive_loop(home: Home) -> None:
    done = extract(SETTINGS, home)
    assert done.path == home.features / CACHE and done.weights_kind == "random"
    with FeatureCache(done.path) as cache:
        network = build_trunk(load_weights("random", Home(Path("unused"))))
        restore_statistics(network, cache.backbone_state)
        prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        for row in (0, 13, 29):
            image = read_image(home.data / TOY.images / cache.annotations.image_paths[row], 224)
            with torch.no_grad():
                expected = network(prepare(image.copy())[None])[0].permute(1, 2, 0).reshape(49, 2048)
            np.testing.assert_allclose(cache.read_rows([row])[0], expected, rtol=2e-3, atol=2e-3)
        assert cache.annotations.attribute_names[0] == "part 0 color: red"
        assert cache.provenance["weights"]["seed"] == 0


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


@pytest.mark.parametrize("image_size, dtype", [(448, "float16"), (224, "float32")])
def test_other_sizes_and_types(home: Home, image_size: int, dtype: str) -> None:
    done = extract(replace(SETTINGS, image_size=image_size, dtype=dtype), home)
    with FeatureCache(done.path) as cache:
        assert cache.shape == (30, image_size // 32, image_size // 32, 2048) and cache.dtype == dtype
    assert str(image_size) in done.path.name


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
    ],
)
def test_a_resume_that_differs_is_refused_by_name(home: Home, change: dict, named: str) -> None:
    settings = replace(SETTINGS, out=home.root / "a.h5")
    with pytest.raises(StoppedError):
        extract(settings, home, interrupt_after(1))
    before = partial_path(settings.out).read_bytes()
    with pytest.raises(ExtractError, match=rf"a.h5.partial was begun otherwise \(.*{named}.*--restart"):
        extract(replace(settings, **change), home)
    assert partial_path(settings.out).read_bytes() == before
    assert extract(replace(settings, restart=True, **change), home).progress.computed == 30


def notes_of(settings: ExtractSettings, home: Home) -> tuple[Extraction, str]:
    notes: list[str] = []
    return extract(settings, home, Watcher(on_stage=notes.append)), "\n".join(notes)


def test_a_resume_after_labels_changed_goes_on_and_names_annotate(home: Home) -> None:
    with pytest.raises(StoppedError):
        extract(SETTINGS, home, interrupt_after(1))
    write_toy_annotations(home.data, make_annotations(seed=8))
    done, notes = notes_of(SETTINGS, home)
    assert done.progress.computed < 30
    assert "the dataset's attributes, attribute vectors changed since this cache was begun" in notes
    assert f"'msdn cache annotate {done.path} --dataset toy' takes them over" in notes


def test_a_resume_after_images_changed_is_refused(home: Home) -> None:
    with pytest.raises(StoppedError):
        extract(SETTINGS, home, interrupt_after(1))
    write_toy_dataset(home.data, per_class=4)
    with pytest.raises(ExtractError, match="list of images changed since it was begun; begin anew"):
        extract(SETTINGS, home)


def break_images(home: Home) -> dict[Path, bytes]:
    """Spoil three images, each in another way; return what they held."""
    paths = [home.data / "TOY/images" / name for name in ("class_0/2.jpg", "class_1/7.jpg", "class_5/29.jpg")]
    before = {path: path.read_bytes() for path in paths}
    paths[0].write_bytes(b"")
    paths[1].write_text("not an image")
    paths[2].write_bytes(before[paths[2]][:900])
    return before


def test_bad_images_stop_after_all_others_are_done_and_are_listed(home: Home) -> None:
    before = break_images(home)
    listed = r"(?s)3 images cannot be used:.*2.jpg: .*7.jpg: not an image.*29.jpg"
    with pytest.raises(ExtractError, match=listed):
        extract(replace(SETTINGS, out=home.root / "a.h5"), home)
    assert not (home.root / "a.h5").exists()
    for path, content in before.items():
        path.write_bytes(content)
    done = extract(replace(SETTINGS, out=home.root / "a.h5"), home)
    assert done.progress.computed == 3
    with FeatureCache(done.path) as cache:
        assert not len(cache.masked_rows)


def test_mended_images_fit_in_bit_by_bit(home: Home) -> None:
    """With calibration out of the way (a file's weights), mending leaves no trace."""
    torch.save(load_weights("random:3", Home(Path("unused"))).state, home.root / "w.pth")
    settings = replace(SETTINGS, weights=str(home.root / "w.pth"))
    whole = extract(replace(settings, out=home.root / "whole.h5"), home).path
    before = break_images(home)
    with pytest.raises(ExtractError, match="3 images cannot be used"):
        extract(replace(settings, out=home.root / "a.h5"), home)
    for path, content in before.items():
        path.write_bytes(content)
    assert extract(replace(settings, out=home.root / "a.h5"), home).path.read_bytes() == whole.read_bytes()


def test_palettes_with_transparency_warn_nobody(home: Home) -> None:
    palette = Image.effect_noise((64, 64), 90).convert("P")
    palette.save(home.data / "TOY/images/class_0/2.jpg", "PNG", transparency=bytes(range(256)))
    assert extract(SETTINGS, home).progress.computed == 30


def test_bad_images_can_be_masked(home: Home) -> None:
    break_images(home)
    (home.data / "TOY/images/class_0/2.jpg").unlink()
    done = extract(replace(SETTINGS, bad_images="mask"), home)
    assert [Path(path).name for path in done.masked] == ["2.jpg", "7.jpg", "29.jpg"]
    with FeatureCache(done.path) as cache:
        assert cache.masked_rows.tolist() == [2, 7, 29]
        assert cache.mask_reasons[2] == "missing"
        assert 29 not in cache.rows("test_unseen") and 2 not in cache.rows("trainval")


def test_a_value_too_large_for_float16_names_image_and_remedy(home: Home) -> None:
    features = np.ones((3, 2, 2, 4), np.float32)
    paths = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]
    for value in (70000.0, -70000.0, np.nan, np.inf):
        features[1, 0, 1, 2] = value
        with pytest.raises(ExtractError, match=r"b.jpg: its features hold .* '--dtype float32 --restart'"):
            runner.store_as(features, np.dtype(np.float16), paths)
    features[1, 0, 1, 2] = 70000.0
    assert runner.store_as(features, np.dtype(np.float32), paths)[1, 0, 1, 2] == 70000.0


def test_a_second_extraction_at_the_same_time_is_refused(home: Home) -> None:
    home.features.mkdir()
    with (
        FileLock(home.features / f"{CACHE}.lock", "extracting"),
        pytest.raises(LockError, match=r"process \d+ on .* is extracting to .*toy-224-random.h5 already"),
    ):
        extract(SETTINGS, home)
    assert isinstance(extract(SETTINGS, home), Extraction)


def test_vectors_that_came_later_are_not_passed_over(home: Home) -> None:
    vectors = home.data / "TOY/vectors.npz"
    content = vectors.read_bytes()
    vectors.unlink()
    extract(SETTINGS, home)
    vectors.write_bytes(content)
    done, notes = notes_of(SETTINGS, home)
    assert done.was_complete and "the dataset's attribute vectors changed" in notes


def test_missing_images_are_counted_before_anything_is_computed(home: Home) -> None:
    for path in sorted((home.data / "TOY/images").rglob("*.jpg"))[:12]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"(?s)12 of 30 images are missing:(\n  [^\n]+){10}\n  and 2 more"):
        extract(SETTINGS, home)
    assert not list(home.features.glob("*.partial"))


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
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert extract(replace(SETTINGS, batch_size=None), home).was_complete
    with pytest.raises(ExtractError, match="precision was float32, now bfloat16"):
        extract(replace(SETTINGS, precision="bfloat16"), home)


def test_only_caches_are_ever_replaced(home: Home) -> None:
    precious = home.root / "precious.txt"
    precious.write_text("years of work")
    with pytest.raises(CacheError, match=r"precious.txt: exists and is no cache .*; choose another --out"):
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
    weights = load_weights("random:3", Home(Path("unused")))
    for name in ("w.pth", "moved.pth"):
        torch.save(weights.state, home.root / name)
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
        patched.setattr(extraction, "read_statistics", stop)
        extract(SETTINGS, home)
    assert list(home.features.iterdir()) == []
    assert extract(SETTINGS, home).progress.computed == 30


def test_the_writer_outlives_any_number_of_interrupts() -> None:
    written = []

    class SlowCache:
        def write_rows(self, rows: list[int], _features: object) -> None:
            time.sleep(0.2)
            written.extend(rows)

    interrupts = [
        threading.Timer(delay, signal.raise_signal, [signal.SIGINT]) for delay in (0.05, 0.15, 0.25)
    ]
    with pytest.raises(KeyboardInterrupt), RowWriter(SlowCache()) as writer:
        for timer in interrupts:
            timer.start()
        writer.put([1], np.zeros(1))
        writer.put([2], np.zeros(1))
        while True:
            time.sleep(0.01)
    for timer in interrupts:
        timer.join()
    assert written == [1, 2]


def test_missing_parts_of_a_dataset_are_named(home: Home) -> None:
    splits = home.data / "xlsa17/data/TOY/att_splits.mat"
    splits.write_bytes(b"x" * 500)
    with pytest.raises(DatasetError, match=r"att_splits.mat: cannot be read as a MATLAB 5 file"):
        extract(SETTINGS, home)
    splits.unlink()
    with pytest.raises(
        DatasetError, match=r"att_splits.mat: no such file; it belongs to the Proposed Splits"
    ):
        extract(SETTINGS, home)
    (home.data / "TOY/images").rename(home.data / "TOY/other")
    with pytest.raises(DatasetError, match=r"dataset 'toy' is not in .*TOY/images is missing; make it with"):
        extract(SETTINGS, home)
    assert not list(home.features.glob("*")) if home.features.exists() else True


def test_no_readable_training_image_at_all(home: Home) -> None:
    for path in (home.data / "TOY/images").rglob("*.jpg"):
        path.write_text("x")
    with pytest.raises(ExtractError, match="fewer than two of 16 training images can be read, first: "):
        extract(SETTINGS, home)


def count_done(path: Path) -> int:
    try:
        return int((read_header(path).states == layout.DONE).sum())
    except ValueError:
        return 0


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
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def test_killed_at_several_instants_the_same_command_goes_on(home: Home, tmp_path: Path) -> None:
    whole = extract(replace(SETTINGS, out=home.root / "whole.h5", batch_size=2), home).path
    arguments = ["extract", "--dataset", "toy", "--weights", "random", "--device", "cpu"]
    arguments += ["--batch-size", "2", "--home", "home"]
    final = home.features / CACHE
    partial = partial_path(final)
    creating = partial.with_name(partial.name + ".creating")
    kill_when(lambda: creating.exists() or partial.exists(), arguments, tmp_path)
    kill_when(lambda: count_done(partial) >= 1, arguments, tmp_path)
    kill_when(lambda: count_done(partial) >= 14, arguments, tmp_path)
    finished = run_msdn(*arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == f"home/features/{CACHE}"
    assert "random weights" in finished.stderr
    assert final.read_bytes() == whole.read_bytes()
    assert [path.name for path in home.features.iterdir()] == [CACHE]
