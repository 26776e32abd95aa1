"""The golden vectors of the released MSDN and DEDN, through `replay_golden.py`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import replay_golden

GOLDEN = Path(__file__).parent / "golden"
FILES = [*sorted(GOLDEN.glob("msdn_released*.npz")), *sorted(GOLDEN.glob("dedn_*.npz"))]
OUTPUTS = ("scores_", "attention_", "train_scores_", "eval_scores_", "loss_", "grad_")


def test_there_are_golden_files() -> None:
    assert len(FILES) == 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_released_models_reproduce_golden_vectors(path: Path) -> None:
    with np.load(path) as golden:
        errors = replay_golden.largest_errors(dict(golden))
        compared = {name for name in golden if name.startswith(OUTPUTS)}
    assert set(errors) == compared
    assert max(errors.values()) <= 1e-10


@pytest.mark.parametrize(("path", "name"), [(FILES[0], "grad_W_2"), (FILES[-1], "grad__Snet4.H_3")])
def test_a_wrong_array_fails_the_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: Path, name: str
) -> None:
    with np.load(path) as golden:
        arrays = dict(golden)
    arrays[name] = arrays[name] + 2e-10
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert replay_golden.main([str(path), str(tmp_path / "wrong.npz")]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "TOO LARGE" in line]
    assert line.split()[:2] == [name, "2.0e-10"]


def test_a_nan_fails_the_replay(tmp_path: Path) -> None:
    with np.load(FILES[0]) as golden:
        arrays = dict(golden)
    arrays["V"] = arrays["V"] * np.nan
    np.savez(tmp_path / "nan.npz", **arrays)
    assert replay_golden.main([str(tmp_path / "nan.npz")]) == 1


def test_what_is_no_golden_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "cut.npz").write_bytes(FILES[0].read_bytes()[:3000])
    for name in ("text.npz", "cut.npz", "missing.npz"):
        assert replay_golden.main([str(tmp_path / name)]) == 2
        assert f"{name}: no golden file" in capsys.readouterr().err
    assert replay_golden.main([]) == 2


def test_the_script_runs_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, replay_golden.__file__, *map(str, FILES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "largest error" in done.stdout
