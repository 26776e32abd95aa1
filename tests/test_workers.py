"""Which worker a process is: as an option, torchrun or SLURM says, and what none of them may say."""

import pytest
from click.testing import CliRunner

from msdn.cache.errors import WrongUsageError
from msdn.cli import main
from msdn.extract.pipeline.worker import find_worker, read_shard

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        (TORCHRUN, (5, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "2"}, (2, 4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, None),  # the batch script itself
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}, (0, 4, 0)),
        (
            {
                f"SLURM_ARRAY_TASK_{k}": v
                for k, v in {"ID": "6", "MIN": "3", "MAX": "9", "COUNT": "7"}.items()
            },
            (3, 7, 0),
        ),
        (
            {
                f"SLURM_ARRAY_TASK_{k}": v
                for k, v in {"ID": "5", "MIN": "1", "MAX": "7", "COUNT": "4", "STEP": "2"}.items()
            },
            (2, 4, 0),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_MAX": "1",
                **TORCHRUN,
            },
            (13, 16, 1),
        ),
    ],
)
def test_torchrun_and_slurm_are_understood(environment: dict[str, str], expected: tuple | None) -> None:
    found = find_worker(environment)
    assert (found and (found.index, found.count, found.local)) == expected
    if found:
        assert all(
            f"{environment[name]}" in found.known_by
            for name in environment
            if name in ("RANK", "SLURM_PROCID")
        )


@pytest.mark.parametrize("text", ["3/3", "0/0", "x", "1", "-1/3", "0/3/3", "1/x", ""])
def test_a_shard_that_is_none_ends_in_a_sentence(text: str) -> None:
    with pytest.raises(WrongUsageError, match=r"--shard .*0/3"):
        read_shard(text)
    done = CliRunner().invoke(main, ["extract", "--dataset", "plumage", "--shard", text])
    assert (done.exit_code == 2 and "counted from 0" in done.output) or "count from 0" in done.output


@pytest.mark.parametrize(
    "environment, named",
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "worker 2 of 2"),
        (
            {
                f"SLURM_ARRAY_TASK_{k}": v
                for k, v in {"ID": "7", "MIN": "1", "MAX": "7", "COUNT": "3"}.items()
            },
            "leaves numbers out",
        ),
    ],
)
def test_an_environment_that_makes_no_sense_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(WrongUsageError, match=named):
        find_worker(environment)
