"""Which device computes."""

import torch

from msdn.extract.errors import ExtractError

KINDS = ("cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in KINDS:
            raise ValueError(f"expected one of {', '.join(KINDS)}")
        torch.empty(1, device=device)
    except Exception as error:  # torch raises many kinds for what is not built in or not plugged in
        raise ExtractError(
            f"--device {name}: not to be had on this machine ({str(error).splitlines()[0]})"
        ) from error
    return device
