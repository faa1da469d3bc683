"""What is found out before Ray starts."""

import socket
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigError
from workers.serve.settings import ServeSettings
from workers.serve.start import serving


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        job = SimpleNamespace(settings=ServeSettings(port=port))
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} .* choose another serve"):
            serving(job, lambda _: None, SecretStr("")).__enter__()
