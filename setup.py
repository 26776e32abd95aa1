"""Lists the packages by looking at the folders: the repository's root is the package `msdn`."""

from setuptools import find_packages, setup

ROOMS = ("app", "cache", "extract", "train")
FOLDERS = [pattern for room in ROOMS for pattern in (room, f"{room}.*")]
setup(packages=["msdn", *(f"msdn.{name}" for name in find_packages(include=FOLDERS))])
