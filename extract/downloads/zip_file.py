"""Unpacks the wanted members of a zip archive: all are judged before the first is written."""

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from msdn.extract.downloads.errors import ArchiveError
from msdn.extract.downloads.files import Report
from msdn.extract.downloads.members import Ledger, clean_name
from msdn.extract.downloads.write_member import write_member


def unpack_zip(
    path: Path, folder: Path, place: Callable[[str], str | None], ledger: Ledger, report: Report
) -> None:
    """Write the members that have a place to `folder`."""
    with zipfile.ZipFile(path) as archive:
        wanted = _judge(archive, place, ledger)
        done = 0
        for info, goal in wanted:
            with archive.open(info) as content:
                for n in write_member(content.read, info.file_size, folder / goal):
                    done += n
                    report("unpacking", done, ledger.bytes)


def _judge(
    archive: zipfile.ZipFile, place: Callable[[str], str | None], ledger: Ledger
) -> list[tuple[zipfile.ZipInfo, str]]:
    wanted = []
    for info in archive.infolist():
        ledger.count_member()
        name = clean_name(info.orig_filename)  # zipfile cuts `filename` at a NUL
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f"a member is a link or a device: {name!r}")
        if info.flag_bits & 1:
            raise ArchiveError(f"a member is encrypted: {name!r}")
        goal = None if info.is_dir() else place(name)
        if goal is not None:
            ledger.enter(goal, info.file_size)
            wanted.append((info, goal))
    return wanted
