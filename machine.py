"""What both stages ask of this machine: the device that computes, and threads that do not fight over its cores.

Loads no torch until a device is asked for.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msdn.cache.errors import MsdnError, WrongUsageError

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps")
_KEPT_MEMORY = {-1: 2**31 - 1, -3: 2**30}  # of <malloc.h>: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD


def how_to_install(extra: str) -> str:
    """The command that brings an extra; the package is on no index, so it is run where the repository is."""
    return f"run in the folder of msdn's repository: pip install -e '.[{extra}]'"


class DeviceError(MsdnError):
    """A device that this machine does not have."""


def choose_device(name: str, local: int = 0) -> "torch.device":
    """The device of a name such as cpu or cuda:1; "auto" is a GPU where there is one.

    Where several processes share the machine, `local` is this one's number, and "auto" gives each the next GPU.
    """
    import torch

    if name == "auto":
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return torch.device(f"cuda:{local % gpus}" if local and gpus else "cuda" if gpus else "cpu")
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


def choose_devices(text: str, option: str = "--device") -> list[str]:
    """The devices of a list such as cuda:0,cuda:1; "auto" and "all" are every GPU, or the CPU where there is none."""
    import torch

    if text in ("auto", "all"):
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise WrongUsageError(f"{option} '{text}': a name is empty, expected some as in cuda:0,cuda:1")
    return names


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


def keep_freed_memory() -> None:
    """Tell GNU's allocator to keep freed memory for the next allocation, up to 2 GB, instead of giving it back.

    A training step frees and takes the same large blocks again and again; taken anew from the system, each has to be
    cleared first. Elsewhere than on Linux with GNU's library nothing happens.
    """
    if sys.platform != "linux":
        return
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        for parameter, value in _KEPT_MEMORY.items():
            allocator.mallopt(parameter, value)


def let_waiting_threads_sleep() -> None:
    """Tell OpenMP, before torch loads it, to spin only briefly while a thread waits for others.

    By default it spins for long: on a machine whose cores are busy with other work, each of the many short waits of a
    training step then costs a time slice. What the user has set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # GNU's, on Linux
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's, on macOS
