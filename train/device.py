"""Where to compute."""

import torch

from msdn.train.errors import TrainError

_KINDS = ("cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """The device of a name such as cpu or cuda:1; "auto" is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in _KINDS:
            raise ValueError(name)
        torch.empty(0, device=device)
    except Exception as error:  # torch raises many kinds for what is not built in or not plugged in
        raise TrainError(f"no device '{name}' here; use --device cpu, or auto for what there is") from error
    return device
