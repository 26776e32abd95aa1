"""Moves an unpacked tree to its place, merging it into folders that are there already."""

from pathlib import Path

from msdn.extract.downloads.errors import DownloadError


def place_tree(tree: Path, goal: Path) -> None:
    """Move everything in `tree` into `goal`; each step is a rename, and files of the same name are replaced."""
    goal.mkdir(parents=True, exist_ok=True)
    for entry in sorted(tree.iterdir()):
        place = goal / entry.name
        if entry.is_dir() and place.is_dir():
            place_tree(entry, place)
        elif place.is_dir() or (entry.is_dir() and place.exists()):
            kinds = ("folder", "file") if place.is_dir() else ("file", "folder")
            raise DownloadError(
                f"{place}: is a {kinds[0]}, but a {kinds[1]} belongs there; move it away and repeat the command"
            )
        else:
            entry.replace(place)
