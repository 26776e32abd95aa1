"""Lists the packages by looking at the folders: the repository's root is the package `msdn`.

An editable install leads through `.editable/msdn`, a link to this folder: a plain path that type checkers and editors
follow. Without it setuptools would install an import hook, which they cannot see through.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ("app", "cache", "extract", "train")
FOLDERS = [pattern for room in ROOMS for pattern in (room, f"{room}.*")]
LINK = Path(".editable/msdn")

sources = {"msdn": "."}
if "editable_wheel" in sys.argv:
    LINK.parent.mkdir(exist_ok=True)
    if not LINK.is_symlink():
        LINK.symlink_to("..", target_is_directory=True)
    sources = {"": str(LINK.parent)}
setup(
    packages=["msdn", *(f"msdn.{name}" for name in find_packages(include=FOLDERS))],
    package_dir=sources,
)
