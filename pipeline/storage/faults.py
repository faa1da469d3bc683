"""The errors of obstore and deltalake, mapped once to :class:`StorageError`.

Both print the same Rust errors; what tells them apart (status, S3 error code) is in their text.
Only the code and the message of a server's answer are shown, never the whole of it. What a disk or
a server says against an object that is there can be mended, so it may pass.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError
from obstore.exceptions import BaseError

from pipeline.errors import MissingError, StorageError

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_NEXT_CAUSE = re.compile(r"\s*\n\s*↳\s*")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_CONNECTION = ("HTTP error", "error sending request", "error decoding response body")
_DISK_REFUSES = ("os error 13", "os error 1)", "os error 30")
_FORBIDDEN = (401, 403)
_THROTTLED = (429, 503)
_NOT_FOUND = 404
_SERVER_BROKE = 500


@contextmanager
def mapped_faults(uri: str, endpoint: str | None) -> Iterator[None]:
    """Turn errors of the storage libraries into ours; ``uri`` is what was asked for."""
    try:
        yield
    except (BaseError, DeltaError, OSError, ValueError) as error:
        raise explain(error, uri, endpoint) from error


def explain(error: Exception, uri: str, endpoint: str | None) -> StorageError:
    """Return our error for one of a storage library."""
    text = _NEXT_CAUSE.sub(": ", _COLOR.sub("", str(error)))
    status, code = _status(text), _first(_CODE, text)
    if code == "NoSuchBucket":
        return MissingError(f"{uri}: the bucket does not exist; check its name and the endpoint")
    if isinstance(error, FileNotFoundError) or (status == _NOT_FOUND and code in ("", "NoSuchKey")):
        return MissingError(f"{uri}: does not exist")
    if any(sign in text for sign in _DISK_REFUSES):
        return StorageError(
            f"{uri}: the disk refuses access; check its permissions", retryable=True
        )
    may_pass = _what_may_pass(text, status, code, endpoint)
    if may_pass:
        return StorageError(f"{uri}: {may_pass}", retryable=True)
    of_table = isinstance(error, DeltaError)  # such as a version that it does not keep
    return StorageError(f"{uri}: {_summary(text, status, code)}", retryable=not of_table)


def _what_may_pass(text: str, status: int | None, code: str, endpoint: str | None) -> str:
    if status in _FORBIDDEN or "Unauthenticated" in text or "PermissionDenied" in text:
        return _refused(text, code)
    if status in _THROTTLED:
        return (
            f"the store throttles requests ({status} {code}); run again later, or with "
            "fewer replicas"
        )
    if status is not None and status >= _SERVER_BROKE:
        return _summary(text, status, code)
    if status is None and any(sign in text for sign in _CONNECTION):
        return f"no connection to {endpoint or 'AWS'}; check that the endpoint is right and up"
    return ""


def _refused(text: str, code: str) -> str:
    said = ": ".join(part for part in (code, _first(_MESSAGE, text)) if part) or "access denied"
    return (
        f"the store refuses the credentials ({said}); check AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and what they are allowed to do"
    )


def _summary(text: str, status: int | None, code: str) -> str:
    if status is not None:
        return f"the store answered {status} {code} {_first(_MESSAGE, text)}".rstrip()
    return text.split("\n\nDebug source", maxsplit=1)[0]


def _status(text: str) -> int | None:
    found = _STATUS.search(text)
    return int(found.group(1)) if found else None


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1) if found else ""
