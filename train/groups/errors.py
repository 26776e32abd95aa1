"""What can be wrong with groups that a user gives."""

from msdn.train.errors import TrainError


class GroupsError(TrainError):
    """A file of groups cannot be used, or is in the way."""
