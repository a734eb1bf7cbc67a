"""The problems that a user can mend.

`launch.py` prints the message of any of these and exits with status 1, without a traceback, so a message
says what was wrong, where, and what to do about it. A programming error stays an ordinary exception.
"""


class JaxganError(Exception):
    """Base of every error whose message is meant for the person who started the run."""


class ConfigError(JaxganError, ValueError):
    """The configuration names something unknown, or values that do not fit together."""


class DataError(JaxganError):
    """A data set is missing, unreadable, or not what the configuration says."""


class CheckpointError(JaxganError):
    """A work folder or a checkpoint in it cannot be used."""


class DivergedError(JaxganError):
    """The run produced NaN or infinity and was stopped."""


class DistributedError(JaxganError):
    """The processes of a run did not find each other, or were not started alike."""
