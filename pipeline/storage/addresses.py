"""Where things lie: directories, ``file://`` and ``s3://`` addresses as one type.

``file://`` addresses are percent-encoded, as browsers and RFC 8089 have it; ``s3://`` addresses
hold the key as it is, as AWS's own tools write them.
"""

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pipeline.errors import InputError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclass(frozen=True, slots=True)
class Address:
    """A place: ``bucket`` is empty on a disk; ``path`` has neither a first nor a last ``/``."""

    bucket: str
    path: str

    @property
    def uri(self) -> str:
        """The absolute address, ``file:///…`` or ``s3://…``."""
        if self.bucket:
            return f"s3://{self.bucket}/{self.path}" if self.path else f"s3://{self.bucket}"
        return "file:///" + quote(self.path)

    @property
    def parent(self) -> "Address":
        """The folder that it lies in; that of a bucket or of ``/`` is itself."""
        return Address(self.bucket, posixpath.dirname(self.path))

    @property
    def local(self) -> Path | None:
        """The path on this machine's disk, None for an object in a bucket."""
        return None if self.bucket else Path("/", self.path)

    def child(self, path: str) -> "Address":
        """Return the place at a relative path below this one.

        Raises:
            InputError: the path is absolute or leads outside.
        """
        normal = posixpath.normpath(path) if path else "."
        if normal.startswith(("/", "../")) or normal == "..":
            raise InputError(f"{path!r} leads outside {self.uri}: use a path below it")
        return self if normal == "." else Address(self.bucket, _join(self.path, normal))

    def below(self, folder: "Address") -> str | None:
        """Return the relative path from a folder to this place, None if it lies elsewhere."""
        start = f"{folder.path}/" if folder.path else ""
        inside = self.bucket == folder.bucket and self.path.startswith(start)
        return self.path[len(start) :] if inside else None


def locate(text: str, base: Address | None = None) -> Address:
    """Return the place that a setting or a manifest names.

    Args:
        text: a path, ``file:///…`` or ``s3://bucket/key``.
        base: the folder that a relative path starts from; the working directory by default.

    Raises:
        InputError: the address is empty, of another kind, or cannot be reached by name.
    """
    if not text or "\0" in text:
        raise InputError(f"{text!r} is not a path or an address")
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _relative(text, base)
    if scheme.group(1).lower() == "file":
        return _file(text)
    if scheme.group(1).lower() == "s3":
        return _s3(text)
    raise InputError(f"{text}: {scheme.group(1)}:// is not supported; use a path, file:// or s3://")


def _relative(text: str, base: Address | None) -> Address:
    if text.startswith("~"):
        text = posixpath.expanduser(text)
    if text.startswith("/"):
        return Address("", _normal(text, text))
    if base is None:
        base = Address("", str(Path.cwd())[1:])
    return Address(base.bucket, _normal(_join(base.path, text), text))


def _file(text: str) -> Address:
    rest = text[len("file://") :]
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise InputError(f"{text}: write file:///path, with three slashes and an absolute path")
    return Address("", _normal("/" + unquote(path), text))


def _s3(text: str) -> Address:
    bucket, _, key = text[len("s3://") :].partition("/")
    if not bucket:
        raise InputError(f"{text}: write s3://bucket/key")
    if any(part in ("", ".", "..") for part in key.rstrip("/").split("/")) and key.strip("/"):
        raise InputError(f"{text}: keys with empty, '.' or '..' parts are not supported")
    return Address(bucket, key.strip("/"))


def _normal(path: str, text: str) -> str:
    normal = posixpath.normpath(path)
    if normal == ".." or normal.startswith("../"):
        raise InputError(f"{text}: leads above the first folder")
    return "" if normal == "." else normal.lstrip("/")


def _join(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def endpoint_host(endpoint: str) -> str:
    """Return the host name of an endpoint."""
    return urlsplit(endpoint).hostname or ""
