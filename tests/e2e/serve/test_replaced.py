"""Ray Serve puts another replica in the place of one whose device is broken."""

import secrets
import sys
import time
from pathlib import Path

import httpx

from tests.e2e.serve.conftest import free_port, running
from workers.serve.gate import SECRET_VARIABLE, USER

BREAKING = Path(__file__).with_name("breaking.py")
PATIENCE_SECONDS = 240


def test_another_process_answers_after_a_device_broke(repository: Path, tmp_path: Path) -> None:
    store, tiny = tmp_path / "store", repository / "configs" / "models" / "tiny"
    store.mkdir()
    port, secret = str(free_port()), secrets.token_hex(16)
    command = [sys.executable, BREAKING, store, tiny, port]

    def ask() -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{port}/predict",
            json={},
            auth=(USER, secret),
            timeout=PATIENCE_SECONDS,
        )

    with running(command, tmp_path / "stderr", **{SECRET_VARIABLE: secret}):
        failed = ask()
        assert (failed.status_code, "CUDA error" in failed.text) == (503, True)
        end = time.monotonic() + PATIENCE_SECONDS
        while (answer := ask()).status_code != 200:
            assert time.monotonic() < end, answer.text
            time.sleep(0.5)
    broken = int((store / "broken").read_text(encoding="utf-8"))
    assert answer.json()["pid"] != broken
