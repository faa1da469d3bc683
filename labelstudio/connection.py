"""Requests to one Label Studio server: plain HTTP for bulk, the SDK for the rest.

The SDK takes a legacy token or a personal access token and renews access by itself. Bulk
requests open a connection each, which is faster than keep-alive on Label Studio's own server.
"""

import ipaddress
import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from labelstudio.errors import mapped_errors

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

_CALL_SECONDS = 60.0


class Connection:
    """One server, reached with one token."""

    def __init__(self, url: str, token: SecretStr) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._trust_proxies = not is_loopback(self.url)

    @cached_property
    def _sdk(self) -> "LabelStudio":
        # The SDK's generated modules take seconds to import.
        from label_studio_sdk import LabelStudio  # noqa: PLC0415

        return LabelStudio(  # type: ignore[no-untyped-call]
            base_url=self.url,
            api_key=self._token.get_secret_value(),
            httpx_client=self._http,
        )

    @cached_property
    def _http(self) -> httpx.Client:
        # One for all requests: each new client reads the system's certificates, 25 ms and more.
        fresh = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(timeout=_CALL_SECONDS, limits=fresh, trust_env=self._trust_proxies)

    def _calling(self, action: str) -> Any:  # noqa: ANN401 - a context manager
        return mapped_errors(self.url, action)

    def _send(
        self,
        method: str,
        path: str,
        *,
        signed: bool = True,
        headers: Mapping[str, str] | None = None,
        timeout: float = _CALL_SECONDS,
        **more: Any,  # noqa: ANN401 - httpx's own
    ) -> httpx.Response:
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        if signed:
            wrapper = self._sdk._client_wrapper
            all_headers["Authorization"] = wrapper.get_headers()["Authorization"]
        address = self.url + path
        return self._http.request(method, address, headers=all_headers, timeout=timeout, **more)

    def _send_json(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        self._send(method, path, content=json.dumps(body).encode()).raise_for_status()

    def _get(
        self, path: str, params: Mapping[str, Any] | None = None, body: bytes | None = None
    ) -> Any:  # noqa: ANN401
        answer = self._send("GET", path, params=params, content=body)
        answer.raise_for_status()
        return answer.json()


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
