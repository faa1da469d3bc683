"""What ``readloop serve --use`` says when its request fails."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.config import RunFile
from pipeline.errors import ConfigError, InputError
from pipeline.serve import use_model
from workers.serve.gate import SECRET_VARIABLE


class Broken(BaseHTTPRequestHandler):
    """Fails as Ray Serve does when a replica raises."""

    def do_PUT(self) -> None:  # noqa: D102
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500)
        self.end_headers()
        self.wfile.write(b"Internal Server Error")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def broken() -> Iterator[int]:
    """Return the port of a server that fails."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def run(folder: Path, port: int) -> RunFile:
    return RunFile.model_validate(
        {
            "name": "used",
            "store": str(folder / "store"),
            "source": {"images": str(folder), "queries": [{"label": "a", "text": "a"}]},
            "model": str(folder),
            "serve": {"port": port},
        }
    )


def test_a_server_that_fails_is_told_from_one_that_is_not_there(
    broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "s" * 16)
    with pytest.raises(InputError, match=f":{broken} answers with status 500.*Internal Server"):
        use_model(run(tmp_path, broken), str(tmp_path))
    with pytest.raises(ConfigError, match=r"no backend answers at .*:1: "):
        use_model(run(tmp_path, 1), str(tmp_path))
