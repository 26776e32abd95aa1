"""Unpacks an archive into an empty folder: nothing lands outside, and nothing dangerous inside."""

import errno
import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

from msdn.extract.downloads.errors import ArchiveError
from msdn.extract.downloads.files import Report, ignore_report
from msdn.extract.downloads.members import Ledger
from msdn.extract.downloads.sources import SLACK, Source
from msdn.extract.downloads.tar_file import unpack_tar
from msdn.extract.downloads.zip_file import unpack_zip

DAMAGED = (
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # a method that zipfile does not know
    LookupError,
    ValueError,
)


def unpack(path: Path, source: Source, folder: Path, report: Report = ignore_report) -> tuple[int, int]:
    """Write the wanted members of an archive to `folder`; return how many files and bytes they are."""
    limit = SLACK * source.room
    ledger = Ledger(limit)
    try:
        if path.suffix == ".zip":
            unpack_zip(path, folder, source.place, ledger, report)
        else:
            unpack_tar(path, folder, source.place, ledger, limit, report)
    except ArchiveError as error:
        raise ArchiveError(f"{path.name} is refused: {error}") from error
    except DAMAGED as error:
        raise ArchiveError(f"{path.name} is damaged or cut short ({error})") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # zipfile seeks to nonsense in a damaged file
            raise
        raise ArchiveError(f"{path.name} is damaged or cut short ({error})") from error
    return ledger.files, ledger.bytes
