"""What can go wrong with a checkpoint, an image or a query.

::

    ReadError
    ├── CheckpointError   the folder does not hold a usable READ checkpoint
    ├── ImageError        the bytes are not an image that can be labeled
    └── QueryError        the query cannot be put to the model

Messages name the file, key or property that is wrong and say what to do about it.
"""


class ReadError(ValueError):
    """Base of every error that this library raises on what it is given."""


class CheckpointError(ReadError):
    """A file, key, shape or setting of a checkpoint is missing, unexpected or unsupported."""


class ImageError(ReadError):
    """The image is empty, truncated, too large or no image at all."""


class QueryError(ReadError):
    """The query is empty, too long, or holds a token that only the prompt may hold."""
