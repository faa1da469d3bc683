"""Every error a user can meet, with the exit code it ends a command with.

::

    ReadloopError
    ├── ConfigError          run file, model settings or arguments are wrong
    ├── InputError           a source, manifest or image list cannot be used
    │   └── PictureError     a picture is not the one that was corrected
    ├── StorageError         a store refused, is missing, or broke
    │   ├── MissingError     an object that was asked for does not exist
    │   ├── ChangedError     an object is not the one that was listed
    │   └── SnapshotError    a frozen training set cannot be read as it was
    ├── ModelUnusableError   a checkpoint cannot be loaded
    ├── LabelStudioError     Label Studio is down, refuses, or holds another interface
    └── StoppedError         stopped before the end (signal, or another run took over)

A failure of one (image, query) is not an exception: it is a :class:`pipeline.records.Failure`.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command's exit status means."""

    DONE = 0
    BAD_INPUT = 1
    FAILED_ROWS = 2
    STOPPED = 3


class ReadloopError(Exception):
    """An error whose message is meant for the user: what failed, on what, what to do."""

    exit_code = ExitCode.BAD_INPUT


class ConfigError(ReadloopError):
    """The run file, a settings file or an argument is wrong."""


class InputError(ReadloopError):
    """A source, a manifest or a file of queries cannot be used."""


class PictureError(InputError):
    """A picture of a training set is gone, or is not the one that was corrected any more."""


class StorageError(ReadloopError):
    """A store cannot be reached, refuses, lacks an object, or broke.

    ``retryable`` says that the cause may pass, or be mended by whoever runs the store: throttling,
    a lost connection, refused access, a disk that fails, a changed object.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class MissingError(StorageError):
    """An object that was asked for does not exist."""


class ChangedError(StorageError):
    """An object is not the one that was listed."""


class SnapshotError(StorageError):
    """A frozen training set cannot be read as it was frozen: its table was rewritten."""


class ModelUnusableError(ReadloopError):
    """A checkpoint is missing, incomplete or of a family that is not supported."""


class LabelStudioError(ReadloopError):
    """Label Studio cannot be reached, refuses the token, or holds a different project."""


class StoppedError(ReadloopError):
    """The run ended before its work did; running it again goes on where it stopped."""

    exit_code = ExitCode.STOPPED
