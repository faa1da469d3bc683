"""A store: one folder on a disk or in a bucket, and a reader for single objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.storage.settings import S3Settings


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: its absolute ``uri``, ``size`` in bytes, and what changes with its content."""

    uri: str
    size: int
    etag: str


class ObjectReader:
    """Reads objects by their URIs, local or in S3. Can be pickled; connects on first use."""

    def __init__(self, s3: S3Settings) -> None:
        self.s3 = s3

    def get(self, uri: str, max_bytes: int, etag: str = "") -> bytes:
        """Return an object's content.

        ``max_bytes`` is checked before the body is pulled. With an ``etag`` (as listed) the
        object must still be the same.

        Raises:
            MissingError: there is no such object.
            StorageError: it is too large, has changed, or the store failed.
        """
        raise NotImplementedError

    def head(self, uri: str) -> ObjectInfo:
        """Return what is known about an object without reading it."""
        raise NotImplementedError


class Store:
    """A folder of objects. Paths are relative to it, with ``/`` between their parts."""

    def __init__(self, uri: str, s3: S3Settings) -> None:
        self.uri = uri
        self.s3 = s3

    def get(self, path: str) -> bytes:
        """Return an object's content."""
        raise NotImplementedError

    def put(self, path: str, data: bytes) -> None:
        """Write an object, at once or not at all."""
        raise NotImplementedError

    def put_new(self, path: str, data: bytes) -> bool:
        """Write an object unless it exists; return whether this call made it."""
        raise NotImplementedError

    def head(self, path: str) -> ObjectInfo:
        """Return what is known about an object without reading it."""
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        """Return whether there is such an object."""
        raise NotImplementedError

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below a folder, in the order of their paths."""
        raise NotImplementedError

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        raise NotImplementedError

    def delta_uri(self, table: str) -> str:
        """Return where the Delta table of that name lies."""
        raise NotImplementedError

    def delta_options(self) -> dict[str, str]:
        """Return deltalake's storage options for this store, with the current credentials."""
        raise NotImplementedError


def open_store(uri: str, s3: S3Settings) -> Store:
    """Return the store at a directory, ``file://`` or ``s3://`` address. Connects on first use."""
    return Store(uri, s3)
