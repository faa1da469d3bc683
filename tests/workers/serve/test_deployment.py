"""A replica whose device breaks says so to Ray Serve, which puts another one in its place."""

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.types import Message

from pipeline.records import CurrentModel
from pipeline.storage.settings import S3Settings
from tests.workers.serve.conftest import finished
from workers.models import plan_model
from workers.serve.deployment import Json, Server
from workers.serve.gate import USER
from workers.serve.job import ServeJob
from workers.serve.settings import ServeSettings
from workers.settings import LimitSettings, PoolSettings

SECRET = "s" * 16
FAULT = "CUDA error: an illegal memory access was encountered"


class Failing:
    """Meets one fault after the other when it is to answer."""

    def __init__(self, *faults: str) -> None:
        self._faults = iter(faults)

    def read(self, _: object) -> SimpleNamespace:
        """Take every body for a request about one task."""
        return SimpleNamespace(task=1)

    def answer(self, _: object) -> Json:
        """Fail to answer it."""
        fail(next(self._faults))

    def nothing(self) -> Json:
        """Answer nothing."""
        return {}


def fail(message: str) -> NoReturn:
    raise RuntimeError(message)


def asking(method: str, path: str) -> Request:
    """Return a request from somebody who knows the secret."""

    async def body() -> Message:
        return {"type": "http.request", "body": b"{}"}

    given = base64.b64encode(f"{USER}:{SECRET}".encode())
    headers = [(b"authorization", b"Basic " + given)]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    return Request(scope, body)


async def ill(server: Server) -> NoReturn:
    """Check a server's health until it is broken."""
    while True:
        server.check_health()
        await asyncio.sleep(0.01)


@pytest.fixture
def job(repository: Path, tmp_path: Path) -> ServeJob:
    """Serve the tiny model to nobody else."""
    tiny = str(repository / "configs" / "models" / "tiny")
    return ServeJob(
        store=str(tmp_path / "store"),
        s3=S3Settings(),
        limits=LimitSettings(),
        pool=PoolSettings(),
        settings=ServeSettings(follow_seconds=0.01),
        model=plan_model(tiny, S3Settings(), "float32"),
    )


def test_a_broken_device_fails_the_health_check_and_other_faults_do_not(job: ServeJob) -> None:
    async def serve() -> None:
        server = Server(job, lambda _: Failing("of one answer", FAULT), SecretStr(SECRET))
        with pytest.raises(RuntimeError, match="of one answer"):
            await server(asking("POST", "/predict"))
        server.check_health()
        for request in (asking("POST", "/predict"), asking("GET", "/health")):
            answer = await server(request)
            assert answer.status_code == 503
            assert FAULT in bytes(answer.body).decode()
        with pytest.raises(RuntimeError, match="CUDA error"):
            server.check_health()

    finished(serve())


def test_a_device_that_breaks_while_a_version_is_loaded_fails_it_too(
    job: ServeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.serve.swapping.checked_plan", lambda *_: fail(FAULT))
    current = [CurrentModel(1, job.model.version, job.model.source)]
    following = replace(job, look=lambda: current[-1])

    async def serve() -> None:
        server = Server(following, lambda _: Failing(), SecretStr(SECRET))
        server.check_health()
        current.append(CurrentModel(2, "newer", "somewhere"))
        with pytest.raises(RuntimeError, match="CUDA error"):
            await asyncio.wait_for(ill(server), 20)

    finished(serve())
