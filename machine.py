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


def fastest_precision(device: "torch.device") -> str:
    """bfloat16 where a device multiplies it in units of its own (AMX, AVX-512 BF16, tensor cores), else float32."""
    import torch

    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bfloat16" if device.type == "cpu" and bfloat16_units() else "float32"


def bfloat16_units() -> str:
    """What this CPU multiplies bfloat16 with: AMX, BF16 (of AVX-512), or nothing."""
    import torch

    for unit, asked in (("AMX", "_is_amx_tile_supported"), ("BF16", "_is_avx512_bf16_supported")):
        if getattr(torch.cpu, asked, lambda: False)():  # torch has no public name for it
            return unit
    return ""


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
