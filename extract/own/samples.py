"""Lists the images of a tar of one's own, each with the class that it says, as WebDataset's tars do.

A sample is all files with one key, which is a path up to the first dot of the name: `a/7.jpg` and `a/7.cls`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from msdn.cache.csv_table import is_odd
from msdn.extract.errors import DatasetError
from msdn.extract.own.mistakes import Mistake
from msdn.extract.tars import open_tar, read_member

FIELDS = ("cls", "label", "class", "class_name")  # of a sample's JSON, that may hold its class
Sample = dict[str, str]  # the files of a sample by all that follows its key


def list_samples(
    tar: Path, endings: Sequence[str], class_names: Sequence[str], found: list[Mistake]
) -> list[tuple[str, str]]:
    """Return path and class of each image in a tar; what cannot be used is named in `found`, by kind.

    Args:
        tar: the file.
        endings: of images.
        class_names: the rows of attributes.csv, which a number in place of a class counts from 0.
        found: the mistakes so far.
    """
    try:
        content = open_tar(tar)
    except DatasetError as error:
        found.append(Mistake(tar, str(error).removeprefix(f"{tar}: ")))
        return []
    known = {str(n): name for n, name in enumerate(class_names)} | {name: name for name in class_names}
    complaints: dict[str, list[str]] = {"is named twice, or is a link": list(content.unusable)}
    listed = []
    for key, sample in _group(content.members).items():
        images = [path for path in sample.values() if _ending(path) in endings]
        if not images:
            complaints.setdefault("is no image, and no image has its key", []).append(key)
            continue
        name, complaint = _find_class(tar, images[0], sample, class_names)
        name = normalize("NFC", name)
        if not complaint and (is_odd(name) or name.isdecimal()) and name not in known:
            complaint = f"has a class that is not in attributes.csv: {name[:40]!a}"
        for path in images:
            bad = "has odd characters in its name" if is_odd(path) else complaint
            if bad:
                complaints.setdefault(bad, []).append(path)
            else:
                listed.append((path, known.get(name, name)))
    for complaint, paths in complaints.items():
        if paths:
            others = f", and so {len(paths) - 1} more" if len(paths) > 1 else ""
            found.append(Mistake(tar, f"{paths[0]} {complaint}{others}; make the tar again without"))
    return listed


def _group(members: Mapping[str, object]) -> dict[str, Sample]:
    samples: dict[str, Sample] = {}
    for path in members:
        folder, slash, name = path.rpartition("/")
        key, _, kind = name.partition(".")
        if name and not name.startswith(".") and "__MACOSX" not in folder:
            samples.setdefault(folder + slash + key, {})[kind.lower()] = path
    return samples


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower().removeprefix(".")


def _find_class(tar: Path, image: str, sample: Sample, class_names: Sequence[str]) -> tuple[str, str]:
    """A sample's class, or a complaint: of its `.cls`, its JSON, its folder, or its `.txt`, the first there is."""
    for kind in ("cls", "cls.txt"):
        if kind in sample:
            return _text(tar, sample[kind]), ""
    if "json" in sample:
        try:
            told = json.loads(_text(tar, sample["json"]))
        except ValueError:
            return "", "has a .json that is no JSON"
        field = next((name for name in FIELDS if isinstance(told, dict) and name in told), None)
        if field is not None:
            return str(told[field]), ""
    folders = PurePosixPath(image).parts[:-1]
    if folders:
        return next((name for name in folders if name in class_names), folders[0]), ""
    if "txt" in sample:
        return _text(tar, sample["txt"]), ""
    return "", f"says no class (a folder, .cls, .txt, or .json with {', '.join(FIELDS)})"


def _text(tar: Path, member: str) -> str:
    return read_member(tar, member).decode(errors="replace").strip()
