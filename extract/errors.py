"""What can go wrong in stage one, by cause."""

from msdn.cache.errors import MsdnError


class DatasetError(MsdnError):
    """A dataset's files are missing or contradict what is known of it."""


class WeightsError(MsdnError):
    """The backbone's weights cannot be had or do not fit."""


class ExtractError(MsdnError):
    """The extraction itself cannot go on."""


class BadImageError(MsdnError):
    """One image cannot be used."""


class DownloadError(MsdnError):
    """A file cannot be had, or is not the one expected."""


class ArchiveError(DownloadError):
    """An archive is damaged, or holds what must not be unpacked."""
