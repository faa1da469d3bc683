"""Who may ask, and how much: the secret, and the bound on bodies."""

import base64
import binascii
import hmac
from collections.abc import AsyncIterable

from pydantic import SecretStr

from pipeline.errors import ConfigError

SECRET_VARIABLE = "READLOOP_BACKEND_SECRET"  # noqa: S105 - the name of the variable
USER = "readloop"
SHORTEST_SECRET = 16


class TooLargeError(Exception):
    """A body is over its bound."""


def checked_secret(value: str) -> SecretStr:
    """Return the secret that Label Studio has to send.

    Raises:
        ConfigError: it is missing, or short enough to be guessed.
    """
    if len(value) < SHORTEST_SECRET:
        raise ConfigError(
            f"{SECRET_VARIABLE} must hold a secret of at least {SHORTEST_SECRET} characters, which "
            "Label Studio then sends with each request: openssl rand -hex 24 makes one"
        )
    return SecretStr(value)


def may_enter(header: str, secret: SecretStr) -> bool:
    """Return whether an ``Authorization`` header is basic auth with our user and secret."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return False
    try:
        given = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    wanted = f"{USER}:{secret.get_secret_value()}".encode()
    return hmac.compare_digest(given, wanted)


async def bounded_body(chunks: AsyncIterable[bytes], declared: str, most: int) -> bytes:
    """Return a body, of ``most`` bytes at most.

    Args:
        chunks: its parts as they arrive.
        declared: the ``Content-Length`` header, empty without one.
        most: the bound; nothing is read of a body that declares more.

    Raises:
        TooLargeError: it is larger.
    """
    if declared.isdigit() and int(declared) > most:
        raise TooLargeError
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise TooLargeError
        parts.append(chunk)
    return b"".join(parts)
