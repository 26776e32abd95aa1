"""Run folders: never overwritten, found by what they are, and clear about damage."""

from pathlib import Path
from typing import Any

import pytest

from msdn.cache.files import LockError
from msdn.cache.records import write_sealed
from msdn.train.errors import RunError
from msdn.train.models.registry import settings_of
from msdn.train.runs.run import Run, create_run, find_runs, latest_run

FACTS: dict[str, Any] = {
    "cache": {"path": "/nowhere/toy.h5", "fingerprint": "abc"},
    "weights": "random",
    "masked_images": 0,
    "device": "cpu",
    "precision": "float32",
    "features": "auto",
    "environment": {"threads": 1},
}
BEST = {"epoch": 2, "U": 40.0, "S": None, "H": None, "acc": 50}
VALIDATED_AS = {"epochs": 2, "margin": 0.7, "val_margin": 0.7, "val_temperature": 1.0} | dict.fromkeys(
    ("val_acc", "val_U", "val_S", "val_H", "val_AUSUC"), 30.0
)
TEST, PAPER = {"select": "test"}, {"select": "test", "paper_style": True}


def make_run(runs: Path, dataset: str = "toy", **settings: Any) -> Run:
    return create_run(runs, dataset, settings_of(**settings), FACTS)


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed=4) for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    assert all(run.path.name.startswith("toy-msdn-s4-2") for run in runs)
    assert [run.path for run in find_runs(tmp_path)] == [run.path for run in runs]


def test_latest_run_is_chosen_by_status_dataset_and_model(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first, second = make_run(runs), make_run(runs, model="baseline")
    third, other = make_run(runs), make_run(runs, dataset="other")
    for run in (first, second, other):
        run.update(status="finished")
    assert latest_run(runs, finished=True, dataset="toy").path == second.path
    assert latest_run(runs, finished=True, dataset="toy", model="msdn").path == first.path
    assert latest_run(runs, finished=True).path == other.path
    assert latest_run(runs, finished=False).path == third.path
    with pytest.raises(RunError, match=r"no unfinished baseline run of 'toy'.*is finished: see it with"):
        latest_run(runs, finished=False, dataset="toy", model="baseline")
    with pytest.raises(RunError, match=r"no finished run of 'toyy'.*Did you mean 'toy'\? Known: .*other"):
        latest_run(runs, finished=True, dataset="toyy")
    with pytest.raises(RunError, match=r"no finished run of 'cub'.*: msdn train --dataset cub"):
        latest_run(runs, finished=True, dataset="cub")


def test_a_failed_run_is_continued_only_where_no_other_is_unfinished(tmp_path: Path) -> None:
    interrupted, killed, failed, finished = (make_run(tmp_path, seed=seed) for seed in range(4))
    for run, status in ((interrupted, "interrupted"), (failed, "failed"), (finished, "finished")):
        run.update(status=status)
    assert latest_run(tmp_path, finished=False).path == killed.path
    killed.update(status="finished")
    assert latest_run(tmp_path, finished=False).path == interrupted.path
    interrupted.update(status="finished")
    assert latest_run(tmp_path, finished=False).path == failed.path


def test_an_unfinished_run_is_offered_for_resuming(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(RunError, match=f"msdn train --resume {run.path}"):
        latest_run(tmp_path, finished=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: m | {"version": 2}, "manifest version 2, expected 1"),
        (lambda m: {k: v for k, v in m.items() if k != "cache"}, "'cache' is missing"),
        (lambda m: m | {"cache": "x"}, "'cache' is 'x'"),
        (lambda m: m | {"started": "today"}, "'started' is 'today'"),
        (lambda m: m | {"settings": {"epochs": 0}}, "--epochs is 0"),
        (lambda m: m | {"settings": {"speed": 9}}, "unknown setting 'speed'.*; train the model"),
        (lambda m: m | {"settings": {"model": "msbn"}}, "Did you mean 'msdn'.*; train the model"),
        (lambda m: m | {"masked_images": 10**400}, r"'masked_images' is 1000.*; train the model again"),
        (lambda m: m | {"dataset": "\udc80"}, "'dataset' is .*; train the model again"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    run = make_run(tmp_path)
    write_sealed(run.path / "manifest.json", damage(run.manifest))
    with pytest.raises(RunError, match=message):
        Run(run.path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "it has no seal"),
        ("{}", "it has no seal"),
        ('{"seal": "abc"}', "does not fit its seal"),
        ('{"seal": ["abc"], "version": 1}', "does not fit its seal"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 100 + "]" * 100, "it has no seal"),
    ],
)
def test_a_manifest_without_its_seal_is_named(tmp_path: Path, content: str, reason: str) -> None:
    run = make_run(tmp_path)
    (run.path / "manifest.json").write_text(content)
    with pytest.raises(
        RunError, match=f"manifest.json: cannot be read as a manifest .*{reason}.*train the model"
    ):
        Run(run.path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("status", value) for value in (None, "done", ["running"], {})),
        *(("dataset", value) for value in (None, 3, "", ["toy"])),
        *(("weights", value) for value in (None, {}, ["random"])),
        *(("masked_images", value) for value in (None, "0", -1, 1.5, True)),
        *(("device", value) for value in (None, 0, ["cpu"])),
        *(("features", value) for value in (None, "disk", [], {"auto": 1})),
        *(("environment", value) for value in (None, [], "linux", 3, {"threads": []})),
        *(("cache", value) for value in ([], {"path": "x"}, {"path": 1, "fingerprint": "abc"})),
        *(("started", value) for value in (None, 2026, "2026-01-01T00:00:00", "9" * 99)),
        *(("settings", value) for value in (None, [], "msdn")),
        *(("preset", value) for value in (3, [], "")),
        *(("overrides", value) for value in ("epochs", [1])),
        *(("watch_test", value) for value in (1, "no")),
        *(("reason", value) for value in (1, {})),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, key: str, value: Any) -> None:
    run = make_run(tmp_path)
    with pytest.raises(RunError, match=rf"manifest\.json: damaged, '{key}' is .*; train the model again$"):
        reopened(run, **{key: value})


def reopened(run: Run, **changes: Any) -> Run:
    """The run after its manifest was changed by hand."""
    write_sealed(run.path / "manifest.json", run.manifest | changes)
    return Run(run.path)


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        *(({"select": "last"}, chosen) for chosen in ({}, "abc", VALIDATED_AS)),
        *(({"select": "val"}, chosen) for chosen in (None, "abc", 5, [], {}, {"epochs": "x"})),
        *(({"select": "val"}, VALIDATED_AS | {"epochs": epochs}) for epochs in (0, 5, 1.0, True, None)),
        *(({"select": "val"}, VALIDATED_AS | {"margin": margin}) for margin in ("x", None, float("nan"))),
        ({"select": "val"}, VALIDATED_AS | {"val_H": "high"}),
        ({"select": "val"}, VALIDATED_AS | {"val_margin": float("inf")}),
        ({"select": "val"}, {"epochs": 1, "margin": 0.5}),
        *((TEST, chosen) for chosen in (None, [], {}, {"gzsl": 3}, {"czsl": BEST}, VALIDATED_AS)),
        *(
            (TEST, {"gzsl": BEST | change})
            for change in ({"epoch": 9}, {"epoch": "2"}, {"H": 101}, {"U": []})
        ),
        (PAPER, {"gzsl": BEST}),
    ],
)
def test_a_choice_that_no_training_made_is_named(tmp_path: Path, settings: Any, chosen: Any) -> None:
    run = make_run(tmp_path, epochs=4, **settings)
    with pytest.raises(RunError, match=r"manifest\.json: damaged, 'chosen' is .*; train the model again$"):
        reopened(run, status="finished", chosen=chosen)


@pytest.mark.parametrize(
    ("settings", "status", "chosen"),
    [
        ({"select": "last"}, "finished", None),
        ({"select": "val"}, "running", None),
        ({"select": "val"}, "interrupted", VALIDATED_AS),
        ({"select": "val"}, "validated", VALIDATED_AS),
        ({"select": "val"}, "finished", VALIDATED_AS),
        (TEST, "failed", None),
        (TEST, "finished", {"gzsl": BEST}),
        (PAPER, "finished", {"gzsl": BEST, "czsl": BEST}),
    ],
)
def test_a_choice_that_a_training_made_is_read(
    tmp_path: Path, settings: Any, status: str, chosen: Any
) -> None:
    run = make_run(tmp_path, epochs=4, **settings)
    assert reopened(run, status=status, chosen=chosen).chosen == chosen


def test_a_validated_run_has_a_choice(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="damaged, 'chosen' is None"):
        reopened(make_run(tmp_path, select="val"), status="validated")


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = make_run(tmp_path), make_run(tmp_path)
    (bad.path / "manifest.json").write_text("")
    (tmp_path / "notes").mkdir()
    assert [run.path for run in find_runs(tmp_path)] == [good.path]
    assert f"left out: {bad.path}" in caplog.text


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        Run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make a run folder there"):
        make_run(tmp_path / "file")


def test_a_run_is_locked_against_a_second_process(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with run.lock(), pytest.raises(LockError, match="is training this run already"), run.lock():
        pass


def test_a_run_that_a_killed_process_was_making_is_none(tmp_path: Path) -> None:
    path = make_run(tmp_path).path
    path.rename(tmp_path / f".{path.name}.01234567.msdn-new")
    assert find_runs(tmp_path) == []
    assert make_run(tmp_path).path.name in [entry.name for entry in tmp_path.iterdir()]
    assert len(list(tmp_path.iterdir())) == 1
