"""Receives Label Studio's webhooks, each of which means no more than: look now.

Label Studio calls its webhooks while an annotator waits, tries none again and signs nothing. So
this receiver answers at once, believes nothing that a call says, never reads a large body, and
demands a secret, which Label Studio sends as a fixed header. Whoever lacks it can do nothing,
whoever has it can cause a poll.
"""

import asyncio
import hmac
import re
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from pydantic import SecretStr

from pipeline.errors import ConfigError

SECRET_VARIABLE = "READLOOP_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable
SECRET_HEADER = "X-Readloop-Secret"  # noqa: S105 - the name of the header
SHORTEST_SECRET = 16
MOST_BYTES = 64_000

_FIT = re.compile(rf"[!-~]{{{SHORTEST_SECRET},200}}")
_CONNECTIONS = 64
_HEADER_BYTES = 16_384
_START_SECONDS = 10.0
_READ_SECONDS = 2.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Receiver:
    """A server in a thread of its own; a context manager.

    Args:
        host: address to listen on.
        port: port to listen on, 0 for a free one.
        secret: what callers have to know.
        hint: called whenever one did.

    Raises:
        ConfigError: the secret is too short, or the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, secret: SecretStr, hint: Callable[[], None]) -> None:
        if not _FIT.fullmatch(secret.get_secret_value()):
            raise ConfigError(
                f"set {SECRET_VARIABLE} to {SHORTEST_SECRET} to 200 letters, digits or signs, no "
                "blanks: without a secret anybody could make this receiver work"
            )
        self._where = f"{host}:{port}"
        self._secret = secret
        self._hint = hint
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._answer,
                host=host,
                port=port,
                interface="asgi3",
                loop="asyncio",
                http="h11",
                h11_max_incomplete_event_size=_HEADER_BYTES,
                ws="none",
                lifespan="off",
                proxy_headers=False,
                log_config=None,
                log_level="critical",
                access_log=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=2,
                timeout_graceful_shutdown=1,
                server_header=False,
            )
        )
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        end = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise ConfigError(f"cannot listen on {self._where}: choose another --listen")
            time.sleep(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_START_SECONDS)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # how uvicorn says that it cannot listen
            return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 404
        if scope["type"] == "http" and scope["path"] == "/":
            status = await self._status(scope, receive)
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body"})

    async def _status(self, scope: Scope, receive: Receive) -> int:
        if scope["method"] != "POST":
            return 405
        headers = dict(scope["headers"])
        if not self._knows_secret(headers.get(SECRET_HEADER.lower().encode(), b"")):
            return 401
        try:
            small = _is_small(headers.get(b"content-length", b""), receive)
            if not await asyncio.wait_for(small, _READ_SECONDS):
                return 413
        except TimeoutError:
            return 408
        self._hint()
        return 204

    def _knows_secret(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self._secret.get_secret_value().encode())


async def _is_small(length: bytes, receive: Receive) -> bool:
    """Read a body to its end, unless it is larger than :data:`MOST_BYTES`; it is thrown away."""
    if length.isdigit() and int(length) > MOST_BYTES:
        return False
    read = 0
    while True:
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            return False
        if not message.get("more_body", False):
            return True
