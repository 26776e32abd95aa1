"""What both stages ask of this machine: the device that computes, and threads that do not fight over its cores.

Loads no torch until a device is asked for.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msdn.cache.errors import MsdnError

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps")
_AMPERE = (8, 0)  # the first generation of NVIDIA's GPUs with products in bfloat16


def how_to_install(extra: str) -> str:
    """The command that brings an extra; the package is on no index, so it is run where the repository is."""
    return f"run in the folder of msdn's repository: pip install -e '.[{extra}]'"


class DeviceError(MsdnError):
    """A device that this machine does not have."""


def choose_device(name: str) -> "torch.device":
    """The device of a name such as cpu or cuda:1; "auto" is a GPU where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in KINDS:
            raise ValueError(f"expected one of {', '.join(KINDS)}")
        torch.empty(1, device=device)
    except Exception as error:  # torch raises many kinds for what is not built in or not plugged in
        raise DeviceError(
            f"--device {name}: not available on this machine ({str(error).splitlines()[0]}); use --device cpu, or "
            "--device auto to use what is available"
        ) from error
    return device


def has_fast_bfloat16(device: "torch.device") -> bool:
    """Whether matrix products in bfloat16 are much faster than in float32: tensor cores, or AMX of a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _AMPERE
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # of newer versions of torch
    return device.type == "cpu" and capabilities is not None and bool(capabilities().get("amx_bf16"))


def usable_cores() -> int:
    """The cores that this process may use, where its system tells; `taskset` and batch systems allot them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def keep_threads(count: int | None = None) -> Iterator[None]:
    """Compute with so many threads, and give the caller's number back.

    None means as many as torch takes by itself (the number of cores, or `OMP_NUM_THREADS`), but no more than the cores
    that this process may use.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or min(before, usable_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def let_waiting_threads_sleep() -> None:
    """Tell OpenMP, before torch loads it, to spin only briefly while a thread waits for others.

    By default it spins for long: on a machine whose cores are busy with other work, each of the many short waits of a
    training step then costs a time slice. What the user has set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's, on Linux
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's, on macOS
