"""Which device computes."""

import torch

from msdn.extract.errors import ExtractError


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ExtractError(
            f"--device {name}: not to be had on this machine ({str(error).splitlines()[0]})"
        ) from error
    return device
