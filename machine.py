"""What both stages ask of this machine: the device that computes, and threads that do not fight over its cores.

Loads no torch until a device is asked for.
"""

import os
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
            f"--device {name}: not to be had on this machine ({str(error).splitlines()[0]}); use --device cpu, or auto "
            "for what there is"
        ) from error
    return device


def let_waiting_threads_sleep() -> None:
    """Tell OpenMP, before torch loads it, to spin only briefly while a thread waits for others.

    By default it spins for long: on a machine whose cores are busy with other work, each of the many short waits of a
    training step then costs a time slice. What the user has set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's, on Linux
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's, on macOS
