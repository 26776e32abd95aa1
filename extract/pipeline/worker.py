"""Which worker of how many this process is: as `--shard` says, or torchrun, or SLURM; knows no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from msdn.cache.errors import WrongUsageError


@dataclass(frozen=True)
class Worker:
    """Worker `index` of `count`, counted from 0; shard s is the work of worker s mod count.

    Attributes:
        known_by: how this was learnt, for people.
        local: its number among the workers of this machine: which GPU `--device auto` means.
    """

    index: int
    count: int
    known_by: str
    local: int = 0

    def __post_init__(self) -> None:
        """Refuse a number that is none of so many."""
        if not 0 <= self.index < self.count:
            raise WrongUsageError(
                f"{self.known_by}: worker {self.index} of {self.count} does not exist; workers count from 0, so of "
                "3 there are 0/3, 1/3 and 2/3"
            )


ALONE = Worker(0, 1, "one process")


def read_shard(text: str) -> Worker:
    """Understand the value of `--shard`."""
    index, _, count = text.partition("/")
    if not (index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise WrongUsageError(f"--shard {text}: expected I/N, worker I of N counted from 0, such as 0/3")
    return Worker(int(index), int(count), f"--shard {text}")


def find_worker(environment: Mapping[str, str]) -> Worker | None:
    """What torchrun or SLURM says; None where neither does, or where there is one worker only.

    In a SLURM array each of whose jobs starts several processes, all of these are workers.
    """
    jobs, processes = _slurm_array(environment), _torchrun(environment) or _srun(environment)
    found = [one for one in (jobs, processes) if one is not None and one.count > 1]
    if not found:
        return None
    index, count = 0, 1
    for one in found:
        index, count = index * one.count + one.index, count * one.count
    return Worker(index, count, ", ".join(one.known_by for one in found), found[-1].local)


def _torchrun(environment: Mapping[str, str]) -> Worker | None:
    if not {"RANK", "WORLD_SIZE"} <= environment.keys():
        return None
    rank, world = (_whole(environment, name) for name in ("RANK", "WORLD_SIZE"))
    return Worker(rank, world, f"RANK={rank} WORLD_SIZE={world}", _whole(environment, "LOCAL_RANK", "0"))


def _srun(environment: Mapping[str, str]) -> Worker | None:
    """A process of `srun`; a batch script itself has SLURM_PROCID too, but is no step of its job."""
    is_script = "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment
    tasks = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if name in environment), None)
    if "SLURM_PROCID" not in environment or tasks is None or is_script:
        return None
    number, count = _whole(environment, "SLURM_PROCID"), _whole(environment, tasks)
    local = _whole(environment, "SLURM_LOCALID", "0")
    return Worker(number, count, f"SLURM_PROCID={number} {tasks}={count}", local)


def _slurm_array(environment: Mapping[str, str]) -> Worker | None:
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    prefix = "SLURM_ARRAY_TASK_"
    task = _whole(environment, f"{prefix}ID")
    first, last = (_whole(environment, prefix + name, str(task)) for name in ("MIN", "MAX"))
    step = max(1, _whole(environment, f"{prefix}STEP", "1"))
    count = (last - first) // step + 1
    told = f"SLURM_ARRAY_TASK_ID={task} of {first}-{last}" + (f":{step}" if step > 1 else "")
    if _whole(environment, f"{prefix}COUNT", str(count)) != count or (task - first) % step:
        raise WrongUsageError(f"{told}: the array leaves numbers out; say with --shard which worker this is")
    return Worker((task - first) // step, count, told)


def _whole(environment: Mapping[str, str], name: str, otherwise: str = "") -> int:
    text = environment.get(name, otherwise)
    if not (text.isascii() and text.isdigit()):
        raise WrongUsageError(f"{name}={text}: expected a whole number; --shard I/N says it without")
    return int(text)
