"""A store: one folder on a disk or in a bucket, and a reader for single objects.

Both are obstore underneath, so that disk and S3 share one code path. Both can be pickled for
Ray workers and connect on first use.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from obstore.exceptions import AlreadyExistsError

from pipeline.errors import ChangedError, InputError, MissingError, StorageError
from pipeline.storage.addresses import Address, locate
from pipeline.storage.clients import Clients
from pipeline.storage.settings import S3Settings

if TYPE_CHECKING:
    from obstore import ObjectMeta


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: its absolute ``uri``, ``size`` in bytes, and ``etag``.

    ``etag`` changes when the content does: S3's entity tag, or time and size of a file.
    """

    uri: str
    size: int
    etag: str


class ObjectReader:
    """Reads objects by their URIs, local or in S3."""

    def __init__(self, s3: S3Settings) -> None:
        self._clients = Clients(s3)

    def get(self, uri: str, max_bytes: int | None = None, etag: str = "") -> bytes:
        """Return an object's content.

        Args:
            uri: the object's address.
            max_bytes: the bound on its size, checked before the body is pulled.
            etag: as listed earlier; the object must still be the same. Empty: not checked.

        Raises:
            MissingError: there is no such object.
            ChangedError: it has changed.
            StorageError: it is too large, or the store failed.
        """
        return _get(self._clients, locate(uri), max_bytes, etag)

    def head(self, uri: str) -> ObjectInfo:
        """Return what is known about an object without reading it.

        Raises:
            MissingError: there is no such object.
            StorageError: the store failed.
        """
        return _head(self._clients, locate(uri))


class Store:
    """A folder of objects. Paths are relative to it, with ``/`` between their parts.

    Every method raises :class:`StorageError` when the store refuses, is missing or breaks, and
    :class:`InputError` for a path that leads outside.
    """

    def __init__(self, uri: str, s3: S3Settings) -> None:
        self.address = locate(uri)
        self.s3 = s3
        self._clients = Clients(s3)

    @property
    def uri(self) -> str:
        """The absolute address of the store."""
        return self.address.uri

    def get(self, path: str, max_bytes: int | None = None) -> bytes:
        """Return an object's content; ``max_bytes`` bounds it before the body is pulled."""
        return _get(self._clients, self.address.child(path), max_bytes, "")

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``."""
        address = self.address.child(path)
        with self._clients.reach(address) as client:
            return bytes(client.get_range(address.path, start=start, end=end))

    def put(self, path: str, data: bytes) -> None:
        """Write an object, at once or not at all."""
        address = self.address.child(path)
        with self._clients.reach(address) as client:
            client.put(address.path, data)

    def upload(self, prefix: str, folder: Path) -> None:
        """Write the files of a folder on this machine, with its subfolders, below a prefix."""
        for source in sorted(path for path in folder.rglob("*") if path.is_file()):
            address = self.address.child(f"{prefix}/{source.relative_to(folder).as_posix()}")
            with self._clients.reach(address) as client:
                client.put(address.path, source)

    def put_new(self, path: str, data: bytes) -> bool:
        """Write an object unless it exists; return whether it is there with this content.

        Of several callers at once with different content, exactly one gets True. One whose answer
        was lost finds its own object when it tries again, and gets True as well.
        """
        address = self.address.child(path)
        with self._clients.reach(address) as client:
            try:
                client.put(address.path, data, mode="create")
            except AlreadyExistsError:
                return self.get(path) == data
        return True

    def head(self, path: str) -> ObjectInfo:
        """Return what is known about an object without reading it."""
        return _head(self._clients, self.address.child(path))

    def exists(self, path: str) -> bool:
        """Return whether there is such an object."""
        try:
            self.head(path)
        except MissingError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below a folder; none if there is no such folder.

        S3 lists in the order of keys and page by page; a disk is listed whole and sorted.
        """
        address = self.address.child(prefix)
        with self._clients.reach(address) as client:
            pages = client.list(address.path or None)
            if address.bucket:
                yield from (_info(address, meta) for page in pages for meta in page)
                return
            found = [_info(address, meta) for page in pages for meta in page]
        yield from sorted(found, key=lambda info: info.uri)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        addresses = [self.address.child(path) for path in paths]
        if not addresses:
            return
        with self._clients.reach(addresses[0]) as client:
            if self.address.bucket:
                client.delete([address.path for address in addresses])
                return
            for address in addresses:
                with suppress(FileNotFoundError):
                    client.delete(address.path)

    def delta_uri(self, table: str) -> str:
        """Return where the Delta table of that name lies; its path in S3 is percent-encoded.

        Raises:
            InputError: the path holds what looks like percent-encoding, which Delta's reader
                decodes once too often.
        """
        address = self.address.child(table)
        if unquote(address.path) != address.path:
            raise InputError(
                f"{address.path}: tables cannot lie below a name with a percent sign and two "
                "digits; choose another store"
            )
        if address.local:
            return str(address.local)
        return f"s3://{address.bucket}/{quote(address.path)}"

    def delta_options(self) -> dict[str, str]:
        """Return deltalake's storage options with the current credentials; never show them."""
        return self._clients.access.delta_options() if self.address.bucket else {}

    @property
    def endpoint(self) -> str | None:
        """Where the store is reached, None for AWS or the disk."""
        return self._clients.endpoint(self.address.bucket)


def open_store(uri: str, s3: S3Settings) -> Store:
    """Return the store at a directory, ``file://`` or ``s3://`` address. Connects on first use.

    Raises:
        InputError: the address is of another kind.
    """
    return Store(uri, s3)


def _get(clients: Clients, address: Address, max_bytes: int | None, etag: str) -> bytes:
    with clients.reach(address) as client:
        result = client.get(address.path)
        info = _info(address, result.meta)
        if max_bytes is not None and info.size > max_bytes:
            raise StorageError(
                f"{address.uri}: {info.size:,} bytes are more than the limit of {max_bytes:,}"
            )
        if etag and info.etag != etag:
            raise ChangedError(
                f"{address.uri}: has changed since it was listed; run again", retryable=True
            )
        return bytes(result.bytes())


def _head(clients: Clients, address: Address) -> ObjectInfo:
    with clients.reach(address) as client:
        return _info(address, client.head(address.path))


def _info(address: Address, meta: "ObjectMeta") -> ObjectInfo:
    found = Address(address.bucket, meta["path"])
    if address.bucket:
        return ObjectInfo(found.uri, meta["size"], (meta["e_tag"] or "").strip('"'))
    microseconds = round(meta["last_modified"].timestamp() * 1_000_000)
    return ObjectInfo(found.uri, meta["size"], f"{microseconds:x}-{meta['size']:x}")
