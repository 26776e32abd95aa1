"""What `--dataset` names: a known dataset by its name, or a folder of one's own by its path."""

import os
from pathlib import Path


def dataset_name(text: str) -> str:
    """Return the dataset's name: a path stands for the folder it leads to, anything else for itself."""
    if text in (".", "..") or os.sep in text:
        return Path(text).expanduser().resolve().name
    return text
