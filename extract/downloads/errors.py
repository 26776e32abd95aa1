"""What can go wrong between a server and the data folder."""

from msdn.cache.errors import MsdnError


class DownloadError(MsdnError):
    """A file cannot be had, or is not the one expected."""


class ArchiveError(DownloadError):
    """An archive is damaged, or holds what must not be unpacked."""
