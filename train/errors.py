"""The errors of stage two that a user can cause."""

from msdn.cache.errors import MsdnError, WrongUsageError


class TrainError(MsdnError):
    """Training cannot start or go on."""


class SettingsError(TrainError, WrongUsageError):
    """A setting has a value that makes no sense."""


class CheckpointError(MsdnError):
    """A published checkpoint cannot be read, is of another model, or does not belong to the features."""


class RunError(MsdnError):
    """A run folder is missing, unfinished, damaged, in use, or belongs to other features."""


class ForeignModelError(RunError):
    """A run of a user's own model, which is not available now."""

    def __init__(self, message: str, model: str) -> None:
        """Name the model too, so that several runs of it are mentioned once."""
        super().__init__(message)
        self.model = model
