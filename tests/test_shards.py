"""A cache made in shards by several workers, killed and resumed by any number of them: one process's bytes."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from own_data import write_folder
from toy_cache import make_annotations
from toy_dataset import write_toy_annotations
from toy_extraction import SETTINGS, StoppedError, count_done, interrupt_after, make_home, notes_of

import msdn
from msdn.cache import CacheError, FeatureCache
from msdn.cache.annotations import cut, digest, join
from msdn.cache.errors import WrongUsageError
from msdn.cache.files import FileLock
from msdn.cache.header import Header, read_header
from msdn.cache.home import Home
from msdn.cache.merging import merge_parts
from msdn.cache.partial import partial_path
from msdn.cache.parts import divide, find_parts, planning_lock
from msdn.cli import main
from msdn.extract.errors import ExtractError
from msdn.extract.pipeline import sharded
from msdn.extract.pipeline.extraction import Extraction, extract
from msdn.extract.pipeline.outcome import BadImagesError
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.extract.pipeline.worker import Worker

SMALL = replace(SETTINGS, backbone="resnet18", image_size=32)  # 30 images in blocks of 4: eight shards
BACKBONE = """
import os, time
from torch import nn
from msdn.extract.backbones import Backbone

class Slow(nn.Conv2d):
    def forward(self, x):
        time.sleep(float(os.environ.get("SLOW", 0)))
        return super().forward(x)

def build():
    return nn.Sequential(Slow(3, 8, 7, stride=8), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(7))

BACKBONE = Backbone(build=build, layer="3")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return make_home(tmp_path, monkeypatch)


def worker(index: int, count: int) -> Worker:
    return Worker(index, count, "a test")


def share(home: Home, index: int, count: int, **changes: object) -> Extraction:
    settings = replace(SMALL, out=home.root / "f.h5", worker=worker(index, count))
    return extract(replace(settings, **changes), home)


def whole(home: Home, **changes: object) -> bytes:
    return extract(replace(SMALL, out=home.root / "whole.h5", **changes), home).path.read_bytes()


def beside(home: Home) -> list[str]:
    return sorted(path.name for path in home.root.glob("f.h5*"))


def test_shards_depend_on_the_data_alone() -> None:
    for rows, block_rows, total in [
        (30, 4, 8),
        (1, 32, 1),
        (32 * 64, 32, 64),
        (11_788, 32, 64),
        (14_000_000, 32, 855),
    ]:
        parts = divide(Path("f.h5"), rows, block_rows)
        assert len(parts) == total >= min(64, -(-rows // block_rows))
        assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
        assert parts[0].start == 0 and parts[-1].stop == rows
        assert all(part.start % block_rows == 0 and part.start < part.stop for part in parts)
        assert max(part.stop - part.start for part in parts) <= 512 * block_rows
    assert divide(Path("f.h5"), 30, 4)[7].path == Path("f.h5.shard-0007-of-0008")


def test_annotations_cut_and_joined_are_the_same() -> None:
    a = make_annotations()
    n = len(a.labels)
    parts = [cut(a, start, min(start + 7, n)) for start in range(0, n, 7)]
    assert digest(join(parts)) == digest(a)
    assert digest(parts[0]) != digest(a)
    assert digest(replace(a, image_paths=("other", *a.image_paths[1:]))) != digest(a)


def test_two_workers_give_the_bytes_of_one_process(home: Home) -> None:
    first = share(home, 0, 2)
    assert not first.path.exists() and first.shards.missing == (1, 3, 5, 7)
    assert [path.name for path in first.shards.mine] == [f"f.h5.shard-000{s}-of-0008" for s in (0, 2, 4, 6)]
    second = share(home, 1, 2)
    assert second.shards.missing == () and first.progress.computed + second.progress.computed == 30
    header = merge_parts(first.path)
    assert first.path.read_bytes() == whole(home)
    assert header.provenance == read_header(home.root / "whole.h5").provenance
    assert len(beside(home)) == 9, "the shards stay, and no lock does"
    assert share(home, 0, 2).was_complete


def test_killed_and_finished_by_another_number_of_workers(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "birds", per_class=3)
    (tmp_path / "slow.py").write_text(BACKBONE)
    line = ["extract", "--dataset", str(data), "--backbone", str(tmp_path / "slow.py"), "--weights", "random"]
    line += ["--batch-size", "4", "--device", "cpu", "--home", str(tmp_path / "home")]
    shared, alone = tmp_path / "shared.h5", tmp_path / "alone.h5"

    def start(*more: str, slow: str = "0") -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "msdn", *line, "--out", str(shared), *more]
        return subprocess.Popen(words, env={**os.environ, "SLOW": slow}, stdout=subprocess.DEVNULL)

    assert len(divide(shared, 12, 4)) == 3, "three shards"
    zero, one = start("--shard", "0/2", slow="4"), start("--shard", "1/2")
    while 0 not in find_parts(shared).finished:
        assert zero.poll() is None, "it ended too early"
        time.sleep(0.02)
    zero.send_signal(signal.SIGKILL)
    assert zero.wait() == -signal.SIGKILL and one.wait() == 0
    assert set(find_parts(shared).finished) == {0, 1}
    refused = CliRunner().invoke(main, ["cache", "merge", str(shared)])
    assert refused.exit_code == 1 and "1 of 3 shards are not finished: 2" in refused.output
    assert not shared.exists()
    assert start("--shard", "0/1").wait(120) == 0
    merged = CliRunner().invoke(main, ["cache", "merge", str(shared), "--remove-parts"])
    assert merged.exit_code == 0, merged.output
    done = CliRunner().invoke(main, [*line, "--out", str(alone)])
    assert done.exit_code == 0, done.output
    assert shared.read_bytes() == alone.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.h5*")) == ["alone.h5", "shared.h5"]


def test_one_process_finishes_and_merges_what_workers_left(home: Home) -> None:
    with pytest.raises(StoppedError):
        extract(replace(SMALL, out=home.root / "f.h5", worker=worker(1, 3)), home, interrupt_after(2))
    assert beside(home) == ["f.h5.shard-0001-of-0008", "f.h5.shard-0004-of-0008.partial"]
    done = extract(replace(SMALL, out=home.root / "f.h5", batch_size=None), home)
    assert done.path.read_bytes() == whole(home) and done.shards is None
    assert beside(home) == ["f.h5"]


def test_a_shard_in_other_hands_is_left_alone(home: Home) -> None:
    share(home, 1, 2)
    held = divide(home.root / "f.h5", 30, 4)[2].path
    with FileLock(held.with_name(held.name + ".lock"), "extracting"):
        done = share(home, 0, 2)
        assert [*done.shards.busy] == [2] and done.shards.missing == (2,)
        assert "is extracting to" in done.shards.busy[2] and count_done(partial_path(held)) == 0
        with pytest.raises(ExtractError, match="shards 2 are still being made"):
            extract(replace(SMALL, out=home.root / "f.h5"), home)
    assert share(home, 0, 2).shards.missing == ()


@pytest.mark.parametrize(
    "change, named",
    [
        ({"weights": "random:1"}, "weights seed was 0, now 1"),
        ({"batch_size": 8}, "block_rows was 4, now 8"),
        ({"precision": "bfloat16"}, "precision was float32, now bfloat16"),
    ],
)
def test_a_worker_with_other_options_is_refused_by_name(home: Home, change: dict, named: str) -> None:
    share(home, 0, 8)
    with pytest.raises(ExtractError, match=rf"shard-0000-of-0008 was started .*{named}.*remove the shards"):
        share(home, 1, 8, **change)
    write_toy_annotations(home.data, make_annotations(seed=8))
    with pytest.raises(ExtractError, match="dataset changed since this shard"):
        share(home, 1, 8)


def test_shards_and_one_process_do_not_mix(home: Home) -> None:
    with pytest.raises(StoppedError):
        extract(replace(SMALL, out=home.root / "f.h5"), home, interrupt_after(2))
    with pytest.raises(ExtractError, match=r"f.h5.partial: one process .* began this cache"):
        share(home, 0, 2)
    with pytest.raises(WrongUsageError, match="--restart is for one process"):
        share(home, 0, 2, restart=True)


def test_a_merge_names_what_is_wrong(home: Home) -> None:
    final = home.root / "f.h5"
    with pytest.raises(CacheError, match="no part of it lies beside it; 'msdn extract' with --shard"):
        merge_parts(final)
    for index in (0, 2):
        share(home, index, 3)
    with pytest.raises(CacheError, match=r"3 of 8 shards are not finished: 1, 4, 7;"):
        merge_parts(final)
    share(home, 1, 3)
    parts = divide(final, 30, 4)
    content = parts[5].path.read_bytes()
    place = read_header(parts[5].path).places["features"]
    with parts[5].path.open("r+b") as file:
        file.seek(place.start_of(2))
        file.write(b"damage")
    with pytest.raises(CacheError, match=r"shard-0005-of-0008: row 2 \(class_4/22\.jpg\) does not match"):
        merge_parts(final)
    assert len(beside(home)) == 8, "nothing is left of a merge that failed"
    parts[5].path.write_bytes(parts[4].path.read_bytes())
    with pytest.raises(CacheError, match="does not hold the part that its name says"):
        merge_parts(final)
    parts[5].path.write_bytes(content)
    merge_parts(final, remove=True)
    assert beside(home) == ["f.h5"] and final.read_bytes() == whole(home)
    with pytest.raises(CacheError, match=r"f.h5: exists already"):
        merge_parts(final)


def test_parts_of_two_divisions_are_refused(home: Home) -> None:
    share(home, 0, 8)
    (home.root / "f.h5.shard-0000-of-0007").touch()
    with pytest.raises(CacheError, match="parts of different divisions"):
        share(home, 1, 8)


def test_mixed_devices_are_merged_on_request_and_recorded(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(home, 0, 2)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    settings = replace(SMALL, out=home.root / "f.h5", worker=worker(1, 2))
    _, notes = notes_of(settings, home)
    assert "another device or by other versions" in notes and "--allow-mixed" in notes
    with pytest.raises(CacheError, match=r"shard 0: .*shard 1: .*torch 9.9.9.*--allow-mixed"):
        merge_parts(home.root / "f.h5")
    header = merge_parts(home.root / "f.h5", allow_mixed=True)
    mixed = header.provenance["mixed_devices"]
    assert [one["shards"] for one in mixed] == [[s, s] for s in range(8)]
    assert mixed[1]["rows"] == [4, 7] and mixed[1]["versions"]["torch"] == "9.9.9"
    assert (
        CliRunner().invoke(main, ["cache", "info", str(header.path)]).output.count("rows 4-7: kind cpu") == 1
    )


def test_a_part_is_no_cache_but_says_what_it_is(home: Home) -> None:
    part = share(home, 3, 8).shards.mine[0]
    with pytest.raises(CacheError, match=r"one part of a cache; .*'msdn cache merge'"):
        FeatureCache(part)
    said = CliRunner().invoke(main, ["cache", "info", str(part)])
    assert "shard 3 of 8: rows 12 to 15 of 30" in said.output and said.exit_code == 0
    assert CliRunner().invoke(main, ["cache", "verify", str(part)]).exit_code == 0


def spoil(home: Home, row: int) -> tuple[Path, bytes]:
    image = home.data / "TOY/images" / make_annotations().image_paths[row]
    content = image.read_bytes()
    image.write_bytes(b"no image")
    return image, content


def test_bad_images_are_listed_after_all_shards_or_masked_and_retried(home: Home) -> None:
    expected = whole(home)
    rows = make_annotations().splits["test_unseen"][[0, 1, -1]].tolist()
    spoilt = [spoil(home, row) for row in rows]  # no training images: those decide the network's statistics
    with pytest.raises(BadImagesError, match="3 images cannot be used") as caught:
        share(home, 0, 1)
    assert len(caught.value.images) == 3
    missing = sorted({row // 4 for row in rows})
    assert find_parts(home.root / "f.h5").missing == missing, "all others are done"
    assert len(share(home, 0, 1, bad_images="mask").masked) == 3
    for image, content in spoilt[:2]:
        image.write_bytes(content)
    again = share(home, 0, 1, retry_bad=True)
    assert again.progress.computed == 2 and len(again.masked) == 1
    spoilt[2][0].write_bytes(spoilt[2][1])
    assert share(home, 0, 1, retry_bad=True).progress.computed == 1
    merge_parts(home.root / "f.h5")
    assert (home.root / "f.h5").read_bytes() == expected


def test_the_masked_images_of_a_finished_cache_are_retried_alone(home: Home) -> None:
    expected = whole(home)
    image, content = spoil(home, make_annotations().splits["test_unseen"][0])
    settings = replace(SMALL, out=home.root / "f.h5", bad_images="mask")
    extract(settings, home)
    retry = replace(settings, retry_bad=True, bad_images="stop", batch_size=None)
    assert extract(retry, home).masked and (home.root / "f.h5").exists()
    image.write_bytes(content)
    done = extract(retry, home)
    assert done.progress.computed == 1 and done.path.read_bytes() == expected
    assert extract(retry, home).was_complete
    with pytest.raises(ExtractError, match="no such cache; leave out --retry-bad"):
        extract(replace(retry, out=home.root / "none.h5"), home)


def test_workers_that_begin_at_once_wait_for_the_first_and_share_its_choices(home: Home) -> None:
    order: list[str] = []

    def begin(index: int) -> None:
        share(home, index, 2, threads=index + 1 if index else None)
        order.append(f"worker {index}")

    with FileLock(planning_lock(home.root / "f.h5"), "planning"):
        second = threading.Thread(target=begin, args=(1,))
        second.start()
        time.sleep(0.5)
        assert order == [] and find_parts(home.root / "f.h5").total == 0
    second.join()
    begin(0)
    headers = [read_header(path) for path in find_parts(home.root / "f.h5").finished.values()]
    assert {header.provenance["device"]["threads"] for header in headers} == {2}, (
        "as the first worker was told"
    )
    assert merge_parts(home.root / "f.h5").path.read_bytes() == whole(home, threads=2)


def test_more_workers_than_shards_have_nothing_to_do(home: Home) -> None:
    done = share(home, 20, 64)
    assert done.was_complete and done.shards.mine == () and beside(home) == []
    assert done.shards.total == 8 and done.shards.missing == tuple(range(8))


def test_a_shard_that_gets_its_finished_name_meanwhile_is_read_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(home, 0, 8)
    finished = divide(home.root / "f.h5", 30, 4)[0].path
    finished.rename(partial_path(finished))

    def read(path: Path) -> Header:
        if partial_path(finished).exists():
            partial_path(finished).rename(finished)
        return read_header(path)

    monkeypatch.setattr(sharded, "read_header", read)
    assert share(home, 1, 8).shards.missing == tuple(range(2, 8))


def test_several_devices_make_one_file(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "birds", per_class=3)
    (tmp_path / "own.py").write_text(BACKBONE)

    def run(*more: str) -> Result:
        line = [
            "extract",
            "--dataset",
            str(data),
            "--backbone",
            str(tmp_path / "own.py"),
            "--weights",
            "random",
        ]
        return CliRunner().invoke(main, [*line, "--batch-size", "2", "--home", str(tmp_path / "home"), *more])

    two = run("--devices", "cpu,cpu", "--out", str(tmp_path / "two.h5"))
    assert two.exit_code == 0, two.output
    assert run("--device", "cpu", "--out", str(tmp_path / "one.h5")).exit_code == 0
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("two.h5*")) == ["two.h5"]
    assert "already complete" in run("--devices", "cpu,cpu", "--out", str(tmp_path / "two.h5")).output
    both = run("--devices", "cpu,cpu", "--device", "cpu")
    assert both.exit_code == 2 and "not both" in both.output


def test_the_option_beats_the_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    line = [
        "extract",
        "--dataset",
        "toy",
        "--weights",
        "random",
        "--backbone",
        "resnet18",
        "--image-size",
        "32",
    ]
    line += [
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "--home",
        str(home.root),
        "--out",
        str(home.root / "f.h5"),
    ]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 0 and "worker 5 of 8 (RANK=5 WORLD_SIZE=8): 1 of 8 shards" in done.stderr
    assert done.stdout.strip() == str(home.root / "f.h5.shard-0005-of-0008")
    assert "1 of 8 shards are finished, not 0-4, 6-7; then 'msdn cache merge" in done.stderr
    done = CliRunner().invoke(main, [*line, "--shard", "7/8", "--json"])
    assert "worker 7 of 8" in done.stderr and '"missing"' in done.stdout


def test_the_library_takes_shards(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "birds", per_class=3)
    (tmp_path / "own.py").write_text(BACKBONE)
    choices = {"backbone": str(tmp_path / "own.py"), "weights": "random", "batch_size": 2, "device": "cpu"}
    out = tmp_path / "f.h5"
    for index in range(3):
        done = msdn.extract(data, **choices, out=out, shard=(index, 3), home=tmp_path / "home")
    assert done.shards.missing == () and msdn.merge(done.path, remove_parts=True) == out
    with msdn.open_cache(out) as cache:
        assert cache.shape[0] == 12 and np.isfinite(cache.read_rows(np.arange(12))).all()
    with pytest.raises(msdn.MsdnError, match="worker 3 of 3"):
        msdn.extract(data, shard=(3, 3))
    assert ExtractSettings(dataset="").worker is None


def test_what_a_killed_merge_left_to_remove_goes_with_the_next(home: Home) -> None:
    share(home, 0, 1)
    parts = {part.path: part.path.read_bytes() for part in divide(home.root / "f.h5", 30, 4)}
    final = merge_parts(home.root / "f.h5").path
    leftover = final.with_name("f.h5.01234567.msdn-new")
    leftover.hardlink_to(final)
    assert merge_parts(final, remove=True).path == final and beside(home) == ["f.h5"]
    for path in list(parts)[3:5]:
        path.write_bytes(parts[path])
    assert extract(replace(SMALL, out=final), home).was_complete and beside(home) == ["f.h5"]
    path = list(parts)[5]
    path.write_bytes(parts[path])
    content = bytearray(final.read_bytes())
    extract(replace(SMALL, out=final, dtype="float32", restart=True), home)
    assert content != final.read_bytes() and path.exists(), "rows that are not in the cache stay"
    with pytest.raises(CacheError, match=r"f.h5: exists already"):
        merge_parts(final, remove=True)
